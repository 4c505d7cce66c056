"""Files of attributions: three formats of one logical form, and what is refused."""

from __future__ import annotations

import csv
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay import attribution_files, attribution_rows, stored_attributions
from assay.attribution_files import SUFFIXES, read_attributions, write_attributions
from assay.errors import AssayError
from assay.stored_attributions import MOST_LETTERS, StoredAttribution, fingerprint

ONE = StoredAttribution(id="sst2/1", features=("a", "film"), scores=(0.25, -1e-17), target="positive")
OTHER = StoredAttribution(
    id="qqp/2",
    features=("'tis", "=1+1", "-", "'-5", "a"),
    segments=(0, 0, 0, 1, 1),
    scores=(1.0, 2.0, 0.0, 1 / 3, 5e300),
    target="duplicate",
    method="mine",
    signed=False,
    settings={"samples": 500, "of": {"a": [1, None]}},
)
NONE = StoredAttribution(id="sst2/3", scores=None, reason="it ran out of memory", target="negative")
TOKENS = StoredAttribution(id="sst2/4", features=("un", "##able"), scores=(1.0, 2.0), unit="token")

texts = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=8).filter(
    lambda text: "\x00" not in text
)


@st.composite
def attributions(draw: Any) -> list[StoredAttribution]:
    found = []
    for id in draw(st.lists(texts, min_size=1, max_size=4, unique=True)):
        about = {"id": id, "target": draw(st.none() | texts), "method": draw(st.none() | texts)}
        n = draw(st.integers(0, 4))
        if n == 0:
            found.append(StoredAttribution(**about, scores=None, reason=draw(texts)))
            continue
        features = draw(st.tuples(*[texts] * n))
        scores = draw(st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * n))
        segments = tuple(sorted(draw(st.tuples(*[st.integers(0, 1)] * n))))
        found.append(StoredAttribution(**about, features=features, scores=scores, segments=segments))
    return found


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_format_gives_back_what_was_written(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / "folder" / f"given{suffix}"
    write_attributions(path, [ONE, OTHER, NONE, TOKENS])
    assert read_attributions(path) == [ONE, OTHER, NONE, TOKENS]
    assert [one.name for one in path.parent.iterdir()] == [path.name], "nothing half-written is left"


@given(attributions())
@settings(max_examples=60, deadline=None)
def test_whatever_the_texts_are(tmp_path_factory: pytest.TempPathFactory, given: list[StoredAttribution]) -> None:
    folder = tmp_path_factory.mktemp("any")
    for suffix in SUFFIXES:
        write_attributions(folder / f"a{suffix}", given)
        read = read_attributions(folder / f"a{suffix}")
        assert read == given
        assert fingerprint(reversed(read)) == fingerprint(given)


def test_the_fingerprint_tells_what_differs_and_not_the_order() -> None:
    turned = StoredAttribution(
        id="sst2/1", features=("film", "a"), positions=(1, 0), scores=(-1e-17, 0.25), target="positive"
    )
    assert fingerprint([turned, OTHER]) == fingerprint([OTHER, ONE])
    changed = [ONE.model_copy(update={"scores": (0.25, 1e-17)}), ONE.model_copy(update={"target": None}), OTHER]
    assert len({fingerprint([one]) for one in [ONE, *changed]}) == 4


def test_a_spreadsheet_finds_no_formula(tmp_path: Path) -> None:
    path = tmp_path / "given.csv"
    hostile = StoredAttribution(id="@x", features=("=HYPERLINK(1)", "+1", "\tx"), scores=(1.0, 2.0, -3.0), method="-m")
    write_attributions(path, [hostile])
    with path.open(newline="", encoding="utf-8") as lines:
        header, *rows = csv.reader(lines)
    numbers = [header.index(name) for name in ("segment", "position", "score")]
    for row in rows:
        for place, value in enumerate(row):
            assert place in numbers or not value.startswith(("=", "+", "-", "@", "\t", "\r"))
    assert read_attributions(path) == [hostile]


def test_what_another_tool_wrote_by_hand(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(
        '\ufeff{"id": "x", "features": ["two", "men", "no", "1"], "segments": [0, 0, 1, 1], "scores": [1, 2, 3, 4]}\n\n'
        '{"id": "y", "features": ["a"], "scores": [0.5]}\r\n',
        "utf-8",
    )
    (tmp_path / "b.csv").write_text("position,id,score,feature\r\n1,z,2,-\r\n0,z,1e0,'tis\r\n", "utf-8")
    # Rows in any order, a text as a dictionary, whole numbers for scores, a column that is empty throughout.
    columns = {
        "id": pa.array(["w", "w"]).dictionary_encode(),
        "feature": pa.array(["b", "a"], pa.large_string()),
        "position": pa.array([1, 0], pa.int8()),
        "score": pa.array([2, 1], pa.int32()),
        "target": pa.nulls(2),
    }
    pq.write_table(pa.table(columns), tmp_path / "c.parquet")
    (tmp_path / "README.md").write_text("What this is.")
    x, y, z, w = read_attributions(tmp_path)
    assert x.positions == (0, 1, 0, 1)
    assert (y.features, y.scores, y.signed, y.unit) == (("a",), (0.5,), True, "word")
    assert z.scored == dict(zip(z.scored, (1.0, 2.0), strict=True))
    assert z.features == ("'tis", "-")
    assert (w.features, w.scores) == (("a", "b"), (1.0, 2.0))


def line(**changed: Any) -> str:
    content = {"id": "x", "features": ["a", "film"], "scores": [1.0, 2.0], **changed}
    return json.dumps({name: value for name, value in content.items() if value is not ...})


LINES = [
    (line(score=[1]), r"line 1: unknown key 'score'. Did you mean 'scores'"),
    (line(id=...), r"line 1: id is missing"),
    (line(id=5), r"line 1: id: input should be a valid string, not '5'"),
    (line(scores=...), r"line 1: scores is missing"),
    (line(scores=[1.0]), r"line 1: 2 features and 1 scores; there must be as many of each"),
    (line(scores=[1.0, "2"]), r"line 1: scores.1: input should be a valid number, not '2'"),
    (line(scores=[1.0, float("nan")]), r"line 1: scores.1: .*finite.*there is a reason"),
    (line(scores=[1.0, float("-inf")]), r"line 1: scores.1: .*finite"),
    (line(scores=None), r"line 1: there must be scores, or else a reason why there are none"),
    (line(reason="none"), r"line 1: there must be scores, or else a reason"),
    (line(features=[], scores=[]), r"line 1: there are no features; without any, scores are null"),
    (line(features=["a", ""]), r"line 1: features.1: .*at least 1 character"),
    (line(features=["a", "x" * (MOST_LETTERS + 1)]), r"line 1: features.1: .*at most 10000 characters"),
    (line(features=["a"] * 20_001, scores=[1.0] * 20_001), r"line 1: \w+: .*at most 20000 items"),
    (line(segments=[0, 2]), r"line 1: segments.1: .*less than or equal to 1"),
    (line(positions=[0, -1]), r"line 1: positions.1: .*greater than or equal to 0"),
    (line(positions=[3, 3]), r"line 1: two features stand at segment 0, position 3"),
    (line(segments=[0]), r"line 1: 2 features and 1 segments"),
    (line(signed="yes"), r"line 1: signed: .*boolean"),
    (line(unit="sentence"), r"line 1: unit: .*'word' or 'token'"),
    (line(settings={"a": "x" * 20_000}), r"line 1: the settings have more than 20,000 letters"),
    (line() + "\n" + line(), r"line 2: there is another attribution of example 'x'; there must be one"),
    (
        line() + "\n" + line(target="a"),
        r"example 'x' has an attribution for the class 'a' and one that names no target",
    ),
    (line(id="\u202e" + "y" * 200, scores=[1.0]), r"line 1: 2 features and 1 scores"),
    ("[1, 2]", r"line 1: input should be an object"),
    ("{", r"line 1: invalid JSON"),
    ('{"id": "x", "settings": ' + '{"a":' * 5000 + "1" + "}" * 5000 + "}", r"line 1: invalid JSON: recursion limit"),
    ("[" * 100_000, r"line 1: invalid JSON: recursion limit"),
    ('{"id": "\\ud800", "features": ["a"], "scores": [1]}', r"line 1: invalid JSON: unexpected end of hex escape"),
    ("", r"holds no attributions"),
]


@pytest.mark.parametrize(("content", "message"), LINES, ids=range(len(LINES)))
def test_what_is_wrong_in_a_line_is_named_with_file_and_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "given.jsonl"
    path.write_text(content, "utf-8")
    with pytest.raises(AssayError, match=message) as raised:
        read_attributions(path)
    assert "given.jsonl" in str(raised.value)
    assert "\u202e" not in str(raised.value)
    assert len(str(raised.value)) < 500


HEAD = "id,feature,segment,position,score,target,reason\n"
TABLES = [
    ("", r"is empty; the first line of a CSV file names its columns"),
    ("id,feature,score\n", r"the column 'position' is missing"),
    ("id,feature,position,score,scores\n", r"unknown column 'scores'. Did you mean 'score'"),
    ("id,feature,position,score,id\n", r"two columns are called 'id'"),
    (HEAD + "x,a,0,0,1\n", r"line 2: 5 values for 7 columns"),
    (HEAD + "x,a,0,0,one,,\n", r"line 2: score: .*valid number.*, not 'one'"),
    (HEAD + "x,a,0,0,nan,,\n", r"line 2: score: .*finite.*there is a reason"),
    (HEAD + "x,a,0,,1,,\n", r"line 2: position is missing"),
    (HEAD + "x,a,0,0,,,\n", r"line 2: score is missing"),
    (HEAD + "x,,0,0,1,,\n", r"line 2: feature is missing"),
    (HEAD + ",a,0,0,1,,\n", r"line 2: id is missing"),
    (HEAD + "x,,,,,,\n", r"line 2: a row needs a feature and a score, or else a reason"),
    (HEAD + "x,a,0,0,1,,why\n", r"line 2: there is a score and a reason why there is none"),
    (HEAD + "x,,,,,,why\nx,,,,,,why\n", r"line 3: example 'x' has other rows beside that of its reason"),
    (HEAD + "x,a,0,0,1,,\nx,b,0,0,1,,\n", r"line 3: segment 0, position 0 of example 'x' stands in .*line 2'? as well"),
    (HEAD + "x,a,2,0,1,,\n", r"line 2: segment: "),
    (HEAD + "x,a,0,1.5,1,,\n", r"line 2: position: "),
    (HEAD + 'x,"a,0,0,1,,\n', r"line 2: not CSV: unexpected end of data"),
    (HEAD + "x," + "a" * 200_000 + ",0,0,1,,\n", r"not CSV: field larger than field limit"),
    (HEAD + "x," + "a" * 20_000 + ",0,0,1,,\n", r"line 2: feature: .*at most 10000 characters"),
    (
        "id,feature,position,score,signed\nx,a,0,1,true\nx,b,1,1,false\n",
        r"line 3: signed, unit, settings and reason must",
    ),
    ("id,feature,position,score,settings\nx,a,0,1,{\n", r"line 2: invalid JSON"),
]


@pytest.mark.parametrize(("content", "message"), TABLES, ids=range(len(TABLES)))
def test_what_is_wrong_in_a_csv_file_is_named_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / "given.csv"
    path.write_text(content, "utf-8")
    with pytest.raises(AssayError, match=message) as raised:
        read_attributions(path)
    assert "given.csv" in str(raised.value)
    assert len(str(raised.value)) < 500


def plain(**changed: Any) -> pa.Table:
    columns = {"id": ["x", "x"], "feature": ["a", "b"], "position": [0, 1], "score": [1.0, 2.0]}
    return pa.table({name: value for name, value in {**columns, **changed}.items() if value is not ...})


class Pickled(pa.ExtensionType):  # type: ignore[misc]
    """As a file may name it; nothing of it must ever be called."""

    def __init__(self) -> None:
        super().__init__(pa.binary(), "hostile.pickled")

    def __arrow_ext_serialize__(self) -> bytes:
        return b""

    @classmethod
    def __arrow_ext_deserialize__(cls, storage: Any, serialized: bytes) -> Pickled:
        return cls()


PARQUET = [
    (plain(position=...), r"the column 'position' is missing"),
    (plain(extra=[1, 2]), r"unknown column 'extra'"),
    (plain(score=["1", "2"]), r"the column 'score' is of type string; it must be a number"),
    (plain(feature=[b"a", b"b"]), r"the column 'feature' is of type binary; it must be a text"),
    (plain(id=[["x"], ["x"]]), r"the column 'id' is of type list.*; it must be a text"),
    (plain(feature=[{"a": 1}, {"a": 2}]), r"the column 'feature' is of type struct|unknown column"),
    (plain(position=[0.0, 1.0]), r"the column 'position' is of type double; it must be a whole number"),
    (plain(score=[1.0, float("nan")]), r"row 2: score: .*finite"),
    (plain(score=[1.0, None]), r"row 2: score is missing"),
    (plain(position=[0, -1]), r"row 2: position: "),
    (plain(position=[0, 0]), r"row 2: segment 0, position 0 of example 'x' stands in .*row 1 as well"),
    (plain(feature=["a", "b" * 20_000]), r"row 2: feature: .*at most 10000 characters"),
    (plain(feature=["a", "b" * 10_000_000]), r"the column 'feature' has a text of 10,000,000 bytes; that is too long"),
    (
        plain(feature=pa.ExtensionArray.from_storage(Pickled(), pa.array([b"a", b"b"]))),
        r"is of type .*; it must be a text",
    ),
]


@pytest.mark.parametrize(("table", "message"), PARQUET, ids=range(len(PARQUET)))
def test_what_is_wrong_in_a_parquet_file_is_named_with_its_row(tmp_path: Path, table: Any, message: str) -> None:
    path = tmp_path / "given.parquet"
    pq.write_table(table, path)
    with pytest.raises(AssayError, match=message) as raised:
        read_attributions(path)
    assert "given.parquet" in str(raised.value)


def test_text_of_a_parquet_file_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    bad = pa.StringArray.from_buffers(2, pa.py_buffer(b"\0\0\0\0\1\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    pq.write_table(plain(feature=bad), tmp_path / "given.parquet")
    with pytest.raises(AssayError, match=r"given.parquet"):
        read_attributions(tmp_path / "given.parquet")


def test_what_is_no_file_of_attributions_is_refused(tmp_path: Path) -> None:
    with pytest.raises(AssayError, match=r"there is no such file or folder"):
        read_attributions(tmp_path / "lost.jsonl")
    with pytest.raises(AssayError, match=r"holds no .jsonl, .csv, .parquet file, but nothing"):
        read_attributions(tmp_path)
    for name in ("a.jsonl.gz", "b.pkl", "c.zip"):
        (tmp_path / name).write_bytes(gzip.compress(line().encode()))
        with pytest.raises(AssayError, match=r"must end in one of .jsonl, .csv, .parquet, and be neither compressed"):
            read_attributions(tmp_path / name)
    with pytest.raises(AssayError, match=r"but 'a.jsonl.gz', 'b.pkl', 'c.zip'"):
        read_attributions(tmp_path)
    for suffix in (".jsonl", ".csv"):
        (tmp_path / f"packed{suffix}").write_bytes(gzip.compress(b"\0" * 2**20))
        with pytest.raises(AssayError, match=r"byte \d+ is not UTF-8.*compressed files are not read"):
            read_attributions(tmp_path / f"packed{suffix}")
    (tmp_path / "not.parquet").write_bytes(b"PAR1 and nothing else PAR1")
    with pytest.raises(AssayError, match=r"not.parquet' is no Parquet file that can be read"):
        read_attributions(tmp_path / "not.parquet")
    with pytest.raises(AssayError, match=r"must end in one of"):
        write_attributions(tmp_path / "a.txt", [ONE])


def test_links_and_pipes_are_not_followed(tmp_path: Path) -> None:
    secret = tmp_path / "secret.jsonl"
    secret.write_text(line())
    folder = tmp_path / "given"
    folder.mkdir()
    (folder / "link.jsonl").symlink_to(secret)
    (tmp_path / "whole").symlink_to(folder, target_is_directory=True)
    for path in (folder, folder / "link.jsonl", tmp_path / "whole"):
        with pytest.raises(AssayError, match=r"symbolic link|links, folders and pipes are not read"):
            read_attributions(path)
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(AssayError, match=r"links, folders and pipes are not read"):
        read_attributions(tmp_path / "pipe.csv")
    (folder / "link.jsonl").unlink()
    (folder / "deeper").mkdir()
    (folder / "deeper" / "a.jsonl").write_text(line())
    with pytest.raises(AssayError, match=r"holds no .*, but 'deeper'"):
        read_attributions(folder)


def test_sizes_are_capped_before_anything_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    large = tmp_path / "large.jsonl"
    with large.open("wb") as file:
        file.truncate(2**29 + 1)  # takes no room
    with pytest.raises(AssayError, match=r"has 536,870,913 bytes; at most 536,870,912 are read"):
        read_attributions(large)
    folder = tmp_path / "several"
    folder.mkdir()
    for name in ("a.csv", "b.csv"):
        with (folder / name).open("wb") as file:
            file.truncate(2**28 + 1)
    with pytest.raises(AssayError, match=r"several' has 536,870,914 bytes"):
        read_attributions(folder)
    long = tmp_path / "long.jsonl"
    with long.open("wb") as file:
        file.truncate(2**25)
    with pytest.raises(AssayError, match=r"line 1: the line has more than 16,777,216 bytes"):
        read_attributions(long)
    # A few hundred bytes that hold a million equal rows, and a column that would fill the memory when unpacked.
    bomb = tmp_path / "bomb.parquet"
    pq.write_table(
        pa.table({name: pa.array([value] * 10**6) for name, value in {**ROW, "score": 1.0}.items()}),
        bomb,
        compression="zstd",
    )
    assert bomb.stat().st_size < 20_000
    monkeypatch.setattr(attribution_rows, "_MOST_ROWS", 10**6 - 1)
    with pytest.raises(AssayError, match=r"has 1,000,000 rows; at most 999,999 are read"):
        read_attributions(bomb)
    monkeypatch.setattr(attribution_rows, "_MOST_ROWS", 10**6)
    with pytest.raises(AssayError, match=r"stands in .*row 1 as well|more than 20,000 features"):
        read_attributions(bomb)
    monkeypatch.setattr(attribution_rows, "MOST_BYTES", 100)
    with pytest.raises(AssayError, match=r"bytes unpacked; at most 100 are read"):
        read_attributions(bomb)


ROW = {"id": "x", "feature": "a", "position": 0}


def test_an_example_may_be_explained_for_several_classes_and_by_several_methods(tmp_path: Path) -> None:
    path = tmp_path / "given.csv"
    several = [
        ONE.model_copy(update={"target": target, "method": method}) for target in ("a", "b") for method in ("m", "n")
    ]
    write_attributions(path, several)
    assert read_attributions(path) == several


def test_a_place_that_cannot_be_written_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(AssayError, match=r"cannot be written"):
        write_attributions(tmp_path / "file" / "a.csv", [ONE])
    path = tmp_path / "kept.jsonl"
    write_attributions(path, [ONE])

    def broken() -> Any:
        yield OTHER
        raise RuntimeError

    with pytest.raises(RuntimeError):
        write_attributions(path, broken())
    assert read_attributions(path) == [ONE]
    assert sorted(one.name for one in tmp_path.iterdir()) == ["file", "kept.jsonl"]


def test_the_modules_do_not_weigh_on_what_need_not_have_them() -> None:
    heavy = ("torch", "pandas", "transformers")
    for module in (attribution_files, attribution_rows, stored_attributions):
        assert not set(heavy) & set(vars(module))
