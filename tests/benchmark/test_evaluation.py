"""A shard: an example's result depends on the example alone, and one that goes wrong is one NaN with a reason."""

from __future__ import annotations

import gc
import json
import weakref
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pytest
import torch

from assay import registry
from assay.benchmark.engine import Engine
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.records import Records
from assay.classifier import Classifier, transform
from assay.conversation import Attribution, Case, Explanation
from assay.encoding import Encoding, Row
from assay.errors import AssayError
from assay.example import Example
from assay.explainers.base import BlackBoxExplainer, Explainer, WhiteBoxExplainer
from assay.metrics.base import Measure, Metric
from assay.perturbation import Perturbation
from tests.benchmark.watching import changed, state, watched
from tests.tiny_models import tiny_classifier, tiny_model

PATHS = ("comprehensiveness", "sufficiency", "deletion", "insertion")
EXPLAINERS: dict[str, dict[str, Any]] = {
    "random": {"repeats": 3},
    "oracle": {"exact_up_to": 4},
    "first": {},
    "leave_one_out": {},
    "gradient": {},
    "gradient_x_input": {},
    "integrated_gradients": {"steps": 4},
    "attention": {},
    "lime": {"samples": 30},
    "kernel_shap": {"samples": 30},
}
TEXTS = [
    Example("a", ("a dull film .",), 0),
    Example("b", ("an unbelievable , funny story",), 1),
    Example("c", ("good",), 1),
    Example("d", ("nobody is", "two men"), 0),
    Example("e", ("how do i cook ?",), 1),
]
EXACT = {"forward_rows", "forward_tokens", "backward_rows", "backward_tokens"}


def explainers(*names: str) -> dict[str, Explainer]:
    return {name: registry.build("explainer", name, **EXPLAINERS[name]) for name in names or EXPLAINERS}


def evaluate(
    model: Classifier,
    examples: Sequence[Example],
    built: Mapping[str, Explainer],
    metrics: Sequence[str] = PATHS,
    perturbations: Sequence[str] = ("mask",),
    budget: int | None = None,
    **settings: Any,
) -> dict[str, Records]:
    evaluation = Evaluation(
        model,
        examples,
        {name: registry.build("metric", name) for name in metrics},
        {name: registry.build("perturbation", name) for name in perturbations},
        Settings(**settings),
        budget,
    )
    for name, explainer in built.items():
        evaluation.add_explainer(name, explainer)
    return evaluation.run()


def values(records: Records) -> dict[tuple[str, str, str], float]:
    return {(row["example"], row["perturbation"], row["metric"]): row["value"] for row in records.scores}


def assert_same(one: Mapping[str, Records], two: Mapping[str, Records]) -> None:
    """Equal up to rounding, whatever the order of the examples."""
    for name in one:
        expected = values(one[name])
        assert values(two[name]) == pytest.approx(expected, abs=1e-5, nan_ok=True), name
        scores = [
            {(row["example"], row["draw"], row["metric"]): row["scores"] for row in records[name].attributions}
            for records in (one, two)
        ]
        assert scores[0].keys() == scores[1].keys()
        # Rankings that differ only where the metric does not look are equally good to a search.
        for key, vector in scores[0].items() if name != "oracle" else ():
            assert scores[1][key] == pytest.approx(vector, abs=1e-4), (name, key)
        cost = [
            {row["example"]: {k: row[k] for k in EXACT} for row in records[name].examples} for records in (one, two)
        ]
        for example, spent in cost[0].items():
            assert cost[1][example] == pytest.approx(spent), (name, example)


@pytest.fixture(scope="module")
def reference() -> dict[str, Records]:
    """Ten explainers of all kinds on five examples in one shard."""
    return evaluate(tiny_classifier("bert"), TEXTS, explainers())


def test_the_batch_budget_changes_nothing(tiny_bert: Classifier, reference: dict[str, Records]) -> None:
    assert_same(reference, evaluate(tiny_bert, TEXTS, explainers(), budget=150))


def test_the_order_and_the_company_of_examples_change_nothing(
    tiny_bert: Classifier, reference: dict[str, Records]
) -> None:
    found = {name: Records() for name in EXPLAINERS}
    for shard in ([TEXTS[3]], [TEXTS[4], TEXTS[1]], [TEXTS[2], TEXTS[0]]):
        for name, records in evaluate(tiny_bert, shard, explainers()).items():
            found[name].extend(records)
    assert_same(reference, found)


