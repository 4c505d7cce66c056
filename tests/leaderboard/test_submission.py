"""`assay leaderboard submit`, and a reader of strangers' files that caps what it reads before it reads it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay.benchmark.store import Store
from assay.benchmark.tables import table_schema
from assay.benchmark.whole_folder import verify
from assay.errors import AssayError
from assay.leaderboard import untrusted
from assay.leaderboard.build import build
from assay.leaderboard.checking import check_submission
from assay.leaderboard.repository import published_methods
from assay.leaderboard.submission import PARTS
from assay.leaderboard.untrusted import MOST_JSON_BYTES, Refused, parse_json, plain_files, read_json, read_table
from tests.benchmark.cli import assay
from tests.leaderboard.submitting import LINK, METHOD, cell_of, copied, cover, make_place, run, submit


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_place(tmp_path_factory.mktemp("submission"))


@pytest.fixture
def submission(place: Path, tmp_path: Path) -> Path:
    return copied(place, tmp_path)


def faults(folder: Path) -> list[str]:
    return check_submission(folder, model=False).faults


# Making one


def test_a_submission_is_a_results_folder_with_a_name_to_it(place: Path, tmp_path: Path) -> None:
    folder = place / "submission"
    about = json.loads((folder / "submission.json").read_text("utf-8"))
    assert about["method"]["link"] == LINK
    assert about["explainer"] == "rise"
    assert {cell.explainer for cell in Store(folder).checked_cells()} == {"rise", "random", "oracle"}
    stored = next(cell for cell in Store(place / "results").cells() if cell.explainer == "rise")
    for name in PARTS:
        same = (cell_of(folder) / name).read_bytes() == (stored.path / name).read_bytes()
        assert same == (name not in ("config.json", "checksums.json")), name
    build(folder, tmp_path / "site")
    (cell,) = published_methods(folder)
    assert (published_methods(folder)[cell].name, folder / cell) == ("My method", cell_of(folder))


def test_nothing_tells_where_task_and_model_lay(place: Path) -> None:
    config = json.loads((cell_of(place / "submission") / "config.json").read_text("utf-8"))
    assert sorted(config) == ["model", "task"]
    assert config["task"]["path"] is None
    assert config["model"]["path"] is None
    assert str(place) not in json.dumps(config)


def test_several_protocols_are_submitted_each_under_its_own(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "results", tmp_path / "results")
    assert run(place, tmp_path / "results", "task.size=4").code == 0
    ended = submit(tmp_path / "results", tmp_path / "both")
    assert ended.code == 0, ended.err
    assert "(2 cells)" in ended.out
    assert len(Store(tmp_path / "both").cells()) == 6
    assert faults(tmp_path / "both") == []


def test_two_settings_of_one_name_are_told_apart_by_key(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "results", tmp_path / "results")
    assert run(place, tmp_path / "results", "explainers.rise.samples=8").code == 0
    ended = submit(tmp_path / "results", tmp_path / "out")
    assert ended.code == 2
    assert "rise has 2 cells with different settings under protocol" in ended.err
    keys = [cell.key for cell in Store(tmp_path / "results").cells() if cell.explainer == "rise"]
    assert all(f"--key {key}" in ended.err for key in keys)
    assert not (tmp_path / "out").exists()
    assert submit(tmp_path / "results", tmp_path / "out", "rise", "--key", keys[0]).code == 0
    assert cell_of(tmp_path / "out").name.endswith(keys[0])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"--explainer": "rice"}, "Unknown explainer 'rice'. Did you mean 'rise'"),
        ({"--explainer": "oracle"}, "oracle is a control"),
        ({"--key": "0" * 16}, "Unknown key of a cell of rise"),
        ({"--link": "javascript:alert(1)"}, "--link 'javascript:alert(1)': a link begins with http:// or https://"),
        ({"--link": "https://"}, "a link begins with"),
        ({"--link": "https://user:word@example.org"}, "a link begins with"),
        ({"--link": 'https://example.org/"><script>'}, "a link begins with"),
        ({"--name": "<b>mine</b>"}, "it holds < or >"),
        ({"--name": "mine\u202e"}, "characters that steer a terminal or turn the reading direction"),
        ({"--name": "two\nlines"}, "it holds line breaks"),
        ({"--name": ""}, "--name"),
        ({"--name": "x" * 81}, "--name"),
        ({"--citation": "nowhere.bib"}, "--citation 'nowhere.bib' cannot be read"),
        ({"--citation": "a\x1b[31m"}, "--citation"),
    ],
)
def test_what_cannot_be_submitted_is_said_in_a_line(
    place: Path, tmp_path: Path, arguments: dict[str, str], message: str
) -> None:
    given = dict(zip(METHOD[::2], METHOD[1::2], strict=True)) | {"--explainer": "rise", "--out": str(tmp_path / "out")}
    options = [text for pair in (given | arguments).items() for text in pair]
    ended = assay("leaderboard", "submit", str(place / "results"), *options)
    assert ended.code == 2
    assert message in ended.err
    assert list(tmp_path.iterdir()) == []


def test_no_results_an_older_schema_and_a_folder_that_is_taken(place: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert "no finished cells" in submit(tmp_path / "empty", tmp_path / "out").err
    older = Path(__file__).parents[1] / "fixtures" / "schema_1"
    ended = submit(older, tmp_path / "out", "gradient_x_input")
    assert (ended.code, "was stored in schema 1. Run it again with this version: assay run" in ended.err) == (2, True)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "mine").touch()
    ended = submit(place / "results", tmp_path / "taken")
    assert (ended.code, "is there already" in ended.err) == (2, True)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["empty", "taken"]


def test_without_its_controls_a_method_has_no_skill(place: Path, tmp_path: Path) -> None:
    shutil.copytree(place / "results", tmp_path / "results")
    shutil.rmtree(cell_of(tmp_path / "results", "oracle"))
    ended = submit(tmp_path / "results", tmp_path / "out")
    assert (ended.code, "The control 'oracle' is missing" in ended.err) == (2, True)


def test_a_citation_comes_from_a_file(place: Path, tmp_path: Path) -> None:
    (tmp_path / "paper.bib").write_text("@misc{mine,\n  title = {Mine}\n}\n", "utf-8")
    options = [*METHOD[:4], "--citation", str(tmp_path / "paper.bib"), "--explainer", "rise"]
    assert assay("leaderboard", "submit", str(place / "results"), *options, "--out", str(tmp_path / "out")).code == 0
    about = json.loads((tmp_path / "out" / "submission.json").read_text("utf-8"))
    assert about["method"]["citation"].startswith("@misc{mine,\n")


# Reading one


def link_a_file(folder: Path) -> None:
    target = cell_of(folder) / "scores.parquet"
    target.rename(folder.parent / "elsewhere.parquet")
    target.symlink_to(folder.parent / "elsewhere.parquet")


def link_a_folder(folder: Path) -> None:
    (folder / "more").symlink_to(folder.parent)


def pipe(folder: Path) -> None:
    (cell_of(folder) / "scores.parquet").unlink()
    os.mkfifo(cell_of(folder) / "scores.parquet")


def rename_out(folder: Path) -> None:
    """A task's name that leads out of the folder."""
    path = cell_of(folder) / "cell.json"
    meta = json.loads(path.read_text("utf-8"))
    meta["protocol"]["task"]["name"] = "../../../etc"
    path.write_text(json.dumps(meta), "utf-8")
    cover(folder)


