"""The whole command: what it computes, keeps, prints and refuses."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from assay.benchmark.store import Store
from tests.benchmark.cli import Ended, assay, save_model, save_task
from tests.tiny_models import CORPUS

METHODS = """
import hashlib

import numpy as np

from assay.explainers.base import BlackBoxExplainer


class Omission(BlackBoxExplainer):
    def __init__(self, scale=1.0):
        if scale == 0:
            raise ValueError("scale must not be 0")
        self.scale = scale

    def converse(self, case):
        answers = yield np.vstack([np.ones((1, case.n), bool), ~np.eye(case.n, dtype=bool)])
        return self.scale * (answers[0, case.target] - answers[1:, case.target])


class Hashes(BlackBoxExplainer):
    def converse(self, case):
        yield ~np.eye(case.n, dtype=bool)
        digests = [hashlib.md5(word.text.encode()).hexdigest() for word in case.features]
        return np.array([int(digest[:6], 16) / 2**24 - 0.5 for digest in digests])


class Short(BlackBoxExplainer):
    def converse(self, case):
        yield ~np.eye(case.n, dtype=bool)
        return np.zeros(case.n + 1)


def plain(predict, features, rounds=1):
    n = len(features)
    return predict(np.ones((1, n), bool)) - predict(~np.eye(n, dtype=bool))
