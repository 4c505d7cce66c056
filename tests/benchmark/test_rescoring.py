"""`assay score`: the numbers are those of a run, and the model is asked only for what is not stored."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from safetensors.torch import load_file, save_file

from assay import registry
from assay.benchmark import configured_model
from assay.benchmark.cell import Cell
from assay.benchmark.store import Store
from assay.classifier import Classifier
from tests.benchmark.cli import Ended, assay, save_model, save_task
from tests.tiny_models import CORPUS

METRICS = "metric=[comprehensiveness,deletion,insertion,cost]"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("rescoring")
    save_model(folder / "model")
    save_task(folder / "data", (*CORPUS[:4], "", "good"))
    ended = run(folder, folder / "results", METRICS)
    assert ended.code == 0, ended.err
    return folder


def run(place: Path, results: Path, *overrides: str) -> Ended:
    return assay(
        "run",
        f"model={place / 'model'}",
        "task=sst2",
        f"task.path={place / 'data'}",
        f"results={results}",
        "explainer=[rise,gradient]",
        "tracker=none",
        "model.device=cpu",
        "allow_low_accuracy=true",
        *overrides,
    )


@pytest.fixture
def results(place: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(place / "results", tmp_path / "results"))


@pytest.fixture
def no_model(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("the model was loaded")

    monkeypatch.setattr(Classifier, "from_pretrained", refuse)
    configured_model.free_model()


def scores(results: Path, metrics: set[str]) -> dict[str, pd.DataFrame]:
    """The scores of the cells that were judged by these metrics, by explainer."""
    found = {}
    for cell in Store(results).cells():
        if set(cell.protocol["metrics"]) == metrics:
            found[cell.explainer] = cell.scores.sort_values(["example", "perturbation", "metric"], ignore_index=True)
    return found


def same(one: dict[str, pd.DataFrame], two: dict[str, pd.DataFrame], without: tuple[str, ...] = ()) -> None:
    assert one.keys() == two.keys()
    assert one
    for name in one.keys() - set(without):
        kept = [frame[frame["metric"] != "seconds"].reset_index(drop=True) for frame in (one[name], two[name])]
        pd.testing.assert_frame_equal(kept[0], kept[1], check_exact=False, atol=1e-6, rtol=0)


@pytest.mark.usefixtures("no_model")
def test_judging_again_by_the_same_metrics_gives_the_same_numbers_without_the_model(results: Path) -> None:
    metrics = {"comprehensiveness", "deletion", "insertion", "cost"}
    before = scores(results, metrics)
    ended = assay("score", str(results), METRICS, "overwrite=always")
    assert ended.code == 0, ended.err
    same(scores(results, metrics), before)


@pytest.mark.usefixtures("no_model")
def test_fewer_metrics_need_no_model_and_equal_a_run_of_their_own(
    place: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = assay("score", str(results), "metric=[deletion,insertion]")
    assert ended.code == 0, ended.err
    assert "The model is needed" not in ended.out
    monkeypatch.undo()
    assert run(place, tmp_path / "fresh", "metric=[deletion,insertion]").code == 0
    same(scores(results, {"deletion", "insertion"}), scores(tmp_path / "fresh", {"deletion", "insertion"}))
    keys = {cell.key for cell in Store(results).cells()}
    assert {cell.key for cell in Store(tmp_path / "fresh").cells()} < keys


def test_what_is_not_stored_is_asked_of_the_model_and_nothing_else_is(
    place: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    configured_model.free_model()
    asked: list[int] = []
    begin = Classifier.begin
    monkeypatch.setattr(
        Classifier, "begin", lambda self, rows, dtype=None: asked.append(len(rows)) or begin(self, rows, dtype)
    )
    settings = "metric=[deletion,insertion,tau_loo]"
    assert run(place, tmp_path / "fresh", settings, "perturbation=[mask,delete]").code == 0
    whole = sum(asked)
    asked.clear()
    ended = assay("score", str(results), settings, "perturbation=[mask,delete]", "device=cpu")
    assert ended.code == 0, ended.err
    assert "The model is needed" in ended.out
    assert 0 < sum(asked) < whole
    metrics = {"deletion", "insertion", "tau_loo"}
    # Two searches that see other answers first may find rankings of equal worth.
    same(scores(results, metrics), scores(tmp_path / "fresh", metrics), without=("oracle",))
    again = assay("score", str(results), settings, "perturbation=[mask,delete]")
    assert again.code == 0
    assert "The model is needed" not in again.out


def test_what_was_scored_before_is_not_scored_and_shown_twice(results: Path) -> None:
    assert assay("score", str(results), "metric=[deletion]").code == 0
    # The run and what was scored from it hold the same attributions, and so lead to the same cells.
    ended = assay("score", str(results), "metric=[insertion]", "overwrite=always")
    assert ended.code == 0, ended.err
    table = ended.out.split("Skill and cost")[0]
    assert [table.count(name) for name in ("rise", "gradient", "random", "oracle")] == [1, 1, 1, 1]


def test_the_full_suite_leaves_out_what_has_a_method_explain_again(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of_group = registry.names
    suite = ["deletion", "sensitivity_max", "roar"]
    monkeypatch.setattr(registry, "names", lambda group: suite if group == "metric" else of_group(group))
    ended = assay("score", str(results), "metric=full")
    assert ended.code == 0, ended.err
    assert "Left out, because they have a method explain again: sensitivity_max, roar." in ended.out.replace("\n", " ")
    assert scores(results, {"deletion"}).keys() == {"rise", "gradient", "random", "oracle"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("metric=delection",), "Unknown metric 'delection'. Did you mean 'deletion'"),
        (
            ("protocol=ferret",),
            "protocol=ferret needs feature=token, and these attributions were made with feature=word",
        ),
        (("protocol=ferret", "metric=deletion"), "protocol=ferret brings its own metrics"),
        (("metric=sensitivity_max",), "sensitivity_max has a method explain again"),
        (("device=tpu", "metric=tau_loo", "perturbation=delete"), "Unknown device 'tpu'"),
    ],
)
def test_what_cannot_be_done_with_stored_results_is_refused(
    results: Path, arguments: tuple[str, ...], message: str
) -> None:
    before = sorted(cell.key for cell in Store(results).cells())
    ended = assay("score", str(results), *arguments)
    assert ended.code == 2
    assert message in ended.err
    assert sorted(cell.key for cell in Store(results).cells()) == before


def test_a_folder_without_results_and_a_damaged_cell_are_refused(results: Path, tmp_path: Path) -> None:
    assert "There is no results folder" in assay("score", str(tmp_path / "nowhere")).err
    (tmp_path / "empty").mkdir()
    assert "There are no finished cells" in assay("score", str(tmp_path / "empty")).err
    cell: Cell = Store(results).cells()[0]
    (cell.path / "answers.parquet").write_bytes(b"damaged")
    ended = assay("score", str(results), "metric=deletion")
    assert ended.code == 2
    assert "is not what was written" in ended.err


def test_a_model_or_task_that_has_changed_since_is_refused(tmp_path: Path) -> None:
    save_model(tmp_path / "model")
    save_task(tmp_path / "data", CORPUS[:4])
    assert run(tmp_path, tmp_path / "results", "metric=deletion").code == 0
    asked = ("score", str(tmp_path / "results"), "metric=deletion", "perturbation=delete", "device=cpu")
    before = sorted(cell.key for cell in Store(tmp_path / "results").cells())
    save_task(tmp_path / "data", CORPUS[1:5])
    ended = assay(*asked)
    assert (ended.code, "holds other examples now" in ended.err) == (2, True), ended.err
    save_task(tmp_path / "data", CORPUS[:4])
    weights = tmp_path / "model" / "model.safetensors"
    tensors = load_file(weights)
    tensors["classifier.bias"] += 1
    save_file(tensors, weights, {"format": "pt"})
    configured_model.free_model()
    ended = assay(*asked)
    assert (ended.code, "has other weights than the one that was explained" in ended.err) == (2, True), ended.err
    assert sorted(cell.key for cell in Store(tmp_path / "results").cells()) == before


def test_answers_of_another_protocol_are_found_too(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What one `assay score` has asked of the model, the next one knows."""
    first = assay("score", str(results), "metric=[tau_loo]", "perturbation=[mask,delete]", "device=cpu")
    assert first.code == 0, first.err
    configured_model.free_model()
    monkeypatch.setattr(Classifier, "from_pretrained", lambda *_, **__: pytest.fail("the model was loaded"))
    again = assay("score", str(results), "metric=[faithfulness_estimate]", "perturbation=delete")
    assert again.code == 0, again.err
    assert "The model is needed" not in again.out