def list_outside(folder: Path) -> None:
    about = json.loads((folder / "submission.json").read_text("utf-8"))
    about["cells"][0]["path"] = "../submission/sst2"
    (folder / "submission.json").write_text(json.dumps(about), "utf-8")


def edit(path: str, change: Callable[[Any], None]) -> Callable[[Path], None]:
    def edited(folder: Path) -> None:
        place = folder / path
        content = json.loads(place.read_text("utf-8"))
        change(content)
        place.write_text(json.dumps(content), "utf-8")

    return edited


HOSTILE: dict[str, tuple[Callable[[Path], object], str]] = {
    "a link to a file": (link_a_file, "scores.parquet is a symbolic link"),
    "a link to a folder": (link_a_folder, "more is a symbolic link"),
    "a pipe": (pipe, "scores.parquet is neither a file nor a folder"),
    "a path that leads out": (rename_out, "is not where this cell belongs"),
    "a listing that leads out": (list_outside, "lists ../submission/sst2, which is not there"),
    "code": (lambda folder: (cell_of(folder) / "setup.py").write_text("1"), "setup.py does not belong here"),
    "a pickle": (lambda folder: (folder / "scores.pkl").write_bytes(b"\x80\x04."), "scores.pkl does not belong here"),
    "a file less": (lambda folder: (cell_of(folder) / "curves.parquet").unlink(), "lacks curves.parquet"),
    "no submission.json": (lambda folder: (folder / "submission.json").unlink(), "it has no submission.json"),
    "no JSON": (lambda folder: (folder / "submission.json").write_text("{"), "submission.json: Expecting property"),
    "no text": (lambda folder: (folder / "submission.json").write_bytes(b"\xff\xfe{}"), "can't decode byte 0xff"),
    "deep JSON": (lambda folder: (folder / "submission.json").write_text("[" * 10**6), "nested more than 40 levels"),
    "large JSON": (
        lambda folder: (folder / "submission.json").write_text(" " * (MOST_JSON_BYTES + 1)),
        "at most 4,194,304 are read",
    ),
    "an unknown key": (edit("submission.json", lambda about: about.update(run="rm -rf")), "run: an unknown key"),
    "a link that runs": (
        edit("submission.json", lambda about: about["method"].update(link="javascript:alert(1)")),
        "method.link: Value error, a link begins with",
    ),
    "a name that turns around": (
        edit("submission.json", lambda about: about["method"].update(name="a\u202eb")),
        "method.name: Value error, it holds line breaks, or characters that steer",
    ),
    "a name with markup": (
        edit("submission.json", lambda about: about["method"].update(name="<script>")),
        "method.name: Value error, it holds < or >",
    ),
    "a name of 10 MB": (
        edit("submission.json", lambda about: about["method"].update(name="x" * 3_000_000)),
        "method.name: String should have at most 80 characters",
    ),
    "a number as text": (edit("submission.json", lambda about: about.update(form="1")), "form: Input should be 1"),
    "no Parquet": (
        lambda folder: (cell_of(folder) / "scores.parquet").write_bytes(b"PAR1 nothing PAR1"),
        "scores.parquet is no Parquet file that can be read",
    ),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_submissions_are_refused(submission: Path, what: str) -> None:
    change, message = HOSTILE[what]
    change(submission)
    found = faults(submission)
    assert len(found) == 1
    assert message in found[0]
    assert found[0].isprintable()


def test_a_submission_that_is_a_link_is_refused(submission: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(submission)
    assert faults(tmp_path / "link") == [f"{tmp_path / 'link'} is a symbolic link"]


def test_a_key_that_stands_twice_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"key": 1, "key": 2}')
    with pytest.raises(Refused, match="it names 'key' twice"):
        read_json(tmp_path / "a.json")
    # Brackets inside of texts are no levels.
    assert parse_json(json.dumps(["[" * 100, '"[', "\\"])) == ["[" * 100, '"[', "\\"]


def test_folders_without_end_are_refused(tmp_path: Path) -> None:
    (tmp_path / "/".join("abcdefgh")).mkdir(parents=True)
    with pytest.raises(Refused, match="lies too deep"):
        plain_files(tmp_path)


# Tables


def scores_table(**columns: Any) -> pa.Table:
    """A table of two scores, some of its columns replaced."""
    schema = table_schema("scores")
    rows = {
        "example": ["a", "b"],
        "perturbation": ["mask"] * 2,
        "metric": ["deletion"] * 2,
        "value": [0.5, float("nan")],
        "reason": [None, "nothing to hide"],
        "draws": [None, None],
    }
    fields = [(name, columns.get(name, pa.array(rows[name], schema.field(name).type))) for name in schema.names]
    return pa.table(dict(fields))


def test_a_table_is_read_as_it_was_written(tmp_path: Path) -> None:
    pq.write_table(scores_table(), tmp_path / "scores.parquet")
    rows = read_table(tmp_path / "scores.parquet", "scores").to_pylist()
    assert str(rows) == str(pq.read_table(tmp_path / "scores.parquet").to_pylist())


class _Anything(pa.ExtensionType):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__(pa.string(), "assay.anything")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage_type: pa.DataType, serialized: bytes) -> _Anything:
        return cls()


