"""The checks of the contract; each gives a remark, or raises why it has failed or cannot be made."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from scipy.stats import spearmanr

from assay.altered_models import count_levels, with_random_weights
from assay.conversation import Vector
from assay.explainers.base import BlackBoxExplainer, Explainer
from assay.validation import surroundings
from assay.validation.texts import LONG
from assay.validation.trial import Found, Trial
from assay.validation.watching import Seen

# Shares of an attribution's largest score. Other batches add up in another order; the same run does not.
SAME_BATCH = 1e-6
OTHER_BATCH = 1e-3
# The mean rank correlation with the scores for another network that a method which looks at the network stays below.
LIKENESS = 0.9
# Of so many scores a method that knows a sign would have some below zero.
ENOUGH_FOR_A_SIGN = 20


class Failed(Exception):
    """The contract does not hold, with the reason."""


class Skipped(Exception):
    """A check that cannot be made, with the reason."""


def gives_one_score_a_feature(trial: Trial) -> str:
    """Each text explained alone has as many scores as it has words."""
    found, seen = trial.alone, trial.alone_seen
    for problems in (seen.crashes, seen.misshapen):
        if problems:
            raise Failed(problems[0])
    reasons = [one.reason for one in found if one.reason is not None]
    if reasons and not seen.infinite:
        raise Failed(f"it gives no attribution for {len(reasons)} of {len(found)} ordinary texts: {reasons[0]}")
    return ""


def is_finite(trial: Trial) -> str:
    """No score is infinite or not a number."""
    if trial.alone_seen.infinite:
        raise Failed(trial.alone_seen.infinite[0])
    _explained(trial.alone)
    return ""


def is_deterministic(trial: Trial) -> str:
    """Two fresh instances give the same scores under the same seed."""
    texts = trial.texts.ordinary[:2]
    for text, first in zip(texts, trial.alone, strict=False):
        (again,) = trial.run([text], Seen())
        _same([first], [again], SAME_BATCH, "in one run", "in the next, with the same seed")
    if not trial.alone_seen.draws:
        return "it draws no random numbers"
    other = trial.run(texts, Seen(), seed=trial.seed + 1)
    differs = not _alike(trial.alone[:2], other, OTHER_BATCH)
    return f"another seed gives {'other' if differs else 'the same'} scores"


def is_order_invariant(trial: Trial) -> str:
    """What an instance has explained before does not matter."""
    _must_be_deterministic(trial)
    explainer = trial.build()
    backwards = [trial.run([text], Seen(), explainer)[0] for text in trial.texts.ordinary[::-1]]
    _same(trial.alone, backwards[::-1], OTHER_BATCH, "explained first", "explained after other texts")
    return ""


def is_batch_invariant(trial: Trial) -> str:
    """What is explained at the same time does not matter, nor how large batches are."""
    _must_be_deterministic(trial)
    if is_order_invariant in trial.failed:
        raise Skipped("the scores hang on what was explained before: see order invariant")
    if trial.build().searches:
        raise Skipped("it searches, and of equally good rankings the last bit of an answer may decide")
    texts = trial.texts.ordinary
    for tokens, order, how in ((None, 1, ""), (16, -1, " in other batches")):
        seen = Seen()
        together = trial.run(texts[::order], seen, tokens_per_batch=tokens)[::order]
        known = trial.alone_seen
        for problems, before in ((seen.crashes, known.crashes), (seen.misshapen, known.misshapen)):
            if problems and not before:
                raise Failed(f"among other texts{how}: {problems[0]}")
        _same(trial.alone, together, OTHER_BATCH, "alone", f"among other texts{how}")
    return ""


def leaves_everything_as_it_was(trial: Trial) -> str:
    """Model, tokenizer, global random state and the like are afterwards what they were before."""
    model, seen = trial.model, Seen()
    before = surroundings.of_model(model)
    trial.run(trial.texts.ordinary, seen, model=model)
    altered = surroundings.changed(before, surroundings.of_model(model))
    trial.spoils_the_model = bool(altered)
    altered = list(dict.fromkeys([*seen.altered, *altered]))
    if altered:
        more = f" and {len(altered) - 3} more" if len(altered) > 3 else ""
        raise Failed(f"it changes {', '.join(altered[:3])}{more}")
    return ""


def handles(name: str) -> Callable[[Trial], str]:
    """The check that a text with something special about it is explained."""

    def check(trial: Trial) -> str:
        if name in trial.texts.refused:
            raise Skipped(f"the model does not read it: {trial.texts.refused[name]}")
        count, seen = 0, Seen()
        for text in trial.texts.special[name]:
            (found,) = trial.run([text], seen)
            for problems in (seen.crashes, seen.misshapen, seen.infinite):
                if problems:
                    raise Failed(problems[0])
            if found.reason is not None:
                raise Skipped(f"it declines: {found.reason}")
            count = len(found.words)
        return f"the model reads {count} words of them" if name == f"{LONG} words" and count < LONG else ""

    return check


def depends_on_the_target(trial: Trial) -> str:
    """Another class has other scores."""
    _must_be_deterministic(trial)
    if trial.classes < 2:
        raise Skipped("the model has one class")
    if not _alike(trial.alone, trial.of_another_class, OTHER_BATCH):
        return ""
    if not trial.build().signed:
        raise Skipped("it says what matters and not for which class (signed = False)")
    raise Failed("the scores for another class are the same; a method that has no target says so by signed = False")


def reacts_to_a_randomised_model(trial: Trial) -> str:
    """A network with other weights has other scores."""
    _must_be_deterministic(trial)
    likeness = []
    # One draw of weights may happen to be alike; three are not.
    for draw in range(3):
        likeness.append(_likeness_to_random_weights(trial, draw))
        if likeness[-1] < LIKENESS:
            return f"rank correlation with the scores for random weights {likeness[-1]:.2f}"
    if not any(_varies(one.scores) for one in _explained(trial.alone)):
        raise Failed("all words of a text have the same score, with these weights and with random ones")
    raise Failed(
        f"the scores for a model with random weights have nearly the same order (mean rank correlation "
        f"{min(likeness):.2f}, must be below {LIKENESS}): it does not look at the model"
    )


def _likeness_to_random_weights(trial: Trial, draw: int) -> float:
    network = with_random_weights(trial.model, range(count_levels(trial.model)), trial.seed + draw)
    targets = [found.target for found in trial.alone]
    other = trial.run(trial.texts.ordinary, Seen(), model=network, targets=targets)
    if trial.alone_seen.draws and not _alike(trial.alone, other, OTHER_BATCH):
        # Few samples say more about which were drawn than about the model; these must not make the two alike.
        other = trial.run(trial.texts.ordinary, Seen(), model=network, targets=targets, seed=trial.seed + 1)
    return _rank_correlation(trial.alone, other)


def claims_its_sign(trial: Trial) -> str:
    """`signed` says whether scores below zero have a meaning."""
    explainer = trial.build()
    found = _explained([*trial.alone, *trial.of_another_class])
    lowest = min(found, key=lambda one: one.scores.min())
    value, scale = lowest.scores.min(), max(np.abs(one.scores).max() for one in found)
    if not explainer.signed and value < -SAME_BATCH * scale:
        word = lowest.words[int(lowest.scores.argmin()) % len(lowest.words)]
        raise Failed(f"signed = False says magnitudes, and the score of {word!r} is {value:.3g}")
    count = sum(len(one.words) for one in found)
    if explainer.signed and value >= 0 and scale > 0 and count >= ENOUGH_FOR_A_SIGN:
        raise Failed(
            f"signed = True, and none of {count} words speaks against its class, for two classes; where scores are "
            "magnitudes, set signed = False"
        )
    return ""


def claims_what_it_asks(trial: Trial) -> str:
    """`asks` says whether the model is asked anything."""
    explainer = trial.build()
    if not isinstance(explainer, BlackBoxExplainer):
        raise Skipped("it looks inside the model")
    _explained(trial.alone)
    rows = trial.alone_seen.rows
    if explainer.asks and not rows:
        raise Failed("it asks the model nothing; what reads the text alone sets asks = False")
    if not explainer.asks and rows:
        raise Failed(f"asks = False, and it asks about {rows} inputs")
    return f"{rows} inputs for {len(trial.alone)} texts"


def claims_its_background(trial: Trial) -> str:
    """`background` says how many training examples are looked at."""
    wanted = trial.build().background
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 0:
        raise Failed(f"background must be a whole number of at least 0, not {wanted!r}")
    if not wanted:
        raise Skipped("it wants to see no training examples")
    _explained(trial.alone)
    if not trial.alone_seen.read_background:
        raise Failed(f"background = {wanted}, and it looks at none of these training examples; set background = 0")
    return ""


def claims_its_repeats(trial: Trial) -> str:
    """`repeats` says how many attributions are drawn, which makes sense where they differ."""
    explainer: Explainer = trial.build()
    wanted = explainer.repeats
    if isinstance(wanted, bool) or not isinstance(wanted, int) or wanted < 1:
        raise Failed(f"repeats must be a whole number of at least 1, not {wanted!r}")
    if wanted == 1:
        return ""
    if not isinstance(explainer, BlackBoxExplainer):
        raise Failed(f"repeats = {wanted}, and what looks inside the model is asked once")
    found = _explained(trial.alone)
    if all(_near(one.draws[0], draw, SAME_BATCH) for one in found for draw in one.draws[1:]):
        raise Failed(f"repeats = {wanted}, and all of these attributions are the same; set repeats = 1")
    return ""


SPECIAL = ("pairs", "one word", f"{LONG} words", "an empty text in a pair", "repeated words", "words of several tokens")

# What alters the model comes first: the others then work on copies. What others build on comes before them.
CHECKS: dict[str, Callable[[Trial], str]] = {
    "leaves everything as it was": leaves_everything_as_it_was,
    "one score a feature": gives_one_score_a_feature,
    "finite": is_finite,
    "deterministic under the seed": is_deterministic,
    "order invariant": is_order_invariant,
    "batch invariant": is_batch_invariant,
    **{name: handles(name) for name in SPECIAL},
    "depends on the target": depends_on_the_target,
    "reacts to a randomised model": reacts_to_a_randomised_model,
    "signed": claims_its_sign,
    "asks": claims_what_it_asks,
    "background": claims_its_background,
    "repeats": claims_its_repeats,
}


def _must_be_deterministic(trial: Trial) -> None:
    if is_deterministic in trial.failed:
        raise Skipped("the scores are other ones in every run: see deterministic under the seed")


def _explained(found: Sequence[Found]) -> list[Found]:
    """Those that have scores."""
    explained = [one for one in found if one.draws]
    if not explained:
        raise Skipped(f"there are no scores to look at: {found[0].reason}")
    return explained


def _pairs(first: Sequence[Found], second: Sequence[Found]) -> list[tuple[Found, Found]]:
    """Texts that have scores in one of two runs; those that have none in both say nothing."""
    pairs = [(one, other) for one, other in zip(first, second, strict=True) if one.draws or other.draws]
    if not pairs:
        raise Skipped(f"there are no scores to compare: {first[0].reason}")
    return pairs


def _same(first: Sequence[Found], second: Sequence[Found], tolerance: float, how: str, otherwise: str) -> None:
    """Fail where the scores of two runs differ, with the word where they do so most."""
    for one, other in _pairs(first, second):
        for found, where in ((one, how), (other, otherwise)):
            if not found.draws:
                raise Failed(f"no attribution of {_quoted(one, other)} {where}: {found.reason}")
        if len(one.scores) != len(other.scores):
            raise Failed(f"{len(one.draws)} attributions {how}, {len(other.draws)} {otherwise}")
        if not _near(one.scores, other.scores, tolerance):
            place = int(np.abs(one.scores - other.scores).argmax())
            raise Failed(
                f"{one.words[place % len(one.words)]!r} in {_quoted(one, other)} has "
                f"{one.scores[place]:.6g} {how} and {other.scores[place]:.6g} {otherwise}"
            )


def _quoted(one: Found, other: Found) -> str:
    return repr(" ".join(one.words or other.words))


def _alike(first: Sequence[Found], second: Sequence[Found], tolerance: float) -> bool:
    try:
        _same(first, second, tolerance, "", "")
    except Failed:
        return False
    return True


def _near(one: Vector, other: Vector, tolerance: float) -> bool:
    return bool(np.abs(one - other).max(initial=0.0) <= tolerance * max(np.abs(one).max(initial=0.0), 1e-12))


def _varies(scores: Vector) -> bool:
    return bool(np.ptp(scores) > SAME_BATCH * np.abs(scores).max())


def _rank_correlation(first: Sequence[Found], second: Sequence[Found]) -> float:
    """Spearman's correlation of the scores in two runs, the mean over texts; 0 where one of them is constant."""
    found = []
    for one, other in _pairs(first, second):
        if not one.draws or not other.draws:
            found.append(0.0)
        elif _varies(one.scores) and _varies(other.scores):
            found.append(float(spearmanr(one.scores, other.scores).statistic))
        else:
            found.append(float(_varies(one.scores) == _varies(other.scores)))
    return float(np.mean(found))
