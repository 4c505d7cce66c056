import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from assay import hub
from assay.errors import AssayError
from assay.tasks import load_task

SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.fixture(autouse=True)
def no_folder_in_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ASSAY_DATA", raising=False)


def write(folder: Path, task: str, split: str, columns: Mapping[str, Sequence[Any]]) -> str:
    (folder / task).mkdir(exist_ok=True, parents=True)
    pq.write_table(pa.table(columns), folder / task / f"{split}.parquet")
    return str(folder)


SST2 = {"sentence": ["good", "bad ", "", "fine film"], "label": [1, 0, 0, 1], "idx": [7, 3, 5, 9]}


def test_sst2_is_read_from_a_local_file(tmp_path: Path) -> None:
    task = load_task("sst2", path=write(tmp_path, "sst2", "validation", SST2))
    assert task.labels == ("negative", "positive")
    assert [example.id for example in task] == [f"sst2/validation/{number}" for number in (7, 3, 5, 9)]
    assert [example.text for example in task] == [("good",), ("bad ",), ("",), ("fine film",)]
    assert [example.label for example in task] == [1, 0, 0, 1]
    assert task.texts_per_example == 1
    assert not task.has_rationales


def test_pairs_without_an_index_are_named_by_their_row(tmp_path: Path) -> None:
    columns = {"question1": ["a", "b"], "question2": ["c", "d"], "label": [0, 1]}
    task = load_task("qqp", path=write(tmp_path, "qqp", "train", columns), split="train")
    assert task.labels == ("not_duplicate", "duplicate")
    assert [example.id for example in task] == ["qqp/train/0", "qqp/train/1"]
    assert [example.text for example in task] == [("a", "c"), ("b", "d")]
    assert task.texts_per_example == 2


def test_validation_of_mnli_is_also_found_under_its_name_on_the_hub(tmp_path: Path) -> None:
    columns = {"premise": ["a"], "hypothesis": ["b"], "label": [2]}
    task = load_task("mnli", path=write(tmp_path, "mnli", "validation_matched", columns))
    assert task[0].id == "mnli/validation/0"
    assert task.labels[2] == "contradiction"


def test_the_environment_names_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ASSAY_DATA", write(tmp_path, "sst2", "validation", SST2))
    assert len(load_task("sst2")) == 4


def test_a_split_is_read_once_until_its_file_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[Path] = []
    original = pq.read_table
    monkeypatch.setattr(pq, "read_table", lambda file: (read.append(file), original(file))[1])
    path = write(tmp_path, "sst2", "validation", SST2)
    first = load_task("sst2", path=path)
    assert load_task("sst2", path=path, size=2, seed=1).examples[0] in first.examples
    assert len(read) == 1
    write(tmp_path, "sst2", "validation", {**SST2, "sentence": ["good", "sad ", "", "fine film"]})
    assert load_task("sst2", path=path).examples[1].text == ("sad ",)
    assert len(read) == 2
    for split in ("train", "test", "validation"):
        write(tmp_path, "sst2", split, SST2)
        assert next(example.id for example in load_task("sst2", path=path, split=split)) == f"sst2/{split}/7"


def test_reading_leaves_no_file_behind(tmp_path: Path) -> None:
    path = write(tmp_path / "data", "sst2", "validation", SST2)
    before = sorted(tmp_path.rglob("*"))
    load_task("sst2", path=path)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"label": [1, 0, 2, 1]}, "Row 2 .* label 2; task 'sst2' has 0 negative, 1 positive"),
        ({"label": [1, None, 0, 1]}, "Row 1 .* label None"),
        ({"label": [1.0, 0.0, 0.0, 1.0]}, r"label 1\.0"),
        ({"label": [-1, -1, -1, -1]}, "has no labels"),
        ({"sentence": ["good", None, "bad", "fine"]}, "Row 1 .* None in column 'sentence'"),
        ({"sentence": [1, 2, 3, 4]}, "1 in column 'sentence', which is not a text"),
        ({"idx": [1, 2, 2, 3]}, "'idx' .* holds 2 more than once"),
    ],
)
def test_a_wrong_row_is_named(tmp_path: Path, change: dict[str, list[Any]], message: str) -> None:
    path = write(tmp_path, "sst2", "validation", {**SST2, **change})
    with pytest.raises(AssayError, match=message):
        load_task("sst2", path=path)


def test_a_missing_column_is_answered_with_those_that_are_there(tmp_path: Path) -> None:
    path = write(tmp_path, "sst2", "validation", {"text": ["good"], "label": [1]})
    with pytest.raises(AssayError, match=r"no column 'sentence'.* It has text, label"):
        load_task("sst2", path=path)


def test_a_file_without_rows_is_refused(tmp_path: Path) -> None:
    path = write(
        tmp_path, "sst2", "validation", {"sentence": pa.array([], pa.string()), "label": pa.array([], pa.int64())}
    )
    with pytest.raises(AssayError, match="holds no rows"):
        load_task("sst2", path=path)


def test_a_file_that_is_not_parquet_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sst2").mkdir()
    (tmp_path / "sst2" / "validation.parquet").write_text("sentence,label\ngood,1\n")
    with pytest.raises(AssayError, match="cannot be read as Parquet"):
        load_task("sst2", path=str(tmp_path))


def test_what_is_missing_is_named_with_what_is_there(tmp_path: Path) -> None:
    path = write(tmp_path, "sst2", "validation", SST2)
    with pytest.raises(AssayError, match=r"there is no .*sst2/test\.parquet\. .* has the splits validation"):
        load_task("sst2", path=path, split="test")
    with pytest.raises(AssayError, match=r"has no folder 'qqp'; it has sst2.*ASSAY_DATA"):
        load_task("qqp", path=path)
    with pytest.raises(AssayError, match=r"absent does not exist.*<task>/<split>\.parquet"):
        load_task("sst2", path=str(tmp_path / "absent"))


def test_an_unreachable_hub_is_answered_with_the_way_to_local_files(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def unreachable(*arguments: object, **named: object) -> None:
        raise ConnectionError("no route to huggingface.co")

    monkeypatch.setattr(datasets, "load_dataset", unreachable)
    monkeypatch.setattr(hub, "why_silent", lambda: None)
    with pytest.raises(AssayError, match=r"no route.*For local files name a folder"):
        load_task("sst2")


@pytest.mark.parametrize(("name", "labels"), [("sst2", 2), ("mnli", 3), ("qqp", 2)])
def test_real_data_loads_and_its_subset_is_stratified(name: str, labels: int) -> None:
    folder = Path(os.environ.get("ASSAY_DATA", SHARED))
    if not (folder / name / "validation.parquet").is_file():
        pytest.skip("no local copy of the data")
    whole = load_task(name, path=str(folder))
    subset = load_task(name, path=str(folder), size=200)
    assert len(whole.labels) == labels
    assert len(subset) == 200
    assert subset.majority == pytest.approx(whole.majority, abs=0.01)