"""


@dataclass(frozen=True)
class Place:
    """A folder with a module of methods, a task, a model, and the models of the planted tasks."""

    folder: Path
    overrides: tuple[str, ...]

    def validate(self, target: str, *overrides: str, out: str = "out") -> Ended:
        return assay("validate", target, *self.overrides, *overrides, "--out", str(self.folder / out))

    def report(self, out: str = "out") -> dict[str, Any]:
        content: dict[str, Any] = json.loads((self.folder / out / "report.json").read_text("utf-8"))
        return content


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    folder = tmp_path_factory.mktemp("validate")
    (folder / "stranger.py").write_text(METHODS)
    save_model(folder / "model")
    texts = tuple(" ".join(line.split()[:7]) for line in CORPUS)
    save_task(folder, texts)
    ended = assay("train", "task=planted_word", f"output={folder / 'planted'}/planted_word", "device=cpu")
    assert ended.code == 0, ended.err
    return Place(
        folder,
        (
            *("task=sst2", f"task.path={folder}", f"model={folder / 'model'}", "model.device=cpu"),
            *("metric=[comprehensiveness,sufficiency,cost]", "explainer=leave_one_out", "allow_low_accuracy=true"),
            *(f"planted.models={folder / 'planted'}", "planted.tasks=planted_word", "planted.size=8"),
        ),
    )


@pytest.fixture(autouse=True)
def module_here(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(place.folder)
    monkeypatch.chdir(place.folder)


@pytest.fixture(scope="module")
def validated(place: Place) -> Ended:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(place.folder)
        return place.validate("stranger:Omission", "method.scale=2.0")


def test_a_method_is_put_beside_the_planted_truth_and_the_baselines(place: Place, validated: Ended) -> None:
    assert validated.code == 0, validated.err
    content = place.report()
    assert content["contract"]["holds"] is True
    assert content["method"]["settings"]["scale"] == 2.0
    (truth,) = content["planted_truth"]["tasks"]
    found = {(one["metric"], one["other"]): one for one in truth["comparisons"]}
    precision = found["ground_truth_precision", "random"]
    assert (precision["value"], precision["verdict"]) == (1.0, "better")
    (section,) = content["comparison"]["sections"]
    assert {one["metric"] for one in section["comparisons"]} == {"comprehensiveness", "sufficiency"}
    same = [one for one in section["comparisons"] if one["other"] == "leave_one_out"]
    assert [(one["verdict"], one["advantage"]) for one in same] == [("not distinguishable", 0.0)] * 2
    assert section["costs"][1]["rows_ratio"] == 1.0
    assert "not dist." in validated.out
    assert f"Report: {place.folder / 'out' / 'report.html'}" in validated.out


def test_its_cells_are_ordinary_cells_and_the_commands_lead_to_them(place: Place, validated: Ended) -> None:
    cells = [cell for cell in Store(place.folder / "out" / "results").cells() if cell.explainer == "omission"]
    assert {cell.protocol["task"]["name"] for cell in cells} == {"sst2", "planted_word"}
    for section in (*place.report()["planted_truth"]["tasks"], *place.report()["comparison"]["sections"]):
        command = section["commands"]["omission"]
        assert command.startswith("assay run +explainers.omission._target_=stranger.Omission")
    (key,) = {cell.key for cell in cells if cell.protocol["task"]["name"] == "sst2"}
    again = assay(*_words(command))
    assert again.code == 0, again.err
    assert "finished before" in again.out
    assert key in {cell.key for cell in Store(place.folder / "out" / "results").cells()}


def test_given_again_it_computes_nothing_again(place: Place, validated: Ended) -> None:
    before = place.report()
    again = place.validate("stranger:Omission", "method.scale=2.0")
    assert again.code == 0
    assert again.out.count("cells were finished before") == 2
    after = place.report()
    for content in (before, after):
        for check in content["contract"]["checks"]:
            del check["seconds"]
    assert before == after


def test_what_gives_no_scores_is_not_compared_and_the_report_says_so_first(place: Place) -> None:
    ended = place.validate("stranger:Short", out="short")
    assert ended.code == 1
    content = place.report("short")
    assert content["contract"]["holds"] is False
    assert content["verdict"][0].startswith("The contract does not hold")
    assert "one score a feature" in content["planted_truth"]["skipped"]
    assert content["comparison"]["sections"] == []
    assert (
        (place.folder / "short" / "report.md").read_text().splitlines()[2].startswith("**The contract does not hold: ")
    )


def test_a_random_method_in_disguise_is_found_out(place: Place) -> None:
    """It asks the model and then does not listen: the contract says so, and the comparison is made all the same."""
    ended = place.validate("stranger:Hashes", out="hashes")
    assert ended.code == 1
    content = place.report("hashes")
    failed = {check["name"] for check in content["contract"]["checks"] if check["status"] == "failed"}
    assert "reacts to a randomised model" in failed
    (truth,) = content["planted_truth"]["tasks"]
    assert {one["verdict"] for one in truth["comparisons"] if one["other"] == "random"} == {"not distinguishable"}
    (section,) = content["comparison"]["sections"]
    assert all(one["verdict"] != "better" for one in section["comparisons"])


def test_without_task_and_model_a_function_is_validated_on_the_planted_truth_alone(place: Place) -> None:
    ended = assay("validate", "stranger:plain", "method.rounds=2", *place.overrides[-3:], "explainer=leave_one_out")
    assert ended.code == 0, ended.err
    content = json.loads((place.folder / "validation" / "plain" / "report.json").read_text("utf-8"))
    assert content["method"]["kind"] == "function"
    assert "no task and model were named" in content["comparison"]["skipped"]
    assert len(content["planted_truth"]["tasks"]) == 1


def test_attributions_from_a_file_get_the_verdict_of_the_method_that_made_them(place: Place, validated: Ended) -> None:
    assert assay("export", "attributions", str(place.folder / "out" / "results"), "--out", "exported").code == 0
    (stored,) = (place.folder / "exported" / "sst2").rglob("omission*.jsonl")
    ended = place.validate(str(stored), out="file")
    assert ended.code == 0, ended.err
    content = place.report("file")
    assert content["method"]["kind"] == "attributions"
    assert content["contract"]["holds"] is None
    assert content["planted_truth"]["skipped"].startswith("a file of attributions")
    (section,), (made,) = (report["comparison"]["sections"] for report in (content, place.report()))
    assert section["comparisons"] == made["comparisons"]
    assert section["costs"][0]["rows"] is None
    assert "What it costs is not known" in " ".join(content["verdict"])
    lines = stored.read_text("utf-8").splitlines()
    (place.folder / "short.jsonl").write_text("\n".join(lines[:3]), "utf-8")
    refused = place.validate("short.jsonl", out="lacking")
    assert refused.code == 2
    assert "has no attribution of" in refused.err
    assert not (place.folder / "lacking" / "report.json").exists()


@pytest.mark.parametrize(
    ("target", "overrides", "message"),
    [
        ("stranger:Omision", (), "Did you mean 'Omission'?"),
        ("nowhere:Omission", (), "There is no module 'nowhere'"),
        ("stranger:Omission", ("method.scael=1",), "scael"),
        ("stranger:Omission", ("method.scale=0",), "scale must not be 0"),
        ("stranger:Omission", ("method.scale=1,2",), "one setting of one method"),
        ("stranger:Omission", ("planted.sise=3",), "Did you mean 'size'?"),
        ("stranger:Omission", ("planted.size=0",), "planted.size must be a whole number"),
        ("stranger:Omission", ("planted.tasks=[planted_wrod]",), "Did you mean 'planted_word' or"),
        ("stranger:Omission", ("results=elsewhere",), "--out"),
        ("stranger:Omission", ("task=sst3",), "Did you mean 'sst2'?"),
        ("stranger:Omission", ("explainer=[lmie]",), "Did you mean"),
        ("stranger:Omission", ("task.split=tset",), "tset"),
        ("stranger:Omission", ("model.path=nowhere/at/all",), "nowhere/at/all"),
    ],
)
def test_bad_input_is_told_before_any_work(place: Place, target: str, overrides: tuple[str, ...], message: str) -> None:
    kept = [one for one in place.overrides if one.partition("=")[0] not in {o.partition("=")[0] for o in overrides}]
    ended = assay("validate", target, *kept, *overrides, "--out", str(place.folder / "bad"))
    assert ended.code == 2
    assert message in ended.err
    assert "Traceback" not in ended.err
    assert "the contract, on" not in ended.out
    assert not (place.folder / "bad" / "report.json").exists()


def test_the_composed_configuration_can_be_seen(place: Place) -> None:
    ended = assay("validate", "stranger:Omission", *place.overrides, "method.scale=3", "--show-config")
    assert ended.code == 0
    assert "_target_: stranger.Omission" in ended.out
    assert "scale: 3" in ended.out
    assert "size: 8" in ended.out


def _words(command: str) -> list[str]:
    import shlex

    return shlex.split(command)[1:]
