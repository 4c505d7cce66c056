"""Results on disk: whole or not at all, named by what they stand for, and checked whenever they are read."""

from __future__ import annotations

import copy
import json
import os
from pathlib import Path
from typing import Any

import pytest

from assay import registry
from assay.benchmark.cell import Cell
from assay.benchmark.migrations import SCHEMA_VERSION
from assay.benchmark.protocol import make_metas
from assay.benchmark.records import Records
from assay.benchmark.store import Store, slug
from assay.benchmark.tables import TABLES
from assay.benchmark.whole_folder import Damaged, temporary_path, verify
from assay.digests import digest
from assay.errors import AssayError
from tests.leaderboard.synthetic import protocol

FILES = [*(f"{name}.parquet" for name in TABLES), "cell.json", "config.json", "environment.json", "checksums.json"]


def meta(**changes: Any) -> dict[str, Any]:
    about = protocol(**changes)
    identity = {"name": "lime", "settings": {"samples": 10}}
    return {"schema": SCHEMA_VERSION, "key": digest([about, identity]), "protocol": about, "explainer": identity}


def records(first: int = 0, last: int = 4, value: float = 0.5) -> Records:
    names = [f"example {number}" for number in range(first, last)]
    cost = dict.fromkeys(("forward_rows", "forward_tokens", "backward_rows", "backward_tokens", "seconds"), 1.0)
    about = {"label": 1, "predicted": 1, "target": 0, "features": ["a", "b"], "segments": [0, 0], "positions": [0, 1]}
    found: dict[str, Any] = {
        "draw": 0,
        "metric": None,
        "perturbation": None,
        "scores": [1.0, value],
        "signed": True,
        "reason": None,
    }
    found["report"] = '{"completeness_error": 0.01}'
    return Records(
        examples=[
            {
                "example": name,
                **about,
                "rationale": None,
                "highlights": None,
                "logits": [0.5, 1.5],
                "truncated": 0,
                **cost,
            }
            for name in names
        ],
        attributions=[{"example": name, **found} for name in names],
        scores=[
            {
                "example": name,
                "perturbation": "mask",
                "metric": "deletion",
                "value": value,
                "reason": None,
                "draws": None,
            }
            for name in names
        ],
        curves=[
            {"example": name, "perturbation": "mask", "metric": "deletion", "x": [0.0, 1.0], "y": [value, 0.1]}
            for name in names
        ],
        answers=[
            {"example": name, "perturbation": "mask", "n": 2, "keep": b"\xc0", "logits": [0.5, 1.5]} for name in names
        ],
    )


@pytest.fixture
def store(tmp_path: Path) -> Store:
    found = Store(tmp_path / "results")
    found.prepare()
    return found


def left_over(store: Store) -> list[str]:
    return [path.name for path in (store.root / ".partial").iterdir()]


def test_what_is_written_is_read_back(store: Store) -> None:
    written = store.write(meta(), {"seed": 0}, {"python": "3"}, records())
    found = store.find(meta())
    assert found is not None
    assert found.path == written.path
    assert sorted(path.name for path in found.path.iterdir()) == sorted(FILES)
    for name in TABLES:
        rows = getattr(records(), name)
        read = found.table(name)
        assert next(iter(read.columns)) == "example"
        assert len(read) == len(rows)
        for column in read.columns:
            for one, two in zip(read[column], (row[column] for row in rows), strict=True):
                assert (list(one) if hasattr(one, "tolist") and getattr(one, "ndim", 0) else one) == two or two is None
    assert found.meta["counts"] == {"examples": 4, "truncated_examples": 0, "truncated_tokens": 0, "undefined": {}}
    assert found.meta["cost"]["forward_rows"] == 1.0
    assert [cell.path for cell in store.cells()] == [found.path]
    assert left_over(store) == []


def test_a_key_is_the_digest_of_protocol_and_explainer() -> None:
    about = protocol()
    metrics = {"deletion": registry.build("metric", "deletion")}
    contents = {name: registry.settings("explainer", name) for name in ("lime", "random")}
    built = {name: registry.build("explainer", name) for name in contents}
    metas = make_metas(about, contents, built, metrics)
    assert list(metas) == ["lime", "random"]
    for name, one in metas.items():
        identity = {"name": name, "settings": {key: one for key, one in contents[name].items() if key != "tolerance"}}
        assert one["key"] == digest({"protocol": about, "explainer": identity})
        assert one["protocol_key"] == digest(about)
        assert one["explainer"]["settings"] == identity["settings"]
        assert set(one["measures"]) == {measure.name for measure in metrics["deletion"].measures}


def test_a_cell_is_the_sum_of_its_shards_in_order(store: Store) -> None:
    for first, last in ((2, 4), (0, 2)):
        store.write_shard(meta(), first, last, records(first, last))
    assert store.has_part(store.shard_path(meta(), 0, 2))
    assert not store.has_part(store.shard_path(meta(), 0, 4))
    assert store.find(meta()) is None
    cell = store.finish(meta(), {}, {}, [(0, 2), (2, 4)])
    assert cell.table("examples")["example"].tolist() == [f"example {i}" for i in range(4)]
    assert not store.has_part(store.shard_path(meta(), 0, 2))