@pytest.mark.parametrize(
    ("table", "message"),
    [
        (scores_table(value=pa.array(["1", "2"])), "'value' is of type string, not double"),
        (scores_table(example=pa.array([b"a", b"b"])), "'example' is of type binary, not string"),
        (scores_table(draws=pa.array([[["x"]], None])), "'draws' is of type list"),
        (scores_table(example=pa.array([None, "b"], pa.string())), "a value of 'example' is missing"),
        (scores_table(draws=pa.array([[None], None], pa.list_(pa.float64()))), "a value in 'draws' is missing"),
        (scores_table().drop_columns(["draws"]), "they must be example, perturbation"),
        (scores_table().append_column("code", pa.array(["x", "y"])), "has the columns"),
        (scores_table(example=pa.array(["x" * 10_000_000, "b"])), "'example' holds a text of 10,000,000 bytes"),
    ],
)
def test_tables_of_another_form_are_refused(tmp_path: Path, table: pa.Table, message: str) -> None:
    pq.write_table(table, tmp_path / "scores.parquet")
    with pytest.raises(Refused, match=message):
        read_table(tmp_path / "scores.parquet", "scores")


def test_a_type_of_ones_own_is_refused(tmp_path: Path) -> None:
    own = pa.ExtensionArray.from_storage(_Anything(), pa.array(["a", "b"]))
    pa.register_extension_type(_Anything())
    try:
        pq.write_table(scores_table(example=own), tmp_path / "scores.parquet")
        with pytest.raises(Refused, match="'example' is of type"):
            read_table(tmp_path / "scores.parquet", "scores")
    finally:
        pa.unregister_extension_type("assay.anything")


