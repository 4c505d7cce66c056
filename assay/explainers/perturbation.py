"""Explainers that hide parts of the input and watch the output."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from assay.checks import whole_number
from assay.conversation import Case, Conversation, Explanation, Feature, Keep, Vector
from assay.errors import AssayError, near_matches
from assay.explainers.base import BlackBoxExplainer, WhiteBoxExplainer
from assay.explainers.steady import GROUPS_OF_MEANS, known_tolerance, until_steady
from assay.infilling import Infill, MaskedLanguageModel

if TYPE_CHECKING:
    from torch import Tensor, nn

    from assay.classifier import Classifier
    from assay.encoding import Batch

Unit = Literal["feature", "span", "sentence"]
EmbeddingReplacement = Literal["zero", "mean", "noise"]
HiddenReplacement = Literal["zero", "mean"]

# What is asked before a standard error is looked at.
_FIRST_MASKS = 100
_FIRST_DESIGNS = 16

_SENTENCE_ENDS = (".", "!", "?")


class LeaveOneOut(BlackBoxExplainer):
    """How much the output falls when one feature, a span of features or a sentence is hidden.

    score_i = mean over the groups g that hold i of f(x) − f(x∖g); f is the target's output and x∖g the input with the
    group hidden by the run's perturbation (Li, Monroe & Jurafsky 2016, "Understanding Neural Networks through
    Representation Erasure"). The groups are

    - `unit=feature`: each feature alone, a word or a token as the run has it;
    - `unit=span`: every `window` neighbouring features of one text, so that a feature scores the mean fall over the
      windows that hold it (spans after Wu et al. 2020; the mean is that of a sliding occlusion window). A text with
      fewer features than `window` is one span;
    - `unit=sentence`: the sentences; all features of one have the same score, the fall when the whole sentence is
      hidden. A sentence ends with a feature that ends in `.`, `!` or `?`, and at the end of its text.

    Signed, in units of the output. Assumes nothing of the model. Where either of two words is enough, neither is missed
    while the other is there, and both score 0. Cost: 1 + the number of groups model rows, at most n + 1, in one round.

    Args:
        unit: what is hidden at once.
        window: how many features a span has; only for `unit=span`.

    Raises:
        ValueError: an unknown unit, or `window` below 1.
    """

    def __init__(self, unit: Unit = "feature", window: int = 3) -> None:
        _known("unit", unit, get_args(Unit))
        self.unit: Unit = unit
        self.window = whole_number("window", window, at_least=1)

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask about the full input and about each group hidden; return [n] mean differences."""
        groups = self._groups(case.features)
        answers = yield np.concatenate([np.ones((1, case.n), dtype=np.bool_), ~groups])
        outputs = answers[:, case.target].astype(np.float64)
        scores: Vector = (outputs[0] - outputs[1:]) @ groups / groups.sum(axis=0)
        return scores

    def _groups(self, features: Sequence[Feature]) -> Keep:
        """What is hidden at once, [groups, n]; every feature is in one."""
        n = len(features)
        if self.unit == "feature":
            return np.eye(n, dtype=np.bool_)
        spans: list[tuple[int, int]] = []
        for first, last in _texts(features):
            if self.unit == "span":
                width = min(self.window, last - first)
                spans += [(start, start + width) for start in range(first, last - width + 1)]
            else:
                inner = range(first + 1, last)
                starts = [first, *(place for place in inner if features[place - 1].text.endswith(_SENTENCE_ENDS))]
                spans += zip(starts, [*starts[1:], last], strict=True)
        places = np.arange(n)
        return np.array([(start <= places) & (places < end) for start, end in spans], dtype=np.bool_)


