"""Metrics that judge methods: what they are handed, where their scores go, and that nothing of it is lost."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import assay
from assay.benchmark.cell import Cell
from assay.benchmark.method import MethodAtWork
from assay.benchmark.store import Store
from assay.classifier import Classifier
from assay.conversation import Attribution
from assay.errors import AssayError, Undefined
from assay.metrics.base import ALL, Measure, Method, MethodMetric, Scores
from tests.benchmark.cli import Ended, save_model, save_task
from tests.benchmark.cli import assay as command
from tests.tiny_models import CORPUS, tiny_classifier

calls: list[str] = []


class OtherSeed(MethodMetric):
    """The largest difference between the scores of two seeds."""

    def __init__(self, fails: str = "", background: int = 0) -> None:
        self.fails = fails
        self.background = background

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (Measure("other_seed", "lower", (0.0, float("inf"))), Measure("seen", "none", (0, 1e9), headline=False))

    def check(self, model: Classifier) -> None:
        if self.fails == "check":
            raise AssayError("this model has no seed.")

    def judge(self, method: Method) -> Sequence[Scores]:
        calls.append(method.name)
        if self.fails == "judge":
            raise Undefined("nothing to compare")
        if self.fails == "length":
            return []
        found = []
        for one, two in zip(method.attributions, method.explain(seed=method.seed + 1), strict=True):
            if isinstance(one, Undefined) or isinstance(two, Undefined):
                found.append(Scores({"other_seed": np.nan}, {"other_seed": str(one)}))
            else:
                found.append(
                    Scores(
                        {"other_seed": float(np.abs(one.scores - two.scores).max()), "seen": float(len(method.train))}
                    )
                )
        return found


class Again(MethodMetric):
    """The largest difference between the run's scores, as they are stored, and those of explaining once more."""

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (Measure("again", "none", (0.0, float("inf"))),)

    def judge(self, method: Method) -> Sequence[Scores]:
        return [
            Scores({"again": np.nan}, {"again": str(one)})
            if isinstance(one, Undefined) or isinstance(two, Undefined)
            else Scores({"again": float(np.abs(one.scores - two.scores).max())})
            for one, two in zip(method.attributions, method.explain(), strict=True)
        ]


class Twice(MethodMetric):
    """Judges under each perturbation: the target's output with everything hidden."""

    each_perturbation = True

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (Measure("hidden", "none", (0.0, 1.0)),)

    def judge(self, method: Method) -> Sequence[Scores]:
        nothing = [np.zeros((1, encoding.n), dtype=np.bool_) for encoding in method.encodings]
        assert [len(rows) for rows in method.hide(nothing)] == [1] * len(nothing)
        return [Scores({"hidden": float(answer[0, 0])}) for answer in method.answer(nothing)]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("method")
    save_model(folder / "model")
    save_task(folder / "data", (*CORPUS[:4], ""))
    (folder / "data" / "sst2" / "train.parquet").write_bytes(
        (folder / "data" / "sst2" / "validation.parquet").read_bytes()
    )
    return folder


def run(place: Path, results: Path, *overrides: str, metric: str = "OtherSeed") -> Ended:
    return command(
        "run",
        f"model={place / 'model'}",
        "task=sst2",
        f"task.path={place / 'data'}",
        f"results={results}",
        "explainer=[leave_one_out,rise]",
        "metric=deletion",
        f"+metrics.mine._target_={__name__}.{metric}",
        "tracker=none",
        "model.device=cpu",
        "allow_low_accuracy=true",
        "shard_size=2",
        *overrides,
    )


def values(cell: Cell, measure: str) -> list[float]:
    scores = cell.scores
    found: list[float] = scores.loc[scores["metric"] == measure, "value"].tolist()
    return found


