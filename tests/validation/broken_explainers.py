"""Explainers that break the contract, each in one place alone; and two that keep it."""

from __future__ import annotations

import hashlib
import random
import warnings

import numpy as np
import torch

from assay.errors import Undefined
from assay.explainers.base import BlackBoxExplainer, WhiteBoxExplainer


class Occlusion(BlackBoxExplainer):
    """How much the output falls when one feature is hidden. It keeps the contract."""

    def converse(self, case):
        """Ask about the whole text, and about it without each feature."""
        answers = yield np.concatenate([np.ones((1, case.n), dtype=bool), ~np.eye(case.n, dtype=bool)])
        return self.scores(case, answers[0, case.target] - answers[1:, case.target])

    def scores(self, case, falls):
        """What becomes of them."""
        return falls


class Slope(WhiteBoxExplainer):
    """Gradient times input. It keeps the contract."""

    def attribute(self, model, batch, target):
        """Scores for each token."""
        return (model.input_gradient(batch, target) * model.embeddings(batch)).sum(-1)


class SeedsNumpy(Occlusion):
    def scores(self, case, falls):
        np.random.seed(0)
        return falls


class DrawsFromPython(Occlusion):
    def scores(self, case, falls):
        random.random()
        return falls


class SilencesWarnings(Occlusion):
    def scores(self, case, falls):
        warnings.simplefilter("ignore")
        return falls


class EditsWeights(Slope):
    """It writes into the embedding of padding, which no score here hangs on."""

    def attribute(self, model, batch, target):
        with torch.no_grad():
            model.model.get_input_embeddings().weight[model.tokenizer.pad_token_id] += 1
        return super().attribute(model, batch, target)


class LeavesAHook(Slope):
    def attribute(self, model, batch, target):
        model.model.register_forward_hook(lambda *_: None)
        return super().attribute(model, batch, target)


class ReadsHiddenStates(Slope):
    """Transformers hangs hooks into the layers when it is first asked what goes on inside, and leaves them there."""

    def attribute(self, model, batch, target):
        model.model(input_ids=batch.input_ids, output_hidden_states=True, **batch.model_inputs)
        return super().attribute(model, batch, target)


class LeavesTrainMode(Slope):
    def attribute(self, model, batch, target):
        scores = super().attribute(model, batch, target)
        model.model.train()
        return scores


class UnfreezesParameters(Slope):
    def attribute(self, model, batch, target):
        scores = super().attribute(model, batch, target)
        model.model.requires_grad_(True)
        return scores


class EditsTheTokenizer(Slope):
    def prepare(self, model, background):
        model.tokenizer.backend_tokenizer.enable_padding(length=600)


class EditsWhatOthersShare(Slope):
    """The gradient is computed once for a batch and kept for every method."""

    def attribute(self, model, batch, target):
        gradient = model.input_gradient(batch, target)
        return gradient.mul_(model.embeddings(batch)).sum(-1)


class EditsTheTarget(Slope):
    def attribute(self, model, batch, target):
        scores = super().attribute(model, batch, target)
        target.zero_()
        return scores


class CrashesAtTimes(Occlusion):
    def scores(self, case, falls):
        if case.n == 8:
            raise RuntimeError("no luck with eight words")
        return falls


class ReturnsTooMany(Occlusion):
    def scores(self, case, falls):
        return np.append(falls, 0.0) if case.n == 8 else falls


class ReturnsWords(Occlusion):
    def scores(self, case, falls):
        return [str(feature) for feature in case.features] if case.n == 8 else falls


class IsNoConversation(Occlusion):
    def converse(self, case):
        return np.zeros(case.n) if case.n == 8 else super().converse(case)


class DeclinesOrdinaryTexts(Occlusion):
    def scores(self, case, falls):
        if case.n == 8:
            raise Undefined("eight words are too many")
        return falls


class TakesTheLogarithm(Occlusion):
    def scores(self, case, falls):
        return np.append(np.nan, falls[1:]) if case.n == 8 else falls


class TokensOfNothing(Slope):
    def attribute(self, model, batch, target):
        scores = super().attribute(model, batch, target)
        scores[batch.eligible & (batch.eligible.sum(1) == 8)[:, None]] = float("inf")
        return scores