def test_neither_scores_nor_cost_depend_on_who_runs_beside(
    tiny_bert: Classifier, reference: dict[str, Records]
) -> None:
    for name in ("lime", "leave_one_out", "oracle", "gradient_x_input"):
        assert_same({name: reference[name]}, evaluate(tiny_bert, TEXTS, explainers(name)))


def test_another_seed_changes_what_is_random_and_nothing_else(
    tiny_bert: Classifier, reference: dict[str, Records]
) -> None:
    other = evaluate(tiny_bert, TEXTS, explainers("random", "lime", "leave_one_out", "gradient"), seed=1)
    for name, random in (("random", True), ("lime", True), ("leave_one_out", False), ("gradient", False)):
        vectors = [[x for row in found.attributions for x in row["scores"]] for found in (other[name], reference[name])]
        assert np.allclose(*vectors, atol=1e-5) != random, name


def test_on_short_texts_nobody_beats_the_oracle(tiny_bert: Classifier) -> None:
    built = explainers() | {"oracle": registry.build("explainer", "oracle", exact_up_to=10)}
    found = evaluate(tiny_bert, TEXTS, built, perturbations=("mask", "delete"))
    oracle = values(found["oracle"])
    assert len(oracle) == len(TEXTS) * 2 * (6 + 6 + 1 + 1)
    for name, records in found.items():
        for key, value in values(records).items():
            if key[2] in PATHS:
                better = 1 if key[2] in ("comprehensiveness", "insertion") else -1
                assert better * oracle[key] >= better * value - 1e-5, (name, key)


def test_draws_are_averaged_in_the_score_not_in_the_attribution(tiny_bert: Classifier) -> None:
    records = evaluate(tiny_bert, TEXTS[:2], explainers("random"))["random"]
    assert [row["draw"] for row in records.attributions] == [0, 1, 2, 0, 1, 2]
    for example in TEXTS[:2]:
        drawn = [row["scores"] for row in records.attributions if row["example"] == example.id]
        alone = []
        for scores in drawn:
            evaluation = Evaluation(
                tiny_bert,
                [example],
                {"deletion": registry.build("metric", "deletion")},
                {"mask": registry.build("perturbation", "mask")},
                Settings(),
            )
            given = Attribution(evaluation.encodings[0].features, np.array(scores), evaluation.targets[0])
            evaluation.add_attributions("given", [given])
            (row,) = evaluation.run()["given"].scores
            alone.append(row["value"])
        assert values(records)[example.id, "mask", "deletion"] == pytest.approx(np.mean(alone), abs=1e-5)


@pytest.mark.parametrize("target", ["predicted", "gold", 0, 1, "LABEL_1"])
def test_the_target_is_the_class_that_is_asked_for(tiny_bert: Classifier, target: Any) -> None:
    records = evaluate(tiny_bert, TEXTS, explainers("first"), ("deletion",), target=target)["first"]
    for row, example in zip(records.examples, TEXTS, strict=True):
        predicted = int(np.argmax(row["logits"]))
        expected = {"predicted": predicted, "gold": example.label, "LABEL_1": 1}.get(target, target)
        assert (row["target"], row["predicted"], row["label"]) == (expected, predicted, example.label)
    for curve, row in zip(records.curves, records.examples, strict=True):
        full = torch.tensor(row["logits"]).double().softmax(0)[row["target"]]
        assert curve["y"][0] == pytest.approx(float(full), abs=1e-5)


