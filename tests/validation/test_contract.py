"""The contract holds for what ships, and each way to break it is found by its own check."""

from __future__ import annotations

import importlib
import random
import re
import sys
import warnings
from pathlib import Path
from pkgutil import iter_modules
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import assay
from assay import registry
from assay.benchmark.bridge import Bridge
from assay.errors import AssayError
from assay.explainers.controls import First
from assay.validation.contract import check_contract
from assay.validation.contract_checks import CHECKS
from assay.validation.small_model import small_classifier
from assay.validation.trial import Trial
from tests.explainers import rows
from tests.tiny_models import tiny_classifier, tiny_prompted
from tests.validation import broken_explainers as zoo

QUICK = {
    row.name: row.quick
    for family in iter_modules(rows.__path__)
    for row in importlib.import_module(f"{rows.__name__}.{family.name}").ROWS
}
QUICK["oracle"] = {"exact_up_to": 2, "width": 1, "candidates": 1}

MODEL = "reacts to a randomised model"
# What never looks at the model.
CONTROLS = {name: [MODEL] for name in ("random", "first", "last", "length", "idf")}


@pytest.fixture(scope="module")
def model():
    """A long text is cut off after 62 words, which is long enough to tell who cannot read it."""
    classifier = small_classifier()
    classifier.tokenizer.model_max_length = 64
    return classifier


def failed(checks):
    return [check.name for check in checks if check.status == "failed"]


@pytest.mark.parametrize("name", registry.names_with_defaults("explainer"))
def test_every_explainer_that_ships_keeps_the_contract_and_a_control_does_not_look_at_the_model(name, model):
    # Its masked language model is that of another vocabulary.
    reads = tiny_classifier("bert") if name == "olm" else model
    checks = check_contract(lambda: registry.build("explainer", name, **QUICK.get(name, {})), reads)
    assert failed(checks) == CONTROLS.get(name, []), [check for check in checks if check.status == "failed"]
    assert [check.name for check in checks] == list(CHECKS)


BROKEN = {
    zoo.SeedsNumpy: ("leaves everything as it was", "it changes numpy's global random state"),
    zoo.DrawsFromPython: ("leaves everything as it was", "it changes Python's global random state"),
    zoo.SilencesWarnings: ("leaves everything as it was", "it changes the warnings filters"),
    zoo.EditsWeights: ("leaves everything as it was", "it changes the weights bert.embeddings.word_embeddings.weight"),
    zoo.LeavesAHook: ("leaves everything as it was", "it changes the hooks of the model"),
    zoo.ReadsHiddenStates: ("leaves everything as it was", "it changes the hooks of bert.encoder.layer.0"),
    zoo.LeavesTrainMode: ("leaves everything as it was", "it changes the train mode of the model"),
    zoo.UnfreezesParameters: ("leaves everything as it was", "is trained (requires_grad)"),
    zoo.EditsTheTokenizer: ("leaves everything as it was", "it changes the tokenizer"),
    zoo.EditsWhatOthersShare: ("leaves everything as it was", "it changes what is kept for others as input_gradient"),
    zoo.EditsTheTarget: ("leaves everything as it was", "it changes the batch's target"),
    zoo.CrashesAtTimes: ("one score a feature", "RuntimeError: no luck with eight words (broken_explainers.py:"),
    zoo.ReturnsTooMany: ("one score a feature", "it returned scores of shape (9,) where (8,) are due"),
    zoo.ReturnsWords: ("one score a feature", "it returned list, which is no array of numbers"),
    zoo.IsNoConversation: ("one score a feature", "converse returned ndarray and not a conversation"),
    zoo.DeclinesOrdinaryTexts: ("one score a feature", "for 1 of 4 ordinary texts: eight words are too many"),
    zoo.TakesTheLogarithm: ("finite", "the score of '"),
    zoo.TokensOfNothing: ("finite", "the score of place (0, 1) is inf"),
    zoo.DrawsAnew: ("deterministic under the seed", "in the next, with the same seed"),
    zoo.Counts: ("order invariant", "explained after other texts"),
    zoo.RemembersTheLatest: ("batch invariant", "alone and"),
    zoo.ScalesByTheBatch: ("batch invariant", "among other texts"),
    zoo.CrashesInBatches: ("batch invariant", "in a batch of 3"),
    zoo.RefusesPairs: ("pairs", "AssertionError (broken_explainers.py:"),
    zoo.NeedsTwoWords: ("one word", "ValueError: zero-size array to reduction operation"),
    zoo.NeedsShortTexts: ("200 words", "LinAlgError: Singular matrix (broken_explainers.py:"),
    zoo.NeedsAFirstText: ("an empty text in a pair", "(broken_explainers.py:"),
    zoo.KeysByWord: ("repeated words", "(2,) where (6,) are due"),
    zoo.TakesTokensForWords: ("words of several tokens", "where (1, 4) are due"),
    zoo.ExplainsTheFirstClass: ("depends on the target", "the scores for another class are the same"),
    zoo.Hashes: (MODEL, "rank correlation 1.00"),
    zoo.DrawsAndReadsPosition: (MODEL, "rank correlation 1.00"),
    zoo.Constant: (MODEL, "all words of a text have the same score"),
    zoo.CallsASignAMagnitude: ("signed", "signed = False says magnitudes, and the score of '"),
    zoo.CallsAMagnitudeASign: ("signed", "none of 52 words speaks against its class"),
    zoo.HidesThatItAsks: ("asks", "asks = False, and it asks about 30 inputs"),
    zoo.ReadsTheWeights: ("asks", "it asks the model nothing"),
    zoo.IgnoresItsBackground: ("background", "it looks at none of these training examples"),
    zoo.RepeatsItself: ("repeats", "all of these attributions are the same"),
    zoo.RepeatsInside: ("repeats", "what looks inside the model is asked once"),
}


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_what_is_broken_fails_its_own_check_and_no_other(broken, model):
    name, detail = BROKEN[broken]
    checks = check_contract(broken, model)
    assert failed(checks) == [name], checks
    (found,) = (check.detail for check in checks if check.name == name)
    assert detail in found


