from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from assay import registry
from assay.conversation import Case, Feature, Objective
from assay.errors import AssayError
from assay.example import Example
from tests.conversations import make_case, run, table
from tests.tiny_models import CORPUS


def value(objective, ranking, function):
    """The objective of one ranking, from the definition."""
    keep = objective.path(np.asarray(ranking), np.arange(len(objective.weights)))
    return float(objective.weights @ function(keep).astype(np.float32).astype(np.float64))


def oracle(function, objective, **settings):
    case = make_case(len(objective.weights) - 1, objective=objective)
    transcript = run(registry.build("explainer", "oracle", **settings).converse(case), function)
    n = case.n
    assert sorted(transcript.result) == pytest.approx([(rank + 1) / n for rank in range(n)])
    return np.argsort(-transcript.result), transcript


@st.composite
def games(draw, largest):
    """A random set function and a random objective over it; weights are often zero, as comprehensiveness has them."""
    n = draw(st.integers(1, largest))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    weights = rng.normal(size=n + 1) * (rng.random(n + 1) < draw(st.floats(0, 1)))
    return table(rng.random(2**n)), Objective(weights, draw(st.booleans()), draw(st.booleans()))


@given(games(largest=6))
@settings(max_examples=40, deadline=None)
def test_the_exact_oracle_finds_the_best_of_all_permutations(game):
    function, objective = game
    n = len(objective.weights) - 1
    ranking, transcript = oracle(function, objective)
    best = (max if objective.maximise else min)(value(objective, order, function) for order in permutations(range(n)))
    assert value(objective, ranking, function) == pytest.approx(best, abs=1e-6)
    assert len(transcript.rounds) <= 1
    assert transcript.rows <= 2**n - 2 or n == 1


@given(games(largest=7))
@settings(max_examples=40, deadline=None)
def test_the_greedy_oracle_is_a_ranking_asks_nothing_twice_and_never_beats_the_exact_one(game):
    function, objective = game
    greedy, transcript = oracle(function, objective, exact_up_to=0)
    exact, _ = oracle(function, objective)
    sign = 1 if objective.maximise else -1
    assert sign * value(objective, greedy, function) <= sign * value(objective, exact, function) + 1e-6
    asked = [keep.tobytes() for round_ in transcript.rounds for keep in round_]
    assert len(asked) == len(set(asked))


@given(games(largest=9), st.integers(2, 6), st.integers(1, 9))
@settings(max_examples=60, deadline=None)
def test_a_wider_beam_never_does_worse_than_the_greedy_search(game, width, candidates):
    function, objective = game
    limits = {"exact_up_to": 0, "candidates": candidates}
    greedy, _ = oracle(function, objective, width=1, **limits)
    wide, transcript = oracle(function, objective, width=width, **limits)
    sign = 1 if objective.maximise else -1
    assert sign * value(objective, wide, function) >= sign * value(objective, greedy, function) - 1e-6
    n = len(objective.weights) - 1
    assert transcript.rows <= 2 * (n + (n - 2) * width * min(candidates, n)) or n < 3


@given(games(largest=6))
@settings(max_examples=40, deadline=None)
def test_a_beam_that_drops_nothing_finds_the_best_ranking(game):
    function, objective = game
    ranking, _ = oracle(function, objective, exact_up_to=0, width=20, candidates=6)  # 20 sets of 3 among 6
    exact, _ = oracle(function, objective)
    assert value(objective, ranking, function) == pytest.approx(value(objective, exact, function), abs=1e-6)


def test_a_beam_of_two_finds_the_best_ranking_that_greed_misses():
    function = table(np.random.default_rng(19).random(2**5))
    objective = Objective(np.array([0, 1, 1, 1, 1, 0]) / 4, hides=False, maximise=True)
    one, two = (oracle(function, objective, exact_up_to=0, width=width)[0] for width in (1, 2))
    exact, _ = oracle(function, objective)
    assert value(objective, one, function) < value(objective, two, function) - 0.05
    assert value(objective, two, function) == value(objective, exact, function)


@pytest.mark.parametrize("hides", [True, False])
@pytest.mark.parametrize("exact_up_to", [0, 10])
def test_on_a_sum_of_words_it_ranks_them_by_weight(hides, exact_up_to):
    weights = np.array([0.1, -0.4, 0.9, 0.3, -0.2, 0.0])
    # Deletion is best when low, insertion when high.
    objective = Objective(np.full(7, 1 / 7), hides, maximise=not hides)
    ranking, _ = oracle(lambda keep: keep @ weights, objective, exact_up_to=exact_up_to)
    np.testing.assert_array_equal(ranking, np.argsort(-weights))