def test_a_gold_target_without_a_label_is_refused(tiny_bert: Classifier) -> None:
    with pytest.raises(AssayError, match="'x' has no label"):
        evaluate(tiny_bert, [Example("x", ("good",))], explainers("first"), target="gold")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"output": "probabilty"}, "Unknown output 'probabilty'. Did you mean 'probability'"),
        ({"feature": "words"}, "Unknown feature 'words'. Did you mean 'word'"),
        ({"target": "LABEL_7"}, "no class 'LABEL_7'"),
        ({"target": 2}, "no class 2"),
        ({"target": None}, "target must be"),
        ({"target": True}, "target must be"),
        ({"target": 0.5}, "target must be"),
        ({"seed": "abc"}, "seed must be a whole number"),
    ],
)
def test_settings_that_make_no_sense_are_refused(tiny_bert: Classifier, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(AssayError, match=message):
        evaluate(tiny_bert, TEXTS[:1], {}, **settings)


class Odd(BlackBoxExplainer):
    """Does one thing for the example `b` and the right thing for all others."""

    def __init__(self, deed: Any) -> None:
        self.deed = deed

    def converse(self, case: Case) -> Any:
        if case.id == "b":
            return self.deed(case)
        return self.right(case)

    def right(self, case: Case) -> Any:
        yield np.ones((1, case.n), dtype=np.bool_)
        return np.arange(case.n)


def raises(case: Case) -> Any:
    raise ZeroDivisionError("no luck")


def returning(make: Any) -> Any:
    def deed(case: Case) -> Any:
        yield np.ones((1, case.n), dtype=np.bool_)
        return make(case.n)

    return deed


def with_value(value: float) -> Any:
    def make(n: int) -> Any:
        scores = np.ones(n)
        scores[2] = value
        return scores

    return returning(make)


DEEDS = {
    "raises at once": (raises, "ZeroDivisionError: no luck"),
    "too long": (returning(lambda n: np.ones(n + 1)), r"scores of shape (6,) for 5 features"),
    "too short": (returning(lambda n: np.ones(n - 1)), "shape (4,)"),
    "two axes": (returning(lambda n: np.ones((n, 1))), "shape (5, 1)"),
    "NaN": (with_value(np.nan), "the score of feature 2 (',') is nan"),
    "infinity": (with_value(np.inf), "the score of feature 2 (',') is inf"),
    "nothing": (returning(lambda n: None), "shape ()"),
    "words": (returning(lambda n: ["high"] * n), "not numbers"),
    "a gradient": (returning(lambda n: torch.ones(n, requires_grad=True)), "not numbers"),
}


@pytest.mark.parametrize("kind", DEEDS)
def test_an_explainer_that_goes_wrong_costs_that_example_alone(tiny_bert: Classifier, kind: str) -> None:
    deed, reason = DEEDS[kind]
    found = evaluate(tiny_bert, TEXTS[:3], {"odd": Odd(deed), **explainers("first")}, ("deletion", "comprehensiveness"))
    bad = [row for row in found["odd"].scores if row["example"] == "b"]
    assert len(bad) == 1 + 6
    assert all(np.isnan(row["value"]) and reason in row["reason"] for row in bad)
    good = [row for row in found["odd"].scores if row["example"] != "b"]
    assert all(np.isfinite(row["value"]) and row["reason"] is None for row in good)
    assert all(row["reason"] is None for row in found["first"].scores)
    (attribution,) = [row for row in found["odd"].attributions if row["example"] == "b"]
    assert attribution["scores"] is None
    assert reason in attribution["reason"]


class OddWhiteBox(WhiteBoxExplainer):
    """Does one thing where a batch holds a word, and gives ones elsewhere."""

    def __init__(self, word: int, deed: str) -> None:
        self.word, self.deed = word, deed

    def attribute(self, model: Classifier, batch: Any, target: Any) -> Any:
        scores = torch.ones(batch.input_ids.shape)
        holds = (batch.input_ids == self.word).any(1)
        if self.deed == "raises" and holds.any():
            raise RuntimeError("not this one")
        if self.deed == "NaN":
            scores[holds, 1] = torch.nan
        if self.deed == "shape" and holds.any():
            return scores[:, :-1]
        if self.deed == "no tensor" and holds.any():
            return None
        return scores


@pytest.mark.parametrize("deed", ["raises", "NaN", "shape", "no tensor"])
def test_a_white_box_explainer_that_goes_wrong_costs_that_example_alone(tiny_bert: Classifier, deed: str) -> None:
    examples = [Example(f"{i}", (f"a {word} film",)) for i, word in enumerate(("dull", "good", "long", "old"))]
    word = tiny_bert.tokenizer.convert_tokens_to_ids("good")
    records = evaluate(tiny_bert, examples, {"odd": OddWhiteBox(word, deed)}, ("deletion",))["odd"]
    assert [bool(np.isnan(row["value"])) for row in records.scores] == [False, True, False, False]
    assert [row["reason"] is None for row in records.scores] == [True, False, True, True]


class Returns(Metric):
    def __init__(self, result: Any) -> None:
        self.result = result

    @property
    def measures(self) -> tuple[Measure, ...]:
        return (Measure("mine", "higher", (0.0, 1.0)),)

    def converse(self, case: Case) -> Any:
        yield np.ones((1, case.n), dtype=np.bool_)
        return self.result


@pytest.mark.parametrize("result", [0.5, None, {"mine": 0.5}])
def test_a_metric_that_returns_no_scores_is_undefined(tiny_bert: Classifier, result: Any) -> None:
    evaluation = Evaluation(
        tiny_bert, TEXTS[:1], {"mine": Returns(result)}, {"mask": registry.build("perturbation", "mask")}, Settings()
    )
    evaluation.add_explainer("first", registry.build("explainer", "first"))
    (row,) = evaluation.run()["first"].scores
    assert np.isnan(row["value"])
    assert "not Scores" in row["reason"]


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
@pytest.mark.parametrize("text", [("",), ("  ",), ("", "")])
def test_an_empty_text_is_undefined_for_every_explainer_the_oracle_too(architecture: str, text: Any) -> None:
    if architecture == "gpt2":
        text = ("",)
    examples = [Example("empty", text, 0), TEXTS[0]]
    perturbations = ("mask", "delete") if architecture == "bert" else ("mask",)
    found = evaluate(
        tiny_classifier(architecture), examples, explainers("oracle", "first", "gradient"), PATHS, perturbations
    )
    for name, records in found.items():
        rows = [row for row in records.scores if row["example"] == "empty"]
        assert len(rows) == len(perturbations) * 14, name
        assert all(np.isnan(row["value"]) and "nothing that can be hidden" in row["reason"] for row in rows)
        assert all(row["reason"] is None for row in records.scores if row["example"] == "a")
        assert [row["example"] for row in records.examples] == ["empty", "a"]


def test_one_word_unknown_characters_and_a_text_over_the_limit_have_scores() -> None:
    model = Classifier(*tiny_model("bert", max_position_embeddings=16))
    examples = [Example("one", ("good",)), Example("unknown", ("日本 語",)), Example("long", ("dull film " * 20,))]
    records = evaluate(model, examples, explainers("leave_one_out"), PATHS, ("mask", "delete"))["leave_one_out"]
    assert all(np.isfinite(row["value"]) for row in records.scores)
    assert [row["truncated"] for row in records.examples] == [0, 0, 42 - 16]
    assert [len(row["features"]) for row in records.examples] == [1, 2, 14]


def test_finishing_is_told_once_for_each_explainer_and_example(tiny_bert: Classifier) -> None:
    told: list[int] = []
    evaluation = Evaluation(
        tiny_bert,
        [*TEXTS[:2], Example("empty", ("",))],
        {name: registry.build("metric", name) for name in ("deletion", "tau_loo")},
        {name: registry.build("perturbation", name) for name in ("mask", "delete")},
        Settings(),
        finished=lambda: told.append(1),
    )
    for name, explainer in explainers("random", "oracle", "lime").items():
        evaluation.add_explainer(name, explainer)
    evaluation.run()
    assert len(told) == 3 * 3


def test_explainers_and_metrics_share_what_they_ask(tiny_bert: Classifier) -> None:
    with watched(tiny_bert) as together:
        evaluate(tiny_bert, TEXTS[:2], explainers("leave_one_out"), ("tau_loo",))
    with watched(tiny_bert) as alone:
        evaluate(tiny_bert, TEXTS[:2], explainers("leave_one_out"), ())
    assert len(together.rows) == len(alone.rows)


def test_two_examples_of_one_id_are_refused(tiny_bert: Classifier) -> None:
    with pytest.raises(AssayError, match="same id"):
        evaluate(tiny_bert, [TEXTS[0], TEXTS[0]], {})


def test_the_model_and_the_random_state_are_left_as_they_were() -> None:
    model = Classifier(*tiny_model("bert"))
    model.model.train()
    before = state(model.model)
    evaluate(model, TEXTS[:2], explainers(), ("deletion", "tau_loo"))
    assert changed(before, state(model.model)) == []


def test_a_shard_leaves_nothing_behind(tiny_bert: Classifier) -> None:
    gone = []
    for _ in range(3):
        evaluation = Evaluation(
            tiny_bert,
            TEXTS[:2],
            {"deletion": registry.build("metric", "deletion")},
            {"mask": registry.build("perturbation", "mask")},
            Settings(),
        )
        for name, explainer in explainers("leave_one_out", "gradient").items():
            evaluation.add_explainer(name, explainer)
        evaluation.run()
        gone += [weakref.ref(evaluation), weakref.ref(evaluation.engine)]
    del evaluation
    gc.collect()
    assert all(reference() is None for reference in gone)


def test_a_gradient_is_computed_once_and_charged_to_everyone_who_reads_it(tiny_bert: Classifier) -> None:
    alone = evaluate(tiny_bert, TEXTS, explainers("gradient_x_input"))["gradient_x_input"]
    before, borrowed = tiny_bert.cost.copy(), tiny_bert.borrowed.copy()
    together = evaluate(tiny_bert, TEXTS, explainers("gradient", "gradient_x_input"), metrics=())
    assert tiny_bert.cost.since(before).backward_rows == len(TEXTS)
    for name in ("gradient", "gradient_x_input"):
        assert [row["backward_rows"] for row in together[name].examples] == [1.0] * len(TEXTS)
    assert tiny_bert.borrowed.since(borrowed).seconds > 0
    for one, two in zip(alone.attributions, together["gradient_x_input"].attributions, strict=True):
        np.testing.assert_allclose(one["scores"], two["scores"], rtol=1e-6)


class Halves(WhiteBoxExplainer):
    """Scores the tokens of a word 1, -3, 1 and -1; says something about itself."""

    def attribute(self, model: Classifier, batch: Any, target: Any) -> Explanation:
        scores = torch.zeros(batch.input_ids.shape)
        for row, features in enumerate(batch.feature_of_token.tolist()):
            for place, feature in enumerate(features):
                if feature >= 0:
                    scores[row, place] = (1.0, -3.0, 1.0, -1.0)[features[:place].count(feature)]
        return Explanation(scores, {"length": torch.tensor(batch.lengths).float()})


@pytest.mark.parametrize(("subwords", "expected"), [("sum", -2.0), ("mean", -0.5), ("max", -3.0), ("first", 1.0)])
def test_a_word_scores_what_is_asked_for_of_its_tokens(tiny_bert: Classifier, subwords: Any, expected: float) -> None:
    example = Example("x", ("good uniformly film",))
    feature_of_token = tiny_bert.encode(example).feature_of_token
    assert list(feature_of_token).count(1) == 4
    record = evaluate(tiny_bert, [example], {"halves": Halves(subwords)}, ())["halves"].attributions[0]
    assert record["scores"] == pytest.approx([1.0, expected, 1.0])
    assert json.loads(record["report"]) == {"length": len(feature_of_token)}


def test_an_unknown_way_with_subwords_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown subwords 'sums'\. Did you mean 'sum'"):
        Halves("sums")  # type: ignore[arg-type]


class TwoFillings(Perturbation):
    """Hides a feature twice: with the mask token and with the unknown token."""

    draws = 2

    def rows(self, encoding: Encoding, keep: Any, hidden_id: int) -> list[Row]:
        kept = np.append(keep, np.ones((len(keep), 1), dtype=bool), axis=1)[:, encoding.feature_of_token]
        return [
            Row(np.where(visible, encoding.row.ids, filling), encoding.row.segments)
            for visible in kept
            for filling in (4, 1)
        ]


@pytest.mark.parametrize("output", ["probability", "logit", "log_probability"])
def test_outputs_are_averaged_over_the_draws_of_a_perturbation(tiny_bert: Classifier, output: Any) -> None:
    engine = Engine(tiny_bert, output)
    encoding = tiny_bert.encode(TEXTS[0])
    keep = np.array([[True, False, True, True], [False, True, True, False]])
    heard, outcomes = [], []

    def ask() -> Any:
        heard.append((yield keep))

    engine.add(ask(), encoding, TwoFillings(), outcomes.append)
    engine.run()
    logits = torch.from_numpy(tiny_bert.answer(TwoFillings().rows(encoding, keep, 0))).double().reshape(2, 2, -1)
    mean = logits.mean(1) if output == "logit" else logits.softmax(-1).mean(1)
    expected = mean.log() if output == "log_probability" else mean
    np.testing.assert_allclose(heard[0], expected, atol=1e-6)
    (outcome,) = outcomes
    stored = transform(torch.from_numpy(outcome.logits).double(), output)
    np.testing.assert_allclose(stored, expected, atol=1e-6)
    assert outcome.cost.forward_rows == 4


def test_why_whole_texts_cannot_be_asked_is_said() -> None:
    class Broken(Perturbation):
        def rows(self, encoding: Encoding, keep: Any, hidden_id: int) -> Sequence[Row]:
            raise ValueError("no rows here")

    with pytest.raises(ValueError, match="no rows here"):
        Evaluation(tiny_classifier(), TEXTS, {}, {"broken": Broken()}, Settings())