def test_every_check_has_something_that_breaks_it():
    assert {name for name, _ in BROKEN.values()} == set(CHECKS)


@pytest.mark.parametrize("good", [zoo.Occlusion, zoo.Slope, lambda: Bridge(zoo.explain)])
def test_what_keeps_the_contract_passes_all_that_it_can_be_asked(good):
    checks = check_contract(good, small_classifier())
    left_out = {check.name for check in checks if check.status == "skipped"}
    assert not failed(checks)
    assert left_out <= {"asks", "background"}
    assert {check.name: check.detail for check in checks}["200 words"] == ""


def test_a_long_text_is_as_long_as_the_model_reads(model):
    (long,) = (check for check in check_contract(zoo.Slope, model) if check.name == "200 words")
    assert (long.status, long.detail) == ("passed", "the model reads 62 words of them")


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_few_samples_do_not_make_two_networks_alike(seed):
    """Two designs of `sobol` say mostly which were drawn, and those are the same for both networks."""
    trial = Trial(lambda: registry.build("explainer", "sobol", designs=2), small_classifier(seed), seed)
    assert "rank correlation" in CHECKS[MODEL](trial)


def test_a_function_that_never_asks_is_found_out(model):
    checks = check_contract(lambda: Bridge(zoo.length, signed=False), model)
    assert failed(checks) == [MODEL, "asks"]


def test_a_method_that_cannot_be_prepared_fails_wherever_it_is_run_with_its_own_line(model):
    checks = {check.name: check for check in check_contract(zoo.CannotPrepare, model)}
    assert "prepare: KeyError: 'vocabulary' (broken_explainers.py:" in checks["one score a feature"].detail
    assert checks["finite"].status == "skipped"
    assert checks["leaves everything as it was"].status == "passed"


class Exits(zoo.Occlusion):
    def scores(self, case, falls):
        raise SystemExit(0)


class SaysALot(zoo.Occlusion):
    def scores(self, case, falls):
        raise ValueError("words\n" * 100_000)


@pytest.mark.parametrize("crashing", [Exits, SaysALot])
def test_however_a_method_ends_it_is_a_failure_in_one_line(crashing, model):
    checks = {check.name: check for check in check_contract(crashing, model)}
    assert checks["one score a feature"].status == checks["pairs"].status == "failed"
    for check in checks.values():
        assert len(check.detail.splitlines()) <= 1
        assert len(check.detail) < 500