class DrawsAnew(Occlusion):
    def scores(self, case, falls):
        return falls * np.random.default_rng().random(case.n)


class Counts(Occlusion):
    def __init__(self):
        self.count = 0

    def scores(self, case, falls):
        self.count += 1
        return falls * self.count


class RemembersTheLatest(Occlusion):
    """What it keeps in itself belongs, when the answers come, to another text."""

    def converse(self, case):
        self.latest = case.n
        scores = yield from super().converse(case)
        return scores * self.latest


class ScalesByTheBatch(Slope):
    def attribute(self, model, batch, target):
        return super().attribute(model, batch, target) * len(batch.input_ids)


class CrashesInBatches(Slope):
    def attribute(self, model, batch, target):
        scores = super().attribute(model, batch, target)
        return scores.reshape(1, batch.input_ids.shape[1])


class RefusesPairs(Occlusion):
    def scores(self, case, falls):
        assert len(set(case.segments)) == 1
        return falls


class NeedsTwoWords(Occlusion):
    def scores(self, case, falls):
        return falls / np.abs(falls[1:]).max()


class NeedsShortTexts(Occlusion):
    def scores(self, case, falls):
        return falls if case.n < 40 else np.linalg.inv(np.zeros((case.n, case.n))) @ falls


class NeedsAFirstText(Occlusion):
    def scores(self, case, falls):
        return falls / np.abs(falls[case.segments == 0]).max()


class KeysByWord(Occlusion):
    def scores(self, case, falls):
        if case.n > 40:
            return falls
        return list(dict(zip(map(str, case.features), falls, strict=True)).values())


class TakesTokensForWords(Slope):
    scores_features = True

    def attribute(self, model, batch, target):
        return super().attribute(model, batch, target)[batch.eligible].reshape(len(batch.input_ids), -1)


class ExplainsTheFirstClass(Occlusion):
    def converse(self, case):
        answers = yield np.concatenate([np.ones((1, case.n), dtype=bool), ~np.eye(case.n, dtype=bool)])
        return answers[0, 0] - answers[1:, 0]


class Hashes(BlackBoxExplainer):
    """A random method in disguise: it hangs on the words and the class."""

    asks = False

    def converse(self, case):
        yield from ()
        return np.array([_hash(f"{feature} {case.target}") - 0.5 for feature in case.features])


def _hash(text):
    return int(hashlib.sha256(text.encode()).hexdigest()[:8], 16) / 2**32


class DrawsAndReadsPosition(BlackBoxExplainer):
    """What it draws is another number under another seed, but the order is that of the words."""

    asks = False

    def converse(self, case):
        yield from ()
        return (-1) ** case.target * (np.arange(case.n) - 2 + 0.01 * case.rng.random(case.n))


class Constant(BlackBoxExplainer):
    asks = False
    signed = False

    def converse(self, case):
        yield from ()
        return np.ones(case.n)


class CallsASignAMagnitude(Occlusion):
    signed = False


class CallsAMagnitudeASign(Occlusion):
    def scores(self, case, falls):
        return np.abs(falls)


class HidesThatItAsks(Occlusion):
    asks = False


class ReadsTheWeights(BlackBoxExplainer):
    """How alike each word's embedding is to the class's weights: it asks nothing and does not say so."""

    def prepare(self, model, background):
        self.model = model

    def converse(self, case):
        yield from ()
        ids = [self.model.tokenizer.convert_tokens_to_ids(str(feature)) for feature in case.features]
        words = self.model.model.get_input_embeddings().weight[ids]
        return (words @ self.model.model.classifier.weight[case.target]).detach().numpy()


class IgnoresItsBackground(Occlusion):
    background = 10


class RepeatsItself(Occlusion):
    repeats = 3


class RepeatsInside(Slope):
    repeats = 3


class CannotPrepare(Occlusion):
    def prepare(self, model, background):
        raise KeyError("vocabulary")


def explain(predict, features):
    """Each word alone. It keeps the contract."""
    return predict(np.eye(len(features), dtype=bool)) - predict(np.zeros((1, len(features)), dtype=bool))


def length(predict, features):
    """A function that never asks."""
    return [len(feature) for feature in features]
