"""`assay run` on a tiny real task: what is computed, what is skipped, what is refused, and what survives."""

from __future__ import annotations

import json
import os
import random
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from assay.benchmark import configured_model
from assay.benchmark.cell import Cell
from assay.benchmark.store import Store
from assay.benchmark.tables import TABLES
from assay.classifier import Classifier
from tests.benchmark.cli import Ended, assay, save_model, save_task
from tests.benchmark.forked import Run

SHORT = ("a dull film .", "good", "", "unforgettable and touching", "two men", "nobody is outside")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a model, the same with its classes turned round, and a task."""
    folder = tmp_path_factory.mktemp("run")
    save_model(folder / "model")
    save_model(folder / "turned", ("POSITIVE", "Negative"))
    save_model(folder / "nameless", ("LABEL_0", "LABEL_1"))
    save_model(folder / "three", ("negative", "neutral", "positive"))
    save_task(folder / "data", SHORT)
    return folder


def run(place: Path, results: Path, *overrides: str, model: str = "model") -> Ended:
    return assay(
        "run",
        f"model={place / model}",
        "task=sst2",
        f"task.path={place / 'data'}",
        f"results={results}",
        "explainer=leave_one_out",
        "metric=[deletion,comprehensiveness]",
        "tracker=none",
        "model.device=cpu",
        "allow_low_accuracy=true",
        *overrides,
    )


def cells(results: Path) -> dict[str, Cell]:
    return {cell.explainer: cell for cell in Store(results).cells()}


def content(results: Path) -> dict[tuple[str, str], str]:
    """All numbers of all cells but the seconds, to the last digit."""
    found = {}
    for cell in Store(results).cells():
        for name in TABLES:
            table = pq.read_table(cell.path / f"{name}.parquet")
            if "seconds" in table.column_names:
                table = table.drop(["seconds"])
            found[cell.explainer, name] = repr([row for row in table.to_pylist() if row.get("metric") != "seconds"])
    return found


@contextmanager
def rows_counted() -> Iterator[list[int]]:
    asked: list[int] = []
    original = Classifier.begin

    def begin(self: Classifier, rows: Any, dtype: Any = None) -> Any:
        asked.append(len(rows))
        return original(self, rows, dtype)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Classifier, "begin", begin)
        yield asked


def test_a_run_leaves_a_cell_with_its_controls_and_is_skipped_the_next_time(place: Path, tmp_path: Path) -> None:
    first = run(place, tmp_path / "results")
    assert (first.code, first.err) == (0, "")
    found = cells(tmp_path / "results")
    assert sorted(found) == ["leave_one_out", "oracle", "random"]
    for cell in found.values():
        assert cell.meta["counts"]["examples"] == len(SHORT)
        assert cell.meta["counts"]["undefined"]["deletion"] == 1  # the empty text
        assert json.loads((cell.path / "config.json").read_text())["seed"] == 0
        assert json.loads((cell.path / "environment.json").read_text())["packages"]["torch"]
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "results").rglob("*.parquet")}
    with rows_counted() as asked:
        second = run(place, tmp_path / "results")
    assert second.code == 0
    assert "finished before" in second.out
    assert asked == []
    with rows_counted() as asked:  # one more explainer: only its cell is computed
        assert run(place, tmp_path / "results", "explainer=[leave_one_out,first]").code == 0
    assert sum(asked) > 0
    assert sorted(cells(tmp_path / "results")) == ["first", "leave_one_out", "oracle", "random"]
    assert all(path.stat().st_mtime_ns == stamp for path, stamp in before.items())


def test_overwrite_always_computes_again_and_never_computes_nothing(place: Path, tmp_path: Path) -> None:
    with rows_counted() as asked:
        reported = run(place, tmp_path / "results", "overwrite=never")
    assert reported.code == 0
    assert asked == []
    assert cells(tmp_path / "results") == {}
    run(place, tmp_path / "results")
    before = content(tmp_path / "results")
    with rows_counted() as asked:
        assert run(place, tmp_path / "results", "overwrite=always").code == 0
    assert sum(asked) > 0
    assert content(tmp_path / "results") == before


def test_shards_of_any_size_end_with_the_same_numbers(place: Path, tmp_path: Path) -> None:
    run(place, tmp_path / "whole")
    run(place, tmp_path / "parts", "shard_size=2", "tokens_per_batch=30")
    for name, cell in cells(tmp_path / "whole").items():
        other = cells(tmp_path / "parts")[name]
        assert other.key == cell.key
        assert np.allclose(cell.scores["value"], other.scores["value"], atol=1e-5, equal_nan=True)


def test_a_damaged_cell_is_named_set_aside_and_computed_again(place: Path, tmp_path: Path) -> None:
    run(place, tmp_path / "results")
    before = cells(tmp_path / "results")["leave_one_out"].scores
    broken = cells(tmp_path / "results")["leave_one_out"].path / "scores.parquet"
    raw = bytearray(broken.read_bytes())
    raw[len(raw) // 2] ^= 4
    broken.write_bytes(raw)
    again = run(place, tmp_path / "results")
    assert again.code == 0
    assert str(broken) in again.out
    assert "Set aside" in again.out
    assert len(list((tmp_path / "results" / ".damaged").iterdir())) == 1
    after = cells(tmp_path / "results")["leave_one_out"].scores
    assert np.allclose(before["value"], after["value"], atol=1e-6, equal_nan=True)


def test_a_class_of_ones_own_runs_from_the_folder_where_it_lies(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("their_method.py").write_text(
        "import numpy as np\n"
        "from assay.explainers.base import BlackBoxExplainer\n\n\n"
        "class Lengths(BlackBoxExplainer):\n"
        "    def __init__(self, power=1):\n"
        "        self.power = power\n\n"
        "    def converse(self, case):\n"
        "        yield from ()\n"
        "        return np.array([len(feature.text) ** self.power for feature in case.features])\n"
    )
    mine = "+explainers.mine._target_=their_method.Lengths"
    assert run(place, tmp_path / "results", mine, "+explainers.mine.power=2").code == 0
    found = cells(tmp_path / "results")["mine"]
    settings = dict(found.meta["explainer"]["settings"])
    assert settings.pop("source"), "what their method is, is part of the cell's key"
    assert settings == {"_target_": "their_method.Lengths", "power": 2}
    assert list(found.table("attributions")["scores"][0]) == [1, 16, 16, 1]
    bad = run(place, tmp_path / "results", mine, "+explainers.mine.pwer=2")
    assert bad.code == 2
    assert "Did you mean 'power'" in bad.err
    del sys.modules["their_method"]


def test_one_bad_job_of_a_sweep_does_not_stop_the_others(place: Path, tmp_path: Path) -> None:
    ended = run(place, tmp_path / "results", "task=mnli,sst2", "-m")
    assert ended.code == 2
    assert "Traceback" not in ended.err
    assert "1 of 2 jobs ended well" in ended.out
    assert "mnli" in ended.err
    assert sorted(cells(tmp_path / "results")) == ["leave_one_out", "oracle", "random"]


def test_classes_are_matched_by_name_whatever_their_order(place: Path, tmp_path: Path) -> None:
    for model in ("model", "turned"):
        assert run(place, tmp_path / model, "target=gold", model=model).code == 0
    straight, turned = (cells(tmp_path / model)["random"] for model in ("model", "turned"))
    assert [1 - label for label in straight.table("examples")["label"]] == turned.table("examples")["label"].tolist()
    assert straight.meta["accuracy"] == pytest.approx(1 - turned.meta["accuracy"])


def test_correcting_the_order_of_a_models_classes_is_another_protocol(place: Path, tmp_path: Path) -> None:
    copy = save_model(tmp_path / "model")
    run(place, tmp_path / "results", "target=gold", model=str(copy))
    save_model(tmp_path / "model", ("positive", "negative"))
    configured_model.free_model()
    run(place, tmp_path / "results", "target=gold", model=str(copy))
    assert len(Store(tmp_path / "results").cells()) == 6


def test_classes_without_names_are_taken_by_position_with_a_warning(place: Path, tmp_path: Path) -> None:
    ended = run(place, tmp_path / "results", model="nameless")
    assert ended.code == 0
    assert "class names say nothing" in ended.out
    assert "accuracy" in ended.out


def test_a_model_worse_than_the_largest_class_stops(place: Path, tmp_path: Path) -> None:
    data = save_task(tmp_path / "data", SHORT)
    model = Classifier.from_pretrained(place / "model", device="cpu")
    from assay.tasks import load_task

    wrong = [1 - int(model.answer([model.encode(example).row]).argmax()) for example in load_task("sst2", str(data))]
    save_task(tmp_path / "data", SHORT, label=wrong)
    ended = run(place, tmp_path / "results", f"task.path={data}", "allow_low_accuracy=false")
    assert ended.code == 2
    assert "accuracy is 0.000" in ended.err
    assert "allow_low_accuracy=true" in ended.err
    assert cells(tmp_path / "results") == {}


BAD: dict[str, tuple[list[str], str]] = {
    "explainer": (["explainer=lim"], "Unknown explainer 'lim'. Did you mean 'lime'"),
    "explainer in a list": (["explainer=[lime,atention]"], "Did you mean 'attention'"),
    "metric": (["metric=delition"], "Did you mean 'deletion'"),
    "perturbation": (["perturbation=masc"], "Did you mean 'mask'"),
    "task": (["task=sst"], "Did you mean 'sst2'"),
    "model": (["model=bert_sst"], "Did you mean 'bert_sst2'"),
    "protocol": (["protocol=asay"], "Did you mean 'assay'"),
    "tracker": (["tracker=wandbb"], "Did you mean 'wandb'"),
    "experiment": (["experiment=demmo"], "Did you mean 'demo'"),
    "feature": (["feature=wrd"], "Did you mean 'word'"),
    "output": (["output=logits"], "Did you mean 'logit'"),
    "target": (["target=positiv"], "Did you mean 'positive'"),
    "seed": (["seed=abc"], "seed must be a whole number"),
    "overwrite": (["overwrite=allways"], "Did you mean 'always'"),
    "a key": (["task.sise=3"], "Did you mean 'size'"),
    "a key at the top": (["reslts=x"], "Did you mean 'results'"),
    "one of several settings": (["explainers.leave_one_out={samples: 3}"], "explainers.leave_one_out has no"),
    "a setting": (["explainers.leave_one_out.samples=3"], "no setting 'samples'"),
    "no override": (["sst2"], "key=value"),
    "shard size": (["shard_size=0"], "shard_size must be"),
    "budget": (["tokens_per_batch=0"], "tokens_per_batch must be"),
    "budget of words": (["tokens_per_batch=many"], "tokens_per_batch must be"),
    "size": (["task.size=0"], "task.size is 0"),
    "split": (["task.split=tset"], "there is no"),
    "data folder": (["task.path=/nowhere/at/all"], "does not exist"),
    "model folder": (["model=/nowhere/at/all"], "no model folder"),
    "precision": (["model.dtype=float33"], "Did you mean 'float32'"),
    "device": (["model.device=gpu"], "Unknown device 'gpu'"),
    "class that is not there": (["+explainers.mine._target_=nowhere.Mine"], "Cannot import 'nowhere'"),
    "class of another kind": (["+explainers.mine._target_=pathlib.PurePath"], "explainers.mine: "),
    "class without _target_": (["+explainers.mine=nowhere.Mine"], "_target_"),
    "metric that is an explainer": (
        ["+metrics.mine._target_=assay.explainers.controls.First"],
        "metrics.mine: First does not inherit from Metric",
    ),
}


@pytest.mark.parametrize("kind", BAD)
def test_bad_input_is_one_line_and_exit_code_2(place: Path, tmp_path: Path, kind: str) -> None:
    overrides, message = BAD[kind]
    with rows_counted() as asked:
        ended = run(place, tmp_path / "results", *overrides)
    assert ended.code == 2, ended.err
    assert message in ended.err
    assert ended.err.startswith("Error: ")
    assert ended.err.count("\n") == 1
    assert asked == []


@pytest.mark.parametrize("model", ["three", "data"])
def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(place: Path, tmp_path: Path, model: str) -> None:
    ended = run(place, tmp_path / "results", model=model)
    assert ended.code == 2
    assert {"three": "2 labels", "data": "no config.json"}[model] in ended.err


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": [7] * 6}, "label 7"),
        ({"label": [-1] * 6}, "no labels"),
        ({"sentence": [1, 2, 3, 4, 5, 6]}, "not a text"),
        ({"idx": [1] * 6}, "more than once"),
    ],
)
def test_data_that_is_not_as_it_should_be_is_refused(
    place: Path, tmp_path: Path, columns: dict[str, Any], message: str
) -> None:
    ended = run(place, tmp_path / "results", f"task.path={save_task(tmp_path / 'data', SHORT, **columns)}")
    assert (ended.code, ended.err.count("\n")) == (2, 1)
    assert message in ended.err


def test_a_missing_column_and_a_file_that_is_no_parquet_are_refused(place: Path, tmp_path: Path) -> None:
    file = save_task(tmp_path / "data", SHORT) / "sst2" / "validation.parquet"
    pq.write_table(pq.read_table(file).rename_columns(["text", "label", "idx"]), file)
    ended = run(place, tmp_path / "results", f"task.path={tmp_path / 'data'}")
    assert ended.code == 2
    assert "no column 'sentence'" in ended.err
    file.write_text("no parquet")
    assert "cannot be read as Parquet" in run(place, tmp_path / "results", f"task.path={tmp_path / 'data'}").err


def test_a_results_folder_that_cannot_be_written_is_refused(place: Path, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file")
    ended = run(place, tmp_path / "taken")
    assert ended.code == 2
    assert "cannot be written" in ended.err


def long_run(place: Path, results: Path) -> list[str]:
    return [
        *("run", f"model={place / 'model'}", "task=sst2", f"task.path={place / 'data'}", f"results={results}"),
        *("explainer=[leave_one_out,lime]", "explainers.lime.samples=20", "metric=[deletion,comprehensiveness,cost]"),
        *("tracker=none", "model.device=cpu", "allow_low_accuracy=true", "shard_size=1"),
    ]


def finished_shards(results: Path) -> int:
    """Counted with os.walk, which does not mind folders that are gone before it gets to them."""
    return sum("checksums.json" in files for _, _, files in os.walk(results / ".partial"))


def test_killed_at_random_moments_and_started_again_it_ends_with_the_same_numbers(place: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    assert assay(*long_run(place, whole)).code == 0
    dice, kept = random.Random(0), [0]
    for kill in range(3):
        # At one of the times that it touches its results: some shards are finished by then, and never all.
        run = Run(long_run(place, killed), tmp_path / f"run-{kill}", killed, die_at=dice.randrange(60, 120))
        assert run.wait() == -signal.SIGKILL, run.said
        kept.append(finished_shards(killed))
    assert kept == sorted(kept)
    assert 0 < kept[1] < kept[-1]
    assert assay(*long_run(place, killed)).code == 0
    assert content(killed) == content(whole)
    assert list(killed.glob(".partial/*")) == []
    assert {cell.key for cell in Store(killed).cells()} == {cell.key for cell in Store(whole).cells()}
