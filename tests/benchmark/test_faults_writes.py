"""Explainers that write to the model: found out after the shard, put back, recorded; no one else is touched by it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from assay import registry
from assay.benchmark.evaluation import Evaluation, Settings
from assay.classifier import Classifier
from assay.example import Example
from assay.explainers.base import WhiteBoxExplainer
from assay.model_state import ModelState, checksums
from tests.benchmark.at_fault import write
from tests.benchmark.test_faults_isolation import mine, place, reasons, run, same_numbers, undisturbed
from tests.tiny_models import ARCHITECTURES, CORPUS, tiny_classifier, tiny_model

__all__ = ["place", "undisturbed"]

WAYS = (
    *("weights", "one_bit", "swap", "data", "half", "buffer", "hook", "mode", "requires_grad", "config", "forward"),
    *("layer", "weight_of_another", "signs"),
)


@pytest.mark.parametrize("way", WAYS)
def test_every_way_to_write_to_a_model_is_seen_and_put_back(way: str) -> None:
    network, _ = tiny_model("bert")
    ids = torch.tensor([[2, 5, 6, 3]])
    network.eval()
    before = network(ids).logits
    state = ModelState(network)
    assert state.changes() == []
    write(network, way)
    assert state.changes() != []
    state.restore(lambda: tiny_model("bert")[0])
    assert state.changes() == []
    assert torch.equal(network(ids).logits, before)


def test_what_was_overwritten_can_only_be_put_back_from_the_same_model() -> None:
    network, _ = tiny_model("bert")
    state = ModelState(network)
    write(network, "weights")
    other, _ = tiny_model("bert")
    write(other, "swap")
    with pytest.raises(RuntimeError, match=r"could not be put back as it was: classifier\.weight"):
        state.restore(lambda: other)


def test_only_overwritten_weights_are_read_again() -> None:
    network, _ = tiny_model("bert")
    state = ModelState(network)
    for way in ("data", "hook", "mode", "config", "layer", "forward"):
        write(network, way)
        state.restore(lambda: pytest.fail("the model was loaded again"))


def test_checksums_see_each_bit_and_each_place() -> None:
    generator = torch.Generator().manual_seed(0)
    for dtype in (torch.float32, torch.bfloat16, torch.int8, torch.bool):
        tensor = torch.randint(0, 2, (7, 5), generator=generator).to(dtype)
        seen = {checksums({"one": tensor})["one"]}
        flat = tensor.view(torch.uint8).reshape(-1)
        for byte in range(len(flat)):
            flat[byte] ^= 1
            seen.add(checksums({"one": tensor})["one"])
            flat[byte] ^= 1
        assert len(seen) == len(flat) + 1
        assert checksums({"one": tensor.flip(0)}) != checksums({"one": tensor})
        # A part of a larger tensor, which begins anywhere in memory.
        assert checksums({"one": tensor[1:].clone()}) == checksums({"one": tensor[1:]})


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_no_explainer_of_assay_writes_to_the_model(architecture: str) -> None:
    model = tiny_classifier(architecture)
    state = ModelState(model.model)
    built = {name: registry.build("explainer", name) for name in registry.names_with_defaults("explainer")}
    examples = [Example(str(place), (text,)) for place, text in enumerate(CORPUS[:2])]
    evaluation = Evaluation(model, examples, {}, {"mask": registry.build("perturbation", "delete")}, Settings())
    for name, explainer in built.items():
        if explainer.background or explainer.searches or not able(explainer, model):
            continue
        explainer.prepare(model, [])
        # What does not look inside has nothing to do with the model but when it prepares, which all of them do here.
        if architecture == "bert" or isinstance(explainer, WhiteBoxExplainer):
            evaluation.add_explainer(name, explainer)
        assert state.changes() == [], name
    evaluation.run()
    assert state.changes() == []


def able(explainer: Any, model: Classifier) -> bool:
    from assay.benchmark.preparation import check

    return not check({"it": explainer}, model)


@pytest.mark.parametrize(
    ("kind", "way", "reason"),
    [
        ("Writes", "one_bit", "the model was written to: classifier.weight"),
        ("Writes", "hook", "the model was written to: hooks in classifier"),
        ("WritesUnasked", "weights", "the model was written to: classifier.weight"),
        ("WritesUnasked", "half", "the model was written to: "),
        ("SwitchesDropoutOn", "dropout", "the model was written to: the mode of dropout"),
    ],
)
def test_who_writes_to_the_model_is_recorded_and_everyone_else_has_their_numbers(
    place: Path, undisturbed: Path, tmp_path: Path, kind: str, way: str, reason: str
) -> None:
    ended = run(place, tmp_path, mine(kind), f"+explainers.mine.way={way}")
    assert ended.code == 0, ended.err
    found = reasons(tmp_path)
    assert str(found[2]).startswith(reason)
    if kind != "Writes":  # in the shard where it does; in the others it has its numbers
        assert found[0] is None
    same_numbers(undisturbed, tmp_path)


def test_who_writes_to_the_model_while_it_prepares_is_refused(place: Path, tmp_path: Path) -> None:
    ended = run(place, tmp_path, mine("WritesWhilePreparing"))
    assert ended.code == 2
    assert "mine writes to the model while it prepares (classifier.weight)" in ended.err
    assert run(place, tmp_path).code == 0