def test_a_bomb_of_one_word_costs_no_memory(tmp_path: Path) -> None:
    """A word of 5 MB in each of two thousand rows: a file of a few hundred bytes that unpacks to 10 GB."""
    rows = 2000
    word = pa.DictionaryArray.from_arrays(pa.array([0] * rows, pa.int32()), pa.array(["x" * 5_000_000]))
    columns = {name: pa.array([value] * rows) for name, value in (("perturbation", "mask"), ("metric", "m"))}
    table = pa.table(
        {
            "example": word,
            **columns,
            "value": pa.array([0.0] * rows),
            "reason": pa.nulls(rows, pa.string()),
            "draws": pa.nulls(rows, pa.list_(pa.float64())),
        }
    )
    path = tmp_path / "scores.parquet"
    pq.write_table(table, path, compression="zstd", store_schema=False)
    assert path.stat().st_size < 5_000
    before = pa.default_memory_pool().max_memory()
    with pytest.raises(Refused, match="holds a text of 5,000,000 bytes"):
        read_table(path, "scores")
    assert pa.default_memory_pool().max_memory() - before < 100_000_000


def test_a_bomb_of_one_number_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lists of the same number: a million of them pack to almost nothing."""
    monkeypatch.setattr(untrusted, "MOST_UNPACKED_BYTES", 2**22)
    length = 1_000_000
    many = pa.ListArray.from_arrays(pa.array([0, length], pa.int32()), pa.nulls(length, pa.float64()).fill_null(0.0))
    texts = {name: pa.array(["a"]) for name in ("example", "perturbation", "metric")}
    path = tmp_path / "scores.parquet"
    reason = pa.nulls(1, pa.string())
    table = pa.table({**texts, "value": pa.array([0.0]), "reason": reason, "draws": many})
    pq.write_table(table, path, compression="zstd")
    assert path.stat().st_size < 5_000
    assert 8 * length > untrusted.MOST_UNPACKED_BYTES
    del table, many
    before = pa.total_allocated_bytes()
    with pytest.raises(Refused, match="unpacks to 8,"):
        read_table(path, "scores")
    assert pa.total_allocated_bytes() - before < 100_000


def test_damage_is_told_from_forgery(submission: Path) -> None:
    """A file that was changed without its checksum is named; the store refuses it as well."""
    path = cell_of(submission) / "scores.parquet"
    table = pq.read_table(path)
    pq.write_table(table.slice(1), path)
    assert "does not have the checksum that checksums.json gives it" in faults(submission)[0]
    with pytest.raises(Exception, match="is not what was written"):
        verify(cell_of(submission))


def test_an_entry_of_another_form_is_named(submission: Path) -> None:
    (submission / "submission.json").write_text("{}")
    with pytest.raises(AssayError, match=r"submission\.json: "):
        published_methods(submission)
