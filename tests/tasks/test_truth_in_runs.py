"""What tasks know of words, in whole runs: rationales of the explained class, highlights apart, shortcuts checked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from assay.benchmark.cell import Cell
from assay.benchmark.store import Store
from assay.benchmark.summary import overall, summarise
from tests.benchmark.cli import Ended, assay, save_model
from tests.tasks.test_glue import write
from tests.tiny_models import CORPUS

NLI = ("contradiction", "neutral", "entailment")  # another order than the task's


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("truth")
    save_model(folder / "sentiment", ("positive", "negative"))
    save_model(folder / "nli", NLI)
    texts = [f"{' '.join(text.split()[:3])} {number}" for number, text in enumerate(CORPUS * 3)]
    write(folder, "sst2", "validation", {"sentence": texts, "label": [number % 2 for number in range(len(texts))]})
    pairs = {
        "premise": ["the film is long .", "two men are playing ."],
        "hypothesis": ["a funny story", "nobody is outside"],
        "label": [0, 2],
        "hypothesis_rationale": [[[0, 1, 0], [0, 1, 1]], [[1, 0, 0]]],
    }
    write(folder, "esnli", "validation", pairs)
    return folder


def run(place: Path, results: Path, *overrides: str) -> Ended:
    return assay(
        "run",
        f"task.path={place}",
        f"results={results}",
        "explainer=first",
        "tracker=none",
        "model.device=cpu",
        "allow_low_accuracy=true",
        *overrides,
    )


def cell(results: Path, name: str = "first") -> Cell:
    return next(cell for cell in Store(results).cells() if cell.explainer == name)


def test_highlights_serve_plausibility_alone_and_have_no_part_in_faithfulness(place: Path, tmp_path: Path) -> None:
    metrics = "metric=[comprehensiveness,ground_truth,plausibility]"
    ended = run(place, tmp_path, "task=esnli", f"model={place / 'nli'}", metrics)
    assert ended.code == 0, ended.err
    assert "ground_truth is left out: esnli does not know which words truly decide." in ended.out
    found = cell(tmp_path)
    examples = found.table("examples")
    assert [len(row) for row in examples["highlights"]] == [2, 1]
    np.testing.assert_array_equal(examples["highlights"][1][0], [np.nan] * 5 + [1, 0, 0])
    assert examples["rationale"].tolist() == [None, None]
    scores = found.scores.pivot(index="example", columns="metric", values="value")
    # Of the hypothesis alone; `first` puts its first word first, which the second pair's annotator marked.
    assert scores["plausibility_token_f1"].tolist()[1] == 1.0
    assert 0 <= scores["plausibility_token_f1"].tolist()[0] < 1
    cells = Store(tmp_path).cells()
    assert set(overall(cells)["measures"].sum()) <= {"comprehensiveness"}
    table = summarise(cells).query("explainer == 'first'").set_index("metric")
    assert np.isnan(table.loc["plausibility_token_f1", "skill"])
    assert np.isfinite(table.loc["plausibility_token_f1", "mean"])


def test_without_highlights_there_is_no_plausibility(place: Path, tmp_path: Path) -> None:
    ended = run(place, tmp_path, "task=sst2", f"model={place / 'sentiment'}", "metric=plausibility")
    assert ended.code == 2
    assert "No metric is left: in sst2 nobody marked the words that they found to decide." in ended.err


@pytest.mark.parametrize("target", ["gold", "predicted", "negative"])
def test_in_a_hybrid_the_true_words_are_those_of_the_class_that_is_explained(
    place: Path, tmp_path: Path, target: str
) -> None:
    chosen = ("task=hybrid", "task.sentences=3", f"model={place / 'sentiment'}", f"target={target}")
    ended = run(place, tmp_path, *chosen, "metric=[pointing_game,ground_truth]")
    assert ended.code == 0, ended.err
    examples = cell(tmp_path).table("examples").set_index("example")
    for _, row in examples.iterrows():
        # A sentence ends with its number, whose parity is its class; the model has its classes the other way round.
        classes, waiting = [], 0
        for word in row["features"]:
            waiting += 1
            if word.isdigit():
                classes += [1 - int(word) % 2] * waiting
                waiting = 0
        assert list(row["rationale"]) == [one == row["target"] for one in classes]
        if target == "gold":
            assert sum(row["rationale"]) > len(classes) / 2 - 2
            assert row["target"] == row["label"]
        if target == "negative":
            assert row["target"] == 1
    scores = cell(tmp_path).scores.query("metric == 'pointing_game'").set_index("example")["value"]
    for name, row in examples.iterrows():
        assert scores[name] == float(row["rationale"][0])  # `first` points at the first word


def test_a_shortcut_that_the_model_does_not_use_is_no_truth_about_it(place: Path, tmp_path: Path) -> None:
    chosen = ("task=shortcut", "task.variant=ordered", f"model={place / 'sentiment'}", "metric=ground_truth")
    ended = run(place, tmp_path, *chosen)
    assert ended.code == 2
    assert "The planted words are not the truth about this model: it follows the planted words in" in ended.err
    assert not Store(tmp_path).cells()
    ended = run(place, tmp_path, *chosen, "task.minimum_reliance=null")
    assert ended.code == 0, ended.err
    assert "shortcut_ordered_sst2 (30 of validation)" in ended.out
    assert "it follows the planted words in" in " ".join(ended.out.split())
    assert cell(tmp_path).protocol["task"]["name"] == "shortcut_ordered_sst2"


def test_the_parts_of_a_task_are_named_on_the_command_line(place: Path, tmp_path: Path) -> None:
    shown = assay("train", "--show-config", "task=shortcut", "task.of=mnli", "task.variant=contextual")
    settings = OmegaConf.to_container(OmegaConf.create(shown.out), resolve=True)
    assert isinstance(settings, dict)
    assert settings["output"] == "models/shortcut_contextual_mnli"
    ended = run(place, tmp_path, "task=shortcut", "task.variant=orderd", f"model={place / 'sentiment'}")
    assert ended.code == 2
    assert "Unknown task.variant 'orderd'. Did you mean 'ordered'" in ended.err