class NotForThis(zoo.Occlusion):
    def check(self, model):
        raise AssayError("it is for decoders")


def test_a_method_that_is_not_defined_for_the_model_says_so(model):
    with pytest.raises(AssayError, match="it is for decoders"):
        check_contract(NotForThis, model)


class SpoilsAll(zoo.Slope):
    def attribute(self, model, batch, target):
        scores = super().attribute(model, batch, target)
        with torch.no_grad():
            for parameter in model.model.parameters():
                parameter.zero_()
        model.model.train()
        model.tokenizer.backend_tokenizer.enable_truncation(3)
        np.random.seed(1)
        random.seed(1)
        torch.manual_seed(1)
        torch.set_grad_enabled(False)
        torch.set_default_dtype(torch.float64)
        np.seterr(all="ignore")
        warnings.simplefilter("ignore")
        return scores


def test_what_a_method_spoils_stays_whole_for_the_user_and_for_the_other_checks():
    model = small_classifier()
    model.model.train()

    def state():
        return (
            random.getstate(),
            np.random.get_state()[1].tolist(),
            torch.get_rng_state().tolist(),
            torch.is_grad_enabled(),
            torch.get_default_dtype(),
            np.geterr(),
            list(warnings.filters),
            {name: value.tolist() for name, value in model.model.state_dict().items()},
            [module.training for module in model.model.modules()],
            model.tokenizer.backend_tokenizer.to_str(),
        )

    before = state()
    checks = check_contract(SpoilsAll, model)
    assert state() == before
    assert failed(checks) == ["leaves everything as it was", "batch invariant"]  # the second batch finds zeros


@pytest.mark.parametrize("architecture", ["roberta", "gpt2", "deberta"])
def test_texts_are_made_of_any_vocabulary(architecture):
    checks = check_contract(zoo.Occlusion, tiny_classifier(architecture))
    assert not failed(checks), checks


def test_a_prompted_model_that_reads_pairs_alone_is_asked_about_pairs():
    model = tiny_prompted("gpt2", "first {first} then {second} so")
    checks = {check.name: check for check in check_contract(zoo.Occlusion, model)}
    assert not failed(checks.values()), checks
    assert checks["one word"].status == "skipped"
    assert "the model does not read it" in checks["one word"].detail


def test_check_explainer_lists_what_has_failed_and_takes_whatever_a_test_has_at_hand():
    with pytest.raises(AssayError) as caught:
        assay.check_explainer(First)
    assert str(caught.value).startswith(
        "First breaks the contract of an explainer (docs/contract.md):\n- reacts to a randomised model: the scores for"
    )
    for given in (zoo.Occlusion, zoo.Slope("mean"), zoo.explain, "tests.validation.broken_explainers:Occlusion"):
        checks = assay.check_explainer(given)
        assert [check.name for check in checks] == list(CHECKS)
    with pytest.raises(AssayError, match="its settings cannot be changed here"):
        assay.check_explainer(zoo.Occlusion(), alpha=1)
    with pytest.raises(AssayError, match="it has no setting 'alpha'"):
        assay.check_explainer(zoo.Occlusion, alpha=1)


PAGE = (Path(__file__).parents[2] / "docs" / "contract.md").read_text("utf-8")


def test_the_page_has_a_paragraph_on_each_check_in_their_order():
    assert re.findall(r"^### (.+)$", PAGE, re.MULTILINE) == list(CHECKS)


def test_what_the_page_tells_a_reader_to_write_is_a_test_that_runs(monkeypatch):
    (source,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    for method, message in ((zoo.Slope, None), (zoo.Counts, r"Counts breaks .*\n- order invariant: .* after other")):
        monkeypatch.setitem(sys.modules, "my_module", SimpleNamespace(MyMethod=method))
        names = {}
        exec(source, names)
        if message is None:
            names["test_my_method_keeps_the_contract"]()
        else:
            with pytest.raises(AssayError, match=message):
                names["test_my_method_keeps_the_contract"]()


def test_attributions_from_a_file_cannot_be_asked_anew(tmp_path):
    path = tmp_path / "mine.jsonl"
    path.write_text('{"id": "1", "features": ["good"], "scores": [0.5]}\n')
    checks = assay.check_explainer(str(path))
    assert {check.status for check in checks} == {"skipped"}
    assert "come from a file" in checks[0].detail