class LooEmbedding(WhiteBoxExplainer):
    """How much the output falls when the embeddings of one feature are replaced, the rest left as they are.

    score_i = f(e) − f(e with e_t replaced for the tokens t of feature i); e are the word embeddings, before positions
    and segments are added, and f the target's output (Li, Monroe & Jurafsky 2016). What replaces an embedding:

    - `zero`: the zero vector;
    - `mean`: the mean of the embedding matrix over the vocabulary;
    - `noise`: that mean plus Gaussian noise with the matrix's standard deviation in each dimension, drawn anew for each
      token; the score is the mean over `samples` draws.

    None of them is an input that the model was trained on. Signed, in units of the output. Assumes that the model reads
    embeddings in place of tokens. Cost: n + 1 rows forward, with `noise`
    (n + 1) · samples.

    Args:
        replacement: `zero`, `mean` or `noise`.
        samples: how many draws the mean is taken over; only for `noise`.

    Raises:
        ValueError: an unknown replacement, or `samples` below 1.
    """

    scores_features = True

    def __init__(self, replacement: EmbeddingReplacement = "zero", samples: int = 10) -> None:
        super().__init__()
        _known("replacement", replacement, get_args(EmbeddingReplacement))
        self.replacement: EmbeddingReplacement = replacement
        self.samples = whole_number("samples", samples, at_least=1)

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Falls of the output, [batch, features]."""
        import torch

        embeddings = model.embeddings(batch)
        matrix = model.embedding_table
        if self.replacement == "zero":
            fillers = torch.zeros_like(embeddings)[None]
        else:
            fillers = matrix.mean(0).expand_as(embeddings)[None]
        if self.replacement == "noise":
            draws = embeddings.new_zeros(self.samples, *embeddings.shape)
            for row, (rng, length) in enumerate(zip(batch.rngs, batch.lengths, strict=True)):
                drawn = rng.standard_normal((self.samples, length, embeddings.shape[-1]))
                draws[:, row, :length] = torch.from_numpy(drawn).to(draws)
            fillers = fillers + matrix.std(0, correction=0) * draws
        falls = []
        for filler in fillers:

            def replaced(hidden: Tensor, filler: Tensor = filler) -> Tensor:
                return torch.where(hidden, filler, embeddings)

            falls.append(_falls(model, batch, target, replaced))
        return torch.stack(falls).mean(0)


class LooHidden(WhiteBoxExplainer):
    """How much the output falls when the hidden states of one feature are replaced at one layer.

    score_i = f(x) − f(x with the states h_t of layer `layer` replaced for the tokens t of feature i), f the target's
    output (Li, Monroe & Jurafsky 2016). The states are the layer's output, in decoders before any norm that follows the
    last layer. What replaces a state is the zero vector or, with `mean`, the mean over the states of all features'
    tokens at that layer.

    A state is no longer that of its own token alone: the deeper the layer, the more of a word is found in the states of
    others, above all in that of the token that the class is read from. At the last layer only that token counts, and if
    it belongs to no feature every score is 0. Hence the first layer is the default.

    Signed, in units of the output. Assumes that the model's layers stand in one list, or are shared and called once for
    each (ALBERT). Cost: n + 1 rows forward.

    Args:
        layer: which layer, from 0; negative numbers count from the last.
        replacement: `zero` or `mean`.

    Raises:
        ValueError: `layer` is not a whole number, or an unknown replacement.
        AssayError: the model has no such layer, or no list of layers (`check`).
    """

    scores_features = True

    def __init__(self, layer: int = 0, replacement: HiddenReplacement = "zero") -> None:
        super().__init__()
        if isinstance(layer, bool) or not isinstance(layer, int):
            raise ValueError(f"layer must be a whole number, not {layer!r}")
        _known("replacement", replacement, get_args(HiddenReplacement))
        self.layer = layer
        self.replacement: HiddenReplacement = replacement

    def check(self, model: Classifier) -> None:
        """Find the layer.

        Raises:
            AssayError: there is none of that number, or no list of layers.
        """
        _, count = _layers(model)
        if not -count <= self.layer < count:
            raise AssayError(
                f"loo_hidden.layer={self.layer}: {model.name} has {count} layers, "
                f"counted 0 to {count - 1} or -{count} to -1."
            )

    def attribute(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        """Falls of the output, [batch, features].

        Raises:
            AssayError: the model has no such layer, or no list of layers.
        """
        import torch

        self.check(model)
        scores = torch.zeros(len(batch.input_ids), _most_features(batch), device=batch.input_ids.device)
        # Padding is cut off first, so that a row of a batch is a row of the states, whatever the architecture.
        lengths = torch.tensor(batch.lengths, device=batch.input_ids.device)
        for length in sorted(set(batch.lengths)):
            (rows,) = (lengths == length).nonzero(as_tuple=True)
            part = _rows(batch, rows, length)
            scores[rows, : _most_features(part)] = self._part(model, part, target[rows])
        return scores

    def _part(self, model: Classifier, batch: Batch, target: Tensor) -> Tensor:
        import torch

        embeddings = model.embeddings(batch)
        eligible = batch.eligible[..., None]
        hidden: list[Tensor] = []

        def change(states: Tensor) -> Tensor:
            # A prompted model puts label words behind the text.
            text, behind = states[:, : eligible.shape[1]], states[:, eligible.shape[1] :]
            copies = text.reshape(-1, *eligible.shape[:2], text.shape[-1])
            filler = torch.zeros_like(copies)
            if self.replacement == "mean":
                filler += (copies * eligible).sum(2, keepdim=True) / eligible.sum(1, keepdim=True)
            return torch.cat([torch.where(hidden[0], filler, copies).flatten(0, 1), behind], dim=1)

        def unchanged(chosen: Tensor) -> Tensor:
            hidden[:] = [chosen]
            return embeddings.expand(len(chosen), *embeddings.shape)

        with _layer_changed(model, self.layer, change):
            return _falls(model, batch, target, unchanged)


class InputReduction(BlackBoxExplainer):
    """The order in which features can be hidden, the least important first, while the prediction holds.

    From the full input on, each step hides the feature that is least important in what is left, the one whose absence
    lowers the target's output least, as long as the predicted class stays the target (Feng et al. 2018, "Pathologies of
    Neural Models Make Interpretations Difficult"). A beam search follows the `beam` best reduced inputs of each size.
    It ends where every further step would change the prediction, or one feature is left; what then remains is the
    minimal rationale, of the inputs on the beam the one with the highest output. The paper estimates importance by the
    gradient; here it is measured, by leaving out. From each reduced input only the `candidates` features are tried that
    were missed least when last tried, so that the cost grows with n and not with n²; all of them before the end.

    score_i = place of feature i in the order of hiding / n: the first hidden scores 1 / n, the features of the minimal
    rationale come last and thus score highest, among themselves by leave-one-out within the rationale. Ties are broken
    by the example's seed. Unsigned. The report has the minimal rationale: the indices of its features (`rationale`) and
    how many they are (`rationale_size`).

    Where the target is not the predicted class there is no prediction to hold: the reduction then goes on to one
    feature, by the target's output alone, and the report's rationale is empty, with size 0.

    Assumes nothing of the model. What remains is often nothing that a human would call a reason; that is the paper's
    finding, not an error. Cost: about beam · candidates · n model rows, at most beam · n² / 2, in about n rounds.

    Args:
        beam: how many reduced inputs of one size are followed.
        candidates: the most features that are tried from each of them; the first step tries all.

    Raises:
        ValueError: `beam` or `candidates` below 1.
    """

    signed = False

    def __init__(self, beam: int = 5, candidates: int = 16) -> None:
        self.beam = whole_number("beam", beam, at_least=1)
        self.candidates = whole_number("candidates", candidates, at_least=1)

    def converse(self, case: Case) -> Conversation[Explanation]:
        """Ask about ever smaller inputs; return [n] places in the order of hiding, and the minimal rationale."""
        tie = case.rng.permutation(case.n)
        answers = yield np.ones((1, case.n), dtype=np.bool_)
        holds = bool(answers[0].argmax() == case.target)
        beam = [_Reduced(np.ones(case.n, dtype=np.bool_), (), np.zeros(case.n))]
        for left in range(case.n, 1, -1):
            smaller: dict[bytes, _Reduced] = {}
            # All features are tried before a reduction ends.
            for count in sorted({min(left, self.candidates), left}):
                tried = [reduced.weakest(count, tie) for reduced in beam]
                hidden, parents = np.concatenate(tried), np.repeat(np.arange(len(beam)), [len(part) for part in tried])
                inputs = np.array([beam[parent].keep for parent in parents])
                inputs[np.arange(len(inputs)), hidden] = False
                answers = yield inputs
                for parent, features in enumerate(tried):
                    beam[parent].last_output[features] = answers[parents == parent, case.target]
                # First those without which the output is highest. Where several ways lead to the same input, the one
                # through the strongest of the larger inputs is kept.
                ranks = np.lexsort((tie[hidden], parents, -answers[:, case.target]))
                stays = answers.argmax(axis=1) == case.target
                for step in ranks[stays[ranks]] if holds else ranks:
                    parent = beam[parents[step]]
                    order = (*parent.order, int(hidden[step]))
                    smaller.setdefault(inputs[step].tobytes(), _Reduced(inputs[step], order, parent.last_output.copy()))
                if smaller:
                    break
            if not smaller:
                break
            beam = list(smaller.values())[: self.beam]
        scores = np.empty(case.n)
        scores[[*beam[0].order, *beam[0].weakest(case.n, tie)]] = np.arange(1, case.n + 1) / case.n
        rationale = np.flatnonzero(beam[0].keep).tolist() if holds else []
        return Explanation(scores, {"rationale": rationale, "rationale_size": len(rationale)})


@dataclass(frozen=True)
class _Reduced:
    """An input with some features hidden.

    Attributes:
        keep: [n], the features that are left.
        order: the hidden features, in the order of hiding.
        last_output: [n], the output when a feature was last tried.
    """

    keep: NDArray[np.bool_]
    order: tuple[int, ...]
    last_output: Vector

    def weakest(self, count: int, tie: NDArray[np.intp]) -> NDArray[np.intp]:
        """The features that were missed least when last tried, the least first; all where none has been tried yet."""
        left = np.flatnonzero(self.keep)
        ranks = np.lexsort((tie[left], -self.last_output[left]))
        return left[ranks[: count if self.order else None]]


class Olm(BlackBoxExplainer):
    """How much the output falls when a language model fills in one feature anew, from what stands around it.

    score_i = f(x) − E[f(x with feature i resampled)], f the target's output; the expectation is the mean over `samples`
    fillings that a masked language model draws from the context (OLM: Harbecke & Alt 2020, "Considering Likelihood in
    NLP Classification Explanations with Occlusion and Language Modeling"). Unlike masked or shortened inputs, the
    fillings are likely texts. What the feature itself adds beyond what its context lets one expect is scored: a word
    that the context makes certain scores 0, however much the model relies on it.

    The paper's code puts a single token in place of a word; here a word of several tokens is filled with as many, one
    after the other (see the perturbation `infill`, which this is leave-one-out with, whatever the run's perturbation
    is). The language model must have the classifier's own vocabulary.

    Signed, in units of the output. Assumes that the classifier's tokenizer has a mask token. Cost: at most
    n · samples + 1 rows of the classifier, in one round; the same filling is asked once. What the language model
    costs is not counted: about one row for each feature, and for words of several tokens up to `samples` for each
    further token.

    Args:
        masked_lm: the masked language model, a local folder or a hub id; from Python also a `MaskedLanguageModel`.
        samples: how many fillings are drawn for each feature.

    Raises:
        ValueError: `samples` below 1.
        AssayError: no language model is given, or its vocabulary is another one (`check`).
    """

    perturbation: Infill

    def __init__(self, masked_lm: str | Path | MaskedLanguageModel | None = None, samples: int = 100) -> None:
        self.masked_lm = masked_lm
        self.samples = whole_number("samples", samples, at_least=1)
        self.perturbation = Infill(masked_lm, samples)

    def check(self, model: Classifier) -> None:
        """Load the language model and compare the vocabularies.

        Raises:
            AssayError: no language model is given, it cannot be loaded, or its vocabulary is another one.
        """
        if self.masked_lm is None:
            raise AssayError(
                "olm draws fillings from a masked language model. Name one with the classifier's vocabulary, "
                "such as the model that it was fine-tuned from: explainers.olm.masked_lm=PATH."
            )
        self.perturbation.check(model)

    def converse(self, case: Case) -> Conversation[Vector]:
        """Ask about the full input and about each feature filled in anew; return [n] mean falls."""
        answers = yield np.concatenate([np.ones((1, case.n), dtype=np.bool_), ~np.eye(case.n, dtype=np.bool_)])
        outputs = answers[:, case.target].astype(np.float64)
        scores: Vector = outputs[0] - outputs[1:]
        return scores


class Rise(BlackBoxExplainer):
    """The mean output over random inputs that show the feature, less the mean over all of them.

    score_i = E[f(x ⊙ M) | M_i = 1] − E[f(x ⊙ M)]; in the random mask M each feature is visible with probability `p`,
    independently, and f is the target's output (RISE: Petsiuk, Das & Saenko 2018, equation 4; without the smoothing of
    neighbouring pixels, which words do not need). Both expectations are means over `samples` masks. Two things differ
    from the paper, and neither changes what the ranking comes to as samples grow:

    - The constant E[f] is taken off, so that the sign has a meaning and a constant model scores 0. It is in the report
      (`mean_output`); the score plus it is the paper's.
    - The paper divides by the expected number of masks that show the feature (equation 6), this by their actual number,
      so that a feature is not credited for having been shown more often than others.

    E[f | M_i = 1] − E[f] = (1 − p) · (E[f | M_i = 1] − E[f | M_i = 0]): at p = 0.5 the score is half the Banzhaf value,
    and any estimator of that ranks alike. Signed, in units of the output. Assumes nothing of the model. Cost: at most
    `samples` model rows in one round; for short inputs fewer, since repeats are asked once.

    Args:
        samples: how many masks are drawn; the paper takes 4,000 to 8,000 for images.
        p: the probability with which a feature is visible.
        tolerance: the standard error at which no more masks are drawn; None for all of them.

    Raises:
        ValueError: `samples` below 1, or `p` not between 0 and 1, or `tolerance` not above 0.
    """

    def __init__(self, samples: int = 1000, p: float = 0.5, tolerance: float | None = None) -> None:
        self.samples = whole_number("samples", samples, at_least=1)
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0 < p < 1:
            raise ValueError(f"p must be a number between 0 and 1, both excluded, not {p!r}")
        self.p = p
        self.tolerance = known_tolerance(tolerance)

    def converse(self, case: Case) -> Conversation[Explanation]:
        """Ask about random inputs; return [n] differences of means."""
        keep = case.rng.random((self.samples, case.n)) < self.p
        if self.tolerance is None:
            answers = yield keep
            outputs = answers[:, case.target].astype(np.float64)
            return Explanation(_shown_means(keep, outputs), {"mean_output": float(outputs.mean())})
        known = np.empty(self.samples)
        found = yield from until_steady(
            np.arange(self.samples),
            lambda new: keep[new],
            known.__setitem__,
            lambda used: _shown_means(keep[used], known[used]),
            self.tolerance,
            case.target,
            first=_FIRST_MASKS,
            groups=GROUPS_OF_MEANS,
        )
        report = {"mean_output": float(known[found.used].mean()), **found.report(len(found.used))}
        return Explanation(found.scores, report)


def _shown_means(keep: Keep, outputs: Vector) -> Vector:
    """The mean output over the masks that show a feature less the mean over all, [n]; 0 where none shows it."""
    scores: Vector = (outputs - outputs.mean()) @ keep / np.maximum(1, keep.sum(axis=0))
    return scores


class Sobol(BlackBoxExplainer):
    """The share of the output's variance over random inputs that goes with a feature, interactions included.

    score_i = E[Var(f(x ⊙ M) | all of M but M_i)] / Var(f(x ⊙ M)), the total Sobol index; in the random mask M each
    feature is visible with probability 1/2, independently, and f is the target's output (Fel et al. 2021, "Look at the
    Variance!"). Masks A and B come from a scrambled Sobol sequence in 2n dimensions, C_i is A with column i from B, and
    the estimate is Jansen's: Σ_j (f(A_j) − f(C_ij))² / (2 · designs · V), with V the variance over A and B.

    The paper's masks are real numbers that dim a region of an image; a word is visible or not, so they are rounded
    here. A rounded column of B is often equal to its column of A, or its complement, and the feature would then score
    0, or twice its share, whatever the model does; such a column of B is shuffled. (With 32 designs and 16 words it
    happens to two of them.) interpreto's total order rounds too, takes V over A alone, adds 10⁻⁶ to 2V and does
    not shuffle; its default is the first order, which is another quantity.

    Unsigned, a share of the variance; with interactions the scores sum to more than 1. A feature for which the model's
    output rises scores as one for which it falls. A constant model scores 0. Assumes nothing of the model. Cost: at
    most designs · (n + 2) model rows in one round, in fact about half, since C_i is A wherever the two columns agree.

    Args:
        designs: how many masks A has, a power of two, which is where the sequence is balanced.
        tolerance: the standard error at which no more masks are drawn; None for all of them.

    Raises:
        ValueError: `designs` is not a power of two, or below 2, or `tolerance` not above 0.
    """

    signed = False

    def __init__(self, designs: int = 32, tolerance: float | None = None) -> None:
        self.designs = whole_number("designs", designs, at_least=2)
        if self.designs & (self.designs - 1):
            raise ValueError(f"designs must be a power of two, not {designs}")
        self.tolerance = known_tolerance(tolerance)

    def converse(self, case: Case) -> Conversation[Vector | Explanation]:
        """Ask about A, B and each C_i; return [n] total indices."""
        a, b = _designs(case.n, self.designs, case.rng)
        c = np.repeat(a[None], case.n, axis=0)
        features = np.arange(case.n)
        c[features, :, features] = b.T
        if self.tolerance is None:
            answers = yield np.concatenate([a, b, c.reshape(-1, case.n)])
            return _total_indices(answers[:, case.target].astype(np.float64).reshape(-1, self.designs))
        asked = np.concatenate([a[None], b[None], c])
        outputs = np.empty(asked.shape[:2])

        def learn(new: NDArray[np.intp], answers: Vector) -> None:
            outputs[:, new] = answers.reshape(len(outputs), -1)

        found = yield from until_steady(
            np.arange(self.designs),
            lambda new: asked[:, new].reshape(-1, case.n),
            learn,
            lambda used: _total_indices(np.ascontiguousarray(outputs[:, used])),
            self.tolerance,
            case.target,
            first=_FIRST_DESIGNS,
            growth=2,
        )
        return Explanation(found.scores, found.report(len(found.used)))


def _total_indices(outputs: NDArray[np.float64]) -> Vector:
    """Jansen's estimate of the total indices, [n], from the outputs for A, B and each C_i, [n + 2, designs]."""
    variance = outputs[:2].var(ddof=1)
    if variance == 0:
        return np.zeros(len(outputs) - 2)
    scores: Vector = np.square(outputs[2:] - outputs[0]).mean(axis=1) / (2 * variance)
    return scores


