"""Cells share what the model has answered: fewer rows, the same numbers, no answer taken from a damaged file."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay import registry
from assay.benchmark import shared_answers
from assay.benchmark.cell import Cell
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.shared_answers import SharedAnswers
from assay.benchmark.store import Store
from assay.benchmark.whole_folder import temporary_path
from assay.classifier import Classifier
from assay.example import Example
from assay.perturbation import Mask
from assay.rows import Row, Stack
from tests.benchmark.cli import assay, save_model, save_task
from tests.tiny_models import CORPUS, tiny_classifier

EXAMPLES = [Example(str(number), (text,)) for number, text in enumerate(CORPUS[:4])]


def evaluated(model: Classifier, shared: SharedAnswers | None, metric: str = "deletion") -> tuple[Evaluation, Any]:
    metrics = {metric: registry.build("metric", metric)}
    evaluation = Evaluation(model, EXAMPLES, metrics, {"mask": Mask()}, Settings(), shared=shared)
    evaluation.add_explainer("leave_one_out", registry.build("explainer", "leave_one_out"))
    (records,) = evaluation.run().values()
    evaluation.share()
    return evaluation, records


def files(root: Path) -> list[Path]:
    return sorted((root / ".answers").glob("*/*/*.answers"))


def values(records: Any) -> list[float]:
    return [row["value"] for row in records.scores]


def test_what_one_engine_has_asked_the_next_one_knows(tmp_path: Path) -> None:
    model = tiny_classifier()
    first, one = evaluated(model, SharedAnswers(tmp_path, model))
    second, two = evaluated(model, SharedAnswers(tmp_path, model))
    asked = first.engine.work.rows_answered
    assert asked > 0
    assert first.engine.work.rows_known == 0
    assert (second.engine.work.rows_answered, second.engine.work.rows_known) == (0, asked)
    assert values(two) == values(one)
    assert len(files(tmp_path)) == 1


def test_a_method_costs_what_it_would_have_cost_alone(tmp_path: Path) -> None:
    model = tiny_classifier()
    evaluated(model, shared := SharedAnswers(tmp_path, model))
    (path,) = files(tmp_path)
    records = shared._read(path, len(EXAMPLES))
    assert records is not None
    assert records["seconds"].min() > 0
    _, alone = evaluated(model, None)
    _, after = evaluated(model, shared)
    for name in ("forward_rows", "forward_tokens"):
        assert [row[name] for row in after.examples] == [row[name] for row in alone.examples]
    # Each example's explainer asked its whole text and each word hidden; their recorded seconds are charged again.
    for index, row in enumerate(after.examples):
        of_example = np.sort(records["seconds"][records["example"] == index])
        assert row["seconds"] > of_example[: int(row["forward_rows"])].sum() * 0.999


def test_another_metric_asks_only_for_what_is_new_and_gives_the_same_numbers(tmp_path: Path) -> None:
    model = tiny_classifier()
    evaluated(model, shared := SharedAnswers(tmp_path, model))
    apart, expected = evaluated(model, None, "tau_loo")
    together, found = evaluated(model, shared, "tau_loo")
    np.testing.assert_allclose(values(found), values(expected), atol=1e-5)
    work = together.engine.work
    assert work.rows_known > 0
    assert work.rows_answered + work.rows_known == apart.engine.work.rows_answered


@pytest.mark.parametrize("damage", ["truncated", "flipped", "empty", "link", "longer", "other classes"])
def test_a_file_that_is_not_what_was_written_is_passed_over(tmp_path: Path, damage: str) -> None:
    model = tiny_classifier()
    _, expected = evaluated(model, shared := SharedAnswers(tmp_path, model))
    (path,) = files(tmp_path)
    content = path.read_bytes()
    if damage == "link":
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
    elif damage == "other classes":
        records = content[len(shared_answers._MAGIC) + 32 + 4 :]
        body = (3).to_bytes(4, "little") + records
        path.write_bytes(shared_answers._MAGIC + shared_answers.hashlib.sha256(body).digest() + body)
    else:
        middle = len(content) // 2
        changed = {
            "truncated": content[:middle],
            "flipped": content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :],
            "empty": b"",
            "longer": content + b"\0",
        }[damage]
        path.write_bytes(changed)
    again, found = evaluated(model, shared)
    assert again.engine.work.rows_known == 0
    assert values(found) == values(expected)


def test_other_weights_versions_or_examples_share_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_classifier()
    evaluated(model, SharedAnswers(tmp_path, model))
    other = tiny_classifier(seed=1)
    assert evaluated(other, SharedAnswers(tmp_path, other))[0].engine.work.rows_known == 0
    changed = [replace(EXAMPLES[0], text=("quite another text",)), *EXAMPLES[1:]]
    shared = SharedAnswers(tmp_path, model)
    assert len(shared.recall([model.encode(one) for one in EXAMPLES], "probability")) > 0
    assert len(shared.recall([model.encode(one) for one in changed], "probability")) == 0
    monkeypatch.setattr(torch, "__version__", "0.0")
    assert evaluated(model, SharedAnswers(tmp_path, model))[0].engine.work.rows_known == 0


def test_whoever_comes_second_has_the_secret_of_whoever_came_first(tmp_path: Path) -> None:
    model = tiny_classifier()
    one, two = SharedAnswers(tmp_path, model), SharedAnswers(tmp_path, model)
    assert one.entropy == two.entropy == SharedAnswers(tmp_path, model).entropy
    assert [path.name for path in (tmp_path / ".answers").iterdir()] == ["secret"]
    (tmp_path / ".answers" / "secret").write_bytes(b"short")
    evaluated(model, SharedAnswers(tmp_path, model))


def test_a_file_system_without_links_has_a_secret_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def link(*_: Any) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", link)
    model = tiny_classifier()
    one, two = SharedAnswers(tmp_path, model), SharedAnswers(tmp_path, model)
    assert one.entropy == two.entropy
    assert [path.name for path in (tmp_path / ".answers").iterdir()] == ["secret"]


def test_what_a_killed_process_left_among_the_answers_is_cleared_away(tmp_path: Path) -> None:
    model = tiny_classifier()
    evaluated(model, SharedAnswers(tmp_path, model))
    name = temporary_path(tmp_path / ".answers").name.replace(f"-{os.getpid()}-", "-99999999-")
    (tmp_path / ".answers" / name).mkdir()
    (tmp_path / ".answers" / name / "answers").write_bytes(bytes(8))
    evaluated(model, SharedAnswers(tmp_path, model))
    assert not list(tmp_path.rglob("temporary-*"))


def test_digests_are_sums_of_numbers_times_random_odd_numbers() -> None:
    ids = np.array([5, 7, 11])
    (key,) = Stack.of([Row(ids)]).keys(3)
    factors = np.random.default_rng([3, 0, 3]).integers(2**64, size=(3, 2), dtype=np.uint64) | np.uint64(1)
    sums = [sum(int(one) * int(factor) for one, factor in zip(ids, column, strict=True)) for column in factors.T]
    assert key == b"".join((one % 2**64).to_bytes(8, "little") for one in sums)
    assert Stack.of([Row(ids)]).keys(4) != [key]


def test_the_oldest_answers_go_where_there_are_too_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = tiny_classifier()
    evaluated(model, shared := SharedAnswers(tmp_path, model))
    (first,) = files(tmp_path)
    size = first.stat().st_size
    monkeypatch.setattr(shared_answers, "MOST_BYTES", int(size * 1.5))
    evaluated(model, SharedAnswers(tmp_path, model, reads=False))
    (second,) = files(tmp_path)
    assert second != first
    assert not list(tmp_path.rglob("temporary-*"))
    assert len(shared.recall([model.encode(one) for one in EXAMPLES], "probability")) > 0


def test_a_folder_that_cannot_be_written_ends_no_run(tmp_path: Path) -> None:
    model = tiny_classifier()
    (tmp_path / ".answers").write_text("not a folder", "utf-8")
    _, found = evaluated(model, SharedAnswers(tmp_path, model))
    assert values(found) == values(evaluated(model, None)[1])


def cells(results: Path) -> dict[str, Cell]:
    return {cell.meta["explainer"]["name"]: cell for cell in Store(results).cells()}


def test_cells_of_a_sweep_share_and_overwrite_always_asks_anew(tmp_path: Path) -> None:
    model, task = save_model(tmp_path / "model"), save_task(tmp_path)

    def run(results: str, explainer: str, *more: str) -> Cell:
        ended = assay(
            "run",
            f"model.path={model}",
            f"task.path={task}",
            "task.size=6",
            "metric=[comprehensiveness,tau_loo]",
            "tracker=none",
            "allow_low_accuracy=true",
            f"results={tmp_path / results}",
            f"explainer={explainer}",
            *more,
        )
        assert ended.code == 0, ended.err
        return cells(tmp_path / results)[explainer]

    run("shared", "leave_one_out")
    found = run("shared", "first")
    assert found.meta["work"]["rows_known"] > 0
    expected = run("apart", "first", "share_answers=false")
    assert not (tmp_path / "apart" / ".answers").exists()
    assert expected.meta["work"]["rows_known"] == 0
    np.testing.assert_allclose(found.scores["value"], expected.scores["value"], atol=1e-5)
    assert found.meta["cost"]["forward_rows"] == expected.meta["cost"]["forward_rows"]
    assert run("shared", "first", "overwrite=always").meta["work"]["rows_known"] == 0
    low = run("low", "first", "model.dtype=bfloat16")
    assert not (tmp_path / "low" / ".answers").exists()
    assert low.meta["work"]["rows_known"] == 0
