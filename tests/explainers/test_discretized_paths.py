from __future__ import annotations

import gc

import numpy as np
import pytest
import torch

from assay.explainers import discretized_paths
from tests.explainers.test_path_gradients import attribute, build
from tests.tiny_models import tiny_classifier, tiny_model


def anchors_by_hand(matrix, special, word, filler, steps, strategy, neighbours):
    """The paper's search, one word and one neighbour at a time."""
    path, excluded = [word], {filler, *special}
    while len(path) <= steps:
        last = path[-1]
        if last == filler:
            path.append(filler)
            continue
        others = [other for other in range(len(matrix)) if other != last]
        near = sorted(others, key=lambda other: np.linalg.norm(matrix[other] - matrix[last]))[:neighbours]
        costs = {}
        for other in near:
            if other in excluded or other in path:
                continue
            inside = (np.minimum(matrix[last], matrix[filler]) <= matrix[other]) & (
                matrix[other] <= np.maximum(matrix[last], matrix[filler])
            )
            if strategy == "maxcount":
                costs[other] = (~inside).sum()
            else:
                moved = np.where(inside, matrix[other], matrix[last] + (matrix[filler] - matrix[last]) / steps)
                costs[other] = np.linalg.norm(moved - matrix[other])
        path.append(min(costs, key=costs.get) if costs else filler)
    return path


@pytest.mark.parametrize("strategy", ["greedy", "maxcount"])
def test_the_anchors_are_those_of_the_papers_search(strategy, tiny_bert):
    explainer = build("discretized_ig", steps=5, strategy=strategy, neighbours=12)
    matrix = tiny_bert.model.get_input_embeddings().weight.detach()
    words, filler = list(range(60, 75)), tiny_bert.hidden_token[1]
    found = explainer._anchors(tiny_bert, matrix, filler, words)
    for word, path in zip(words, found, strict=True):
        by_hand = anchors_by_hand(matrix.numpy(), tiny_bert.tokenizer.all_special_ids, word, filler, 5, strategy, 12)
        if strategy == "greedy":
            assert list(path) == by_hand
        else:  # Counts tie; what follows after a tie need not agree.
            assert path[0] == word
            assert len(set(path)) == len(path) or filler in path


@pytest.mark.parametrize("strategy", ["greedy", "maxcount"])
def test_every_dimension_of_a_path_goes_one_way_from_the_baseline_to_the_word(strategy, tiny_bert):
    matrix = tiny_bert.model.get_input_embeddings().weight.detach()
    words = torch.arange(50, 90)
    paths = build("discretized_ig", steps=8, strategy=strategy, neighbours=30)._paths(tiny_bert, words)
    assert paths.shape == (40, 10, matrix.shape[1])
    torch.testing.assert_close(paths[:, -1], matrix[words], rtol=0, atol=0)
    torch.testing.assert_close(paths[:, 0], matrix[tiny_bert.hidden_token[1]].expand(40, -1), rtol=0, atol=0)
    direction = torch.sign(paths[:, -1] - paths[:, 0])[:, None]
    assert ((paths[:, 1:] - paths[:, :-1]) * direction >= -1e-6).all()
    straight = torch.lerp(paths[:, :1], paths[:, -1:], torch.linspace(0, 1, 10)[:, None])
    assert (paths - straight).abs().max() > 0.1, "the path is not the straight one of integrated gradients"


@pytest.mark.parametrize("strategy", ["greedy", "maxcount"])
@pytest.mark.parametrize("architecture", ["bert", "roberta", "gpt2"])
def test_scores_sum_to_the_difference_the_closer_the_more_points(architecture, strategy):
    model = tiny_classifier(architecture)
    settings = {"steps": 5, "strategy": strategy, "neighbours": 100}
    errors = [
        attribute("discretized_ig", model, "probability", factor=factor, **settings).report["completeness_error"].max()
        for factor in (0, 5)
    ]
    assert errors[1] < errors[0]
    assert errors[1] < 0.02


def test_paths_are_found_once_and_forgotten_with_their_model(monkeypatch):
    from assay.classifier import Classifier

    model = Classifier(*tiny_model("bert"))
    found = attribute("discretized_ig", model, steps=3, neighbours=10)
    monkeypatch.setattr(discretized_paths.DiscretizedIntegratedGradients, "_anchors", None)
    again = attribute("discretized_ig", model, steps=3, neighbours=10)
    torch.testing.assert_close(found.scores, again.scores, rtol=0, atol=0)
    before = len(discretized_paths._KNOWN)
    del model
    gc.collect()
    assert len(discretized_paths._KNOWN) == before - 1