def _designs(n: int, designs: int, rng: np.random.Generator) -> tuple[Keep, Keep]:
    """Two sets of balanced masks, [designs, n] each, no column of one a mere copy of the other's."""
    from scipy.stats import qmc

    # Newer versions of scipy also call it `rng`; all take `seed`.
    masks = qmc.Sobol(2 * n, scramble=True, seed=rng).random(designs) < 0.5
    a, b = masks[:, :n], masks[:, n:].copy()
    agree = (a == b).mean(axis=0)
    for feature in np.flatnonzero((agree == 0) | (agree == 1)):
        b[:, feature] = rng.permutation(b[:, feature])
    return a, b


def _known(setting: str, value: object, known: Sequence[str]) -> None:
    """Refuse a value that is none of those known."""
    if value not in known:
        raise ValueError(f"unknown {setting} {value!r}. {near_matches(str(value), known)}")


def _texts(features: Sequence[Feature]) -> Iterator[tuple[int, int]]:
    """Where each text's features begin and end."""
    starts = [i for i in range(len(features)) if i == 0 or features[i].segment != features[i - 1].segment]
    yield from zip(starts, [*starts[1:], len(features)], strict=True)


def _most_features(batch: Batch) -> int:
    return int(batch.feature_of_token.max()) + 1