def test_judgements_stand_beside_the_scores_and_a_search_is_not_judged(place: Path, tmp_path: Path) -> None:
    calls.clear()
    ended = run(place, tmp_path, f"+metrics.mine.background={ALL}")
    assert ended.code == 0, ended.err
    cells = {cell.explainer: cell for cell in Store(tmp_path).cells()}
    assert calls == ["leave_one_out", "rise", "random"]
    alone = values(cells["leave_one_out"], "other_seed")
    assert len(alone) == 5
    assert alone[:4] == [0.0] * 4
    assert np.isnan(alone[4])
    assert max(values(cells["rise"], "other_seed")[:4]) > 0
    assert values(cells["rise"], "seen")[:4] == [5.0] * 4
    assert values(cells["oracle"], "other_seed") == []
    undefined = cells["rise"].scores.query("metric == 'other_seed'")["reason"].iloc[4]
    assert undefined == "the text has nothing that can be hidden"
    assert "background_fingerprint" in cells["rise"].protocol["metrics"]["mine"]


def test_a_judgement_that_was_finished_is_not_made_again(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls.clear()
    whole = tmp_path / "whole"
    assert run(place, whole).code == 0
    finish = Store.finish
    monkeypatch.setattr(Store, "finish", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    killed = tmp_path / "killed"
    assert run(place, killed).code == 130
    assert len(calls) == 6
    monkeypatch.setattr(Store, "finish", finish)
    assert run(place, killed).code == 0
    assert len(calls) == 6
    for one, two in zip(Store(whole).cells(), Store(killed).cells(), strict=True):
        assert one.scores.equals(two.scores)


@pytest.mark.parametrize(
    ("fails", "reason"),
    [("judge", "nothing to compare"), ("length", "ValueError: mine returned 0 results for 5 examples")],
)
def test_a_judgement_that_fails_is_undefined_with_its_reason(
    place: Path, tmp_path: Path, fails: str, reason: str
) -> None:
    assert run(place, tmp_path, f"+metrics.mine.fails={fails}").code == 0
    cell = next(cell for cell in Store(tmp_path).cells() if cell.explainer == "rise")
    rows = cell.scores.query("metric == 'other_seed'")
    assert rows["reason"].tolist() == [reason] * 5
    assert cell.meta["counts"]["undefined"]["other_seed"] == 5


def test_what_cannot_be_measured_on_a_model_is_refused_before_the_work(place: Path, tmp_path: Path) -> None:
    ended = run(place, tmp_path, "+metrics.mine.fails=check")
    assert ended.code == 2
    assert "mine: this model has no seed." in ended.err
    assert Store(tmp_path).cells() == []


def test_a_metric_may_judge_under_each_perturbation(place: Path, tmp_path: Path) -> None:
    assert run(place, tmp_path, "perturbation=[mask,delete]", metric="Twice").code == 0
    cell = next(cell for cell in Store(tmp_path).cells() if cell.explainer == "rise")
    wide = cell.scores.query("metric == 'hidden'").pivot(index="example", columns="perturbation", values="value")
    assert set(wide.columns) == {"mask", "delete"}
    # The empty text has nothing that could be hidden, so both ways leave it as it is.
    assert (~np.isclose(wide["mask"], wide["delete"])).sum() == 4


def test_from_python_a_method_is_judged_too_and_attributions_alone_are_not(place: Path) -> None:
    model = Classifier.from_pretrained(place / "model", device="cpu")
    task = assay.load_task("sst2", path=str(place / "data"), size=3)
    frame = assay.evaluate(model, "rise", task, metrics=["deletion", OtherSeed()])
    assert frame.columns.tolist() == ["explainer", "id", "deletion", "other_seed"]
    assert frame.query("explainer == 'rise'")["other_seed"].min() > 0
    assert frame.query("explainer == 'oracle'")["other_seed"].isna().all()
    with pytest.raises(AssayError, match=r"OtherSeed: this model has no seed"):
        assay.evaluate(model, "rise", task, metrics=[OtherSeed(fails="check")])
    judges: Any = [OtherSeed()]
    with pytest.raises(AssayError, match=r"OtherSeed has a method explain again"):
        assay.score(model, ["good"], [[1.0]], metrics=judges)


def method_on(model: Classifier, explainer: str, **settings: Any) -> MethodAtWork:
    from assay import registry
    from assay.benchmark.evaluation import Settings
    from assay.example import Example

    examples = [Example(f"e{place}", (text,), label=0) for place, text in enumerate(CORPUS[:3])]
    perturbations = {"mask": registry.build("perturbation", "mask")}
    built = registry.build("explainer", explainer, **settings)
    targets, foils = [0, 1, 0], [None] * 3
    method = MethodAtWork(
        explainer, built, model, examples, targets, foils, perturbations, Settings(), background=lambda _: ()
    )
    method.attributions = method.explain()
    return method


def scores_of(attributions: Sequence[Attribution | Undefined]) -> list[list[float]]:
    return [one.scores.tolist() for one in attributions if isinstance(one, Attribution)]


@pytest.mark.parametrize("explainer", ["gradient_x_input", "leave_one_out", "rise"])
def test_explaining_again_changes_nothing_but_what_was_asked_for(explainer: str) -> None:
    model, other = tiny_classifier("bert"), tiny_classifier("bert", seed=7)
    method = method_on(model, explainer)
    before = scores_of(method.attributions)
    assert [one.target for one in method.attributions if isinstance(one, Attribution)] == [0, 1, 0]
    assert scores_of(method.explain()) == before
    assert scores_of(method.explain(targets=[1, 1, 1]))[1] == before[1]
    assert scores_of(method.explain(targets=[1, 1, 1]))[0] != before[0]
    elsewhere = method.explain(model=other)
    assert [one.target for one in elsewhere if isinstance(one, Attribution)] == [0, 1, 0]
    assert scores_of(elsewhere) == scores_of(method_on(other, explainer).attributions)
    assert scores_of(method.explain()) == before
    turned = method.explain(encodings=method.encodings[::-1], examples=method.examples[::-1], targets=[0, 1, 0])
    assert scores_of(turned) == before[::-1]


@pytest.mark.parametrize("settings", [(), ("contrast=runner_up", "output=logit"), ("feature=token", "target=gold")])
def test_what_is_handed_on_is_what_the_run_found(place: Path, tmp_path: Path, settings: tuple[str, ...]) -> None:
    ended = run(place, tmp_path, *settings, metric="Again")
    assert ended.code == 0, ended.err
    for cell in Store(tmp_path).cells():
        if cell.explainer != "oracle":
            found = cell.scores.query("metric == 'again'")["value"]
            assert found.notna().sum() == 4
            assert found.max() < 1e-5


@pytest.mark.parametrize("explainer", ["gradient_x_input", "leave_one_out"])
def test_another_model_is_asked_against_the_class_of_the_run(explainer: str) -> None:
    from assay import registry
    from assay.benchmark.evaluation import Evaluation, Settings
    from assay.example import Example

    model, other = tiny_classifier("bert", num_labels=3), tiny_classifier("bert", num_labels=3, seed=7)
    examples = [Example(f"e{place}", (text,)) for place, text in enumerate(CORPUS)]
    mask, settings = {"mask": registry.build("perturbation", "mask")}, Settings(contrast="runner_up")
    built = registry.build("explainer", explainer)
    of_run, by_itself = (Evaluation(one, examples, {}, mask, settings) for one in (model, other))
    assert of_run.foils != by_itself.foils, "the two models have the same runners-up, so that nothing is tested"
    method = MethodAtWork(
        explainer, built, model, examples, of_run.targets, of_run.foils, mask, settings, background=lambda _: ()
    )
    found = scores_of(method.explain(model=other))
    for place, example in enumerate(examples):
        target, foil = of_run.targets[place], of_run.foils[place]
        alone = Evaluation(other, [example], {}, mask, Settings(target=target, contrast=foil))
        alone.add_explainer(explainer, built)
        assert found[place] == pytest.approx(alone.run()[explainer].attributions[0]["scores"], abs=1e-5)


def test_another_seed_draws_other_fillings() -> None:
    from assay.infilling import Infill
    from tests.tiny_masked_lm import tiny_masked_lm

    method = method_on(tiny_classifier("bert"), "leave_one_out")
    explainer: Any = method._explainer
    explainer.perturbation = Infill(tiny_masked_lm(), samples=2)
    explainer.perturbation.check(method.model)
    before = scores_of(method.explain())
    assert scores_of(method.explain(seed=1)) != before
    assert scores_of(method.explain()) == before