def leaves(content: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(content, dict):
        return [found for key, value in content.items() for found in leaves(value, (*path, key))]
    return [path]


def test_the_key_changes_with_every_field_of_the_protocol() -> None:
    original = protocol()
    keys = {digest(original)}
    paths = leaves(original)
    for path in paths:
        changed = copy.deepcopy(original)
        place = changed
        for step in path[:-1]:
            place = place[step]
        place[path[-1]] = "something else"
        keys.add(digest(changed))
    assert len(keys) == 1 + len(paths) > 20
    assert digest({"b": 1, "a": [2]}) == digest({"a": (2,), "b": 1})


def test_what_was_interrupted_while_it_was_written_is_never_read(store: Store) -> None:
    store.write(meta(), {}, {}, records(value=0.25))

    def interrupted() -> None:
        with store._whole(store.cell_path(meta()), True) as temporary:
            (temporary / "cell.json").write_text("{")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    cell = store.find(meta())
    assert cell is not None
    assert cell.scores["value"].tolist() == [0.25] * 4
    # Killed with no chance to clean up: what is half-written lies apart, and the next run clears it away.
    dead = (
        store.root / ".partial" / temporary_path(store.root / ".partial").name.replace(f"-{os.getpid()}-", "-99999999-")
    )
    dead.mkdir()
    (dead / "cell.json").write_text("{")
    assert len(store.cells()) == 1
    Store(store.root).prepare()
    assert not dead.exists()


def test_the_running_work_of_another_process_is_not_cleared_away(store: Store) -> None:
    alive = temporary_path(store.root / ".partial")
    alive.mkdir()
    Store(store.root).prepare()
    assert alive.exists()


@pytest.mark.parametrize("file", FILES)
@pytest.mark.parametrize("harm", ["a bit flipped", "cut short", "removed"])
def test_damage_to_any_file_is_found_and_set_aside(store: Store, file: str, harm: str) -> None:
    cell = store.write(meta(), {"seed": 0}, {"python": "3"}, records())
    path = cell.path / file
    content = bytearray(path.read_bytes())
    if harm == "a bit flipped":
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    elif harm == "cut short":
        path.write_bytes(content[: len(content) // 2])
    else:
        path.unlink()
    with pytest.raises(Damaged, match=str(cell.path)):
        store.find(meta())
    aside = store.set_aside(cell.path)
    assert Path(aside).parent == store.root / ".damaged"
    assert store.find(meta()) is None
    assert store.cells() == []
    assert store.find(store.write(meta(), {}, {}, records()).meta) is not None


def test_an_empty_list_of_checksums_is_damage(store: Store) -> None:
    cell = store.write(meta(), {}, {}, records())
    (cell.path / "checksums.json").write_text("{}")
    with pytest.raises(Damaged):
        verify(cell.path)


def test_a_damaged_shard_is_found(store: Store) -> None:
    store.write_shard(meta(), 0, 4, records())
    path = store.shard_path(meta(), 0, 4) / "scores.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(Damaged, match=r"scores\.parquet"):
        store.has_part(store.shard_path(meta(), 0, 4))


def test_two_writers_of_one_cell_leave_one_whole_cell(store: Store) -> None:
    other = Store(store.root)
    with store._whole(store.cell_path(meta()), True) as mine:
        (mine / "cell.json").write_text(json.dumps({"schema": SCHEMA_VERSION, "who": "mine"}))
        with other._whole(other.cell_path(meta()), True) as theirs:
            (theirs / "cell.json").write_text(json.dumps({"schema": SCHEMA_VERSION, "who": "theirs"}))
    verify(store.cell_path(meta()))
    assert Cell.read(store.cell_path(meta())).meta == {"schema": SCHEMA_VERSION, "who": "mine"}
    assert left_over(store) == []


def test_the_second_to_finish_takes_the_cell_of_the_first(store: Store) -> None:
    for writer in (store, Store(store.root)):
        writer.write_shard(meta(), 0, 4, records())
    first = store.finish(meta(), {}, {}, [(0, 4)])
    second = Store(store.root).finish(meta(), {}, {}, [(0, 4)])
    assert first.path == second.path
    assert second.meta["counts"]["examples"] == 4


def test_shards_that_are_gone_for_no_reason_are_not_passed_over(store: Store) -> None:
    with pytest.raises(FileNotFoundError):
        store.finish(meta(), {}, {}, [(0, 4)])


@pytest.mark.parametrize("where", ["the folder", "a folder above"])
def test_a_results_folder_that_cannot_be_written_is_refused(tmp_path: Path, where: str) -> None:
    (tmp_path / "taken").write_text("a file")
    root = tmp_path / "taken" if where == "the folder" else tmp_path / "taken" / "results"
    with pytest.raises(AssayError, match="cannot be written"):
        Store(root).prepare()


def test_a_cell_of_another_schema_or_without_meaning_is_named(store: Store) -> None:
    with pytest.raises(AssayError, match="no results folder"):
        Store(store.root / "nowhere").cells()
    cell = store.write(meta(), {}, {}, records())
    (cell.path / "cell.json").write_text(json.dumps({**cell.meta, "schema": 99}))
    with pytest.raises(AssayError, match="schema 99"):
        store.cells()
    (cell.path / "cell.json").write_text("{")
    with pytest.raises(AssayError, match=r"cell\.json is damaged"):
        store.cells()


def test_work_in_progress_is_no_cell(store: Store) -> None:
    cell = store.write(meta(), {}, {}, records())
    for folder in (".partial/key/000000-000004", ".damaged/task/cell"):
        (store.root / folder).mkdir(parents=True)
        (store.root / folder / "cell.json").write_text("{")
    assert [found.path for found in store.cells()] == [cell.path]


@pytest.mark.parametrize("name", ["../../etc", "..", "a/b", "", ".hidden", "a b\n", "日本"])
def test_no_name_leads_out_of_the_results_folder(name: str) -> None:
    found = slug(name)
    assert found
    assert not set(found) & set("/\\\n ")
    assert not found.startswith(".")