def _falls(model: Classifier, batch: Batch, target: Tensor, replaced: Callable[[Tensor], Tensor]) -> Tensor:
    """How much the output of each row falls when one feature is hidden, [batch, features].

    Args:
        model: the classifier.
        batch: the encoded examples.
        target: [batch], the class that is explained.
        replaced: given which tokens are hidden, [copies, batch, tokens, 1], the embeddings to pass, [copies, batch,
            tokens, width].
    """
    import torch

    features = _most_features(batch)
    copies = max(1, batch.tokens_per_pass // batch.input_ids.numel())
    # Feature number `features` is in no row: the last copy is the full input.
    numbers = torch.arange(features + 1, device=batch.input_ids.device)
    outputs = []
    with torch.no_grad():
        for first in range(0, features + 1, copies):
            part = numbers[first : first + copies]
            hidden = (batch.feature_of_token == part[:, None, None])[..., None]
            outputs.append(model.output(batch, target, replaced(hidden).flatten(0, 1)).reshape(len(part), -1))
    together = torch.cat(outputs)
    return (together[-1] - together[:-1]).T


def _rows(batch: Batch, rows: Tensor, length: int) -> Batch:
    """Some rows of a batch, all of one length, without padding."""
    segments = batch.token_type_ids
    return replace(
        batch,
        input_ids=batch.input_ids[rows, :length],
        attention_mask=None,
        token_type_ids=None if segments is None else segments[rows, :length],
        feature_of_token=batch.feature_of_token[rows, :length],
        foil=None if batch.foil is None else batch.foil[rows],
        rngs=tuple(batch.rngs[row] for row in rows.tolist()),
        memo={},
    )


def _layers(model: Classifier) -> tuple[list[nn.Module], int]:
    """The modules that are the model's layers, and how many layers they are called for in one pass.

    Raises:
        AssayError: the model keeps them in no list.
    """
    from torch import nn

    config = model.model.config
    count = getattr(config, "num_hidden_layers", None)
    lists = [module for module in model.model.modules() if isinstance(module, nn.ModuleList)]
    # ALBERT has fewer groups of weights than layers, and calls them again.
    for length in (count, getattr(config, "num_hidden_groups", None)):
        found = next((list(each) for each in lists if length and len(each) == length), None)
        if found is not None:
            return found, int(count or 0)
    raise AssayError(
        f"{model.name} ({type(model.model).__name__}) has no list of layers that loo_hidden could change. "
        "Use loo_embedding, which changes what goes into the first."
    )


@contextmanager
def _layer_changed(model: Classifier, layer: int, change: Callable[[Tensor], Tensor]) -> Iterator[None]:
    """The output of one layer changed, for as long as this lasts."""
    modules, count = _layers(model)
    calls = 0

    def hook(module: nn.Module, inputs: Any, output: Any) -> Any:
        nonlocal calls
        place, calls = calls % count, calls + 1
        if place != layer % count:
            return output
        return (change(output[0]), *output[1:]) if isinstance(output, tuple) else change(output)

    handles = [module.register_forward_hook(hook) for module in modules]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