def test_greedy_keeps_the_better_of_both_directions():
    # Alone, word 2 helps most, and spoils the pair (0, 1) that helps more; only the walk from the last word sees it.
    def pair(keep):
        return np.where(keep[:, 0] & keep[:, 1] & ~keep[:, 2], 1.0, np.where(keep[:, 2], 0.2, 0.0))

    objective = Objective(np.array([0, 0, 1.0, 0]), hides=False, maximise=True)
    ranking, _ = oracle(pair, objective, exact_up_to=0)
    assert set(ranking[:2]) == {0, 1}


def test_greedy_follows_the_output_where_a_step_has_no_weight_and_stops_after_the_last_weight():
    weights = np.arange(12.0)
    objective = np.zeros(13)
    objective[[0, 3]] = [1.0, -1.0]
    ranking, transcript = oracle(lambda keep: keep @ weights, Objective(objective, True, True), exact_up_to=0, width=1)
    assert set(ranking[:3]) == {9, 10, 11}
    # From the top 12 + 11 + 10 rows, from the bottom 12 + … + 4, some of them the same.
    assert transcript.rows <= 33 + 72


def test_the_exact_oracle_asks_only_what_carries_weight():
    objective = Objective(np.eye(9)[2], hides=True, maximise=False)
    _, transcript = oracle(lambda keep: keep.sum(1), objective)
    assert transcript.rows == 28  # the pairs of 8


def test_without_a_metric_the_oracle_says_so():
    with pytest.raises(AssayError, match="no metric is in hand"):
        run(registry.build("explainer", "oracle").converse(make_case(3)), lambda keep: keep.sum(1))


def test_first_counts_within_each_text():
    scores = run(registry.build("explainer", "first").converse(make_case(5, segments=[0, 0, 0, 1, 1])), len).result
    assert scores[0] == scores[3] > scores[1] == scores[4] > scores[2]


def test_last_is_first_read_backwards_within_each_text():
    segments = [0, 0, 0, 1, 1]
    last = run(registry.build("explainer", "last").converse(make_case(5, segments=segments)), len).result
    first = run(registry.build("explainer", "first").converse(make_case(5, segments=segments)), len).result
    np.testing.assert_allclose(last, first[[2, 1, 0, 4, 3]])
    second_text_alone = run(registry.build("explainer", "last").converse(make_case(2, segments=[1, 1])), len).result
    np.testing.assert_allclose(second_text_alone, [1 / 2, 1])


def case_of(*texts):
    return Case("case", tuple(Feature(text, 0, place) for place, text in enumerate(texts)), target=1)


def test_length_counts_characters_without_the_tokenizers_marks():
    scores = run(registry.build("explainer", "length").converse(case_of("a", "naïve", "##able", "Ġfilm", "▁ok")), len)
    np.testing.assert_array_equal(scores.result, [1, 5, 4, 4, 2])


def test_idf_is_scikit_learns_smoothed_idf(tiny_bert):
    vectorizer = pytest.importorskip("sklearn.feature_extraction.text").TfidfVectorizer(
        tokenizer=str.split, token_pattern=None, smooth_idf=True
    )
    vectorizer.fit([*CORPUS, "The film . A film ?"])
    background = [Example(str(place), (text,)) for place, text in enumerate(CORPUS)]
    background.append(Example("pair", ("The film .", "A film ?")))
    explainer = registry.build("explainer", "idf")
    explainer.prepare(tiny_bert, background)
    words = ("the", "film", "The", "FILM", ".", "football")
    scores = run(explainer.converse(case_of(*words, "unseen", "Ġfilm")), len).result
    known = vectorizer.vocabulary_
    expected = [vectorizer.idf_[known[word.lower()]] for word in (*words, "film")]
    np.testing.assert_allclose(np.delete(scores, 6), expected)
    assert scores[6] == pytest.approx(np.log(12) + 1)
    assert scores[6] > max(vectorizer.idf_)


def test_idf_without_training_examples_says_so(tiny_bert):
    with pytest.raises(AssayError, match="no training examples"):
        registry.build("explainer", "idf").prepare(tiny_bert, [])
    with pytest.raises(AssayError, match="has seen no training examples yet"):
        run(registry.build("explainer", "idf").converse(make_case(2)), len)


def test_random_draws_anew_each_time_and_says_how_often():
    explainer = registry.build("explainer", "random", repeats=3)
    assert explainer.repeats == 3
    draws = [run(explainer.converse(make_case(6, seed)), len).result for seed in range(3)]
    assert len({tuple(draw) for draw in draws}) == 3
