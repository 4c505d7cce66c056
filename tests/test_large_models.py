"""Models in half precision, spread over devices, and one at a time in memory."""

from __future__ import annotations

import json
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from assay import registry
from assay.benchmark import configured_model
from assay.benchmark.configured_model import free_model, load_model
from assay.benchmark.evaluation import Evaluation, Settings
from assay.benchmark.protocol import make_protocol
from assay.classifier import Classifier
from assay.errors import AssayError
from assay.example import Example
from assay.perturbation import Mask
from assay.prompted import PromptedClassifier
from tests.benchmark.cli import assay, save_model, save_task
from tests.tiny_models import CORPUS, tiny_model

# Embeddings and layers lie on disk until they are needed, and the rest does not.
PARTLY_ON_DISK = {"bert.embeddings": "disk", "bert.encoder": "disk", "bert.pooler": "cpu", "classifier": "cpu"}
EXAMPLES = [Example(str(place), (text,), place % 2) for place, text in enumerate(CORPUS[:4])]
INSIDE = ("gradient", "integrated_gradients", "attention", "grad_sam", "attn_lrp", "discretized_ig", "leave_one_out")
TAKES_WEIGHTS = ("alti", "decompx", "globenc", "value_zeroing", "attention_norm")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def _nothing_kept() -> Any:
    free_model()
    yield
    free_model()


def answers(model: Classifier) -> np.ndarray[Any, Any]:
    rows = [model.encode(example).row for example in EXAMPLES]
    with model.at_work():
        return np.concatenate([model.answer([row]) for row in rows])


def scores(model: Classifier, name: str) -> list[float]:
    evaluation = Evaluation(model, EXAMPLES, {}, {"mask": Mask()}, Settings())
    evaluation.add_explainer(name, registry.build("explainer", name))
    found = evaluation.run()[name].attributions
    assert [row["reason"] for row in found] == [None] * len(EXAMPLES)
    return [score for row in found for score in row["scores"]]


@pytest.mark.parametrize("device_map", [{"": "cpu"}, "auto", PARTLY_ON_DISK], ids=["one device", "auto", "disk"])
def test_a_model_that_is_spread_answers_as_one_that_is_not(folder: Path, device_map: Any) -> None:
    plain, spread = (
        Classifier.from_pretrained(folder, **how) for how in ({"device": "cpu"}, {"device_map": device_map})
    )
    np.testing.assert_allclose(answers(spread), answers(plain), atol=1e-5)
    assert spread.fingerprint == plain.fingerprint
    assert spread.device == torch.device("cpu")
    torch.testing.assert_close(spread.embedding_table, plain.embedding_table)


@pytest.mark.parametrize("name", INSIDE)
def test_methods_that_look_inside_see_the_same_in_a_model_that_is_spread(folder: Path, name: str) -> None:
    plain = Classifier.from_pretrained(folder, device="cpu")
    spread = Classifier.from_pretrained(folder, device_map=PARTLY_ON_DISK)
    np.testing.assert_allclose(scores(spread, name), scores(plain, name), atol=1e-5)


@pytest.mark.parametrize("name", TAKES_WEIGHTS)
@pytest.mark.parametrize(
    ("how", "reason"),
    [({"device_map": PARTLY_ON_DISK}, "spread over several devices"), ({"weights": "bfloat16"}, "weights in bfloat16")],
)
def test_what_takes_weights_out_of_the_network_says_why_it_cannot(
    folder: Path, name: str, how: Mapping[str, Any], reason: str
) -> None:
    model = Classifier.from_pretrained(folder, **how)
    with pytest.raises(AssayError, match=reason):
        registry.build("explainer", name).check(model)


@pytest.mark.parametrize("name", ["model_randomisation", "sensitivity_max", "input_invariance"])
def test_metrics_that_change_weights_say_so_too(folder: Path, name: str) -> None:
    with pytest.raises(AssayError, match=r"model\.device_map=null"):
        registry.build("metric", name).check(Classifier.from_pretrained(folder, device_map=PARTLY_ON_DISK))


@pytest.mark.parametrize("weights", ["bfloat16", "float16"])
def test_half_weights_take_half_the_memory_and_are_close(folder: Path, weights: Any) -> None:
    plain = Classifier.from_pretrained(folder, device="cpu")
    half = Classifier.from_pretrained(folder, device="cpu", weights=weights)
    assert (half.weights, half.dtype) == (weights, weights)
    assert all(parameter.element_size() == 2 for parameter in half.model.parameters())
    np.testing.assert_allclose(answers(half), answers(plain), atol=0.1)
    assert half.fingerprint != plain.fingerprint
    for name in ("integrated_gradients", "attention"):
        np.testing.assert_allclose(scores(half, name), scores(plain, name), atol=0.1)


def test_points_between_embeddings_stay_apart_in_half_weights(folder: Path) -> None:
    half = Classifier.from_pretrained(folder, device="cpu", weights="bfloat16")
    assert half.embedding_table.dtype == torch.float32


def test_a_prompted_model_may_be_spread_and_in_half_precision(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    network, tokenizer = tiny_model("gpt2", head=AutoModelForCausalLM)
    network.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    words = {"bad": " dull", "good": " good"}
    spread = {"transformer.wte": "cpu", "transformer.wpe": "disk", "transformer.h": "disk", "transformer.ln_f": "cpu"}
    plain, over, half = (
        PromptedClassifier.load(tmp_path, "read : {text} so it is", words, **how)
        for how in ({"device": "cpu"}, {"device_map": {**spread, "lm_head": "cpu"}}, {"weights": "bfloat16"})
    )
    np.testing.assert_allclose(answers(over), answers(plain), atol=1e-5)
    np.testing.assert_allclose(answers(half), answers(plain), atol=0.5)
    assert over.fingerprint == plain.fingerprint


def test_the_protocol_names_the_weights_only_where_they_are_rounded(folder: Path) -> None:
    task = registry.build("task", "planted_word", size=4).load()
    named = [
        make_protocol(task, 4, 0, model, Settings(), {}, {}, {})["model"]
        for model in (Classifier.from_pretrained(folder), Classifier.from_pretrained(folder, weights="float16"))
    ]
    assert "weights" not in named[0]
    assert (named[1]["weights"], named[1]["dtype"]) == ("float16", "float16")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"weights": "float8"}, "Did you mean 'float"),
        ({"device_map": "automatic"}, "Did you mean 'auto'"),
        ({"device_map": {}}, "a device for each module"),
        ({"device_map": {"bert": "cpu", "classifier": "gpu"}}, "Unknown device 'gpu'"),
        ({"device_map": {"bert": 99}}, r"no CUDA device|no device 'cuda:99'"),
        ({"device_map": "auto", "device": "cpu"}, "Set one"),
    ],
)
def test_wrong_weights_and_maps_are_refused_before_anything_is_loaded(
    tmp_path: Path, wrong: Mapping[str, Any], message: str
) -> None:
    with pytest.raises(AssayError, match=message):
        Classifier.from_pretrained(tmp_path / "not even there", **wrong)


def content(path: Path, **other: Any) -> dict[str, Any]:
    return {"kind": "classifier", "path": str(path), "revision": None, "device": "cpu", "dtype": "float32"} | {
        "weights": "float32",
        "device_map": None,
        **other,
    }


def test_a_model_is_let_go_before_the_next_is_loaded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = weakref.ref(load_model(content(folder)).model)
    assert load_model(content(folder)).model is first()
    alive = []
    real = configured_model._classifier

    def watched(described: Mapping[str, Any]) -> Classifier:
        alive.append(first() is not None)
        return real(described)

    monkeypatch.setattr(configured_model, "_classifier", watched)
    load_model(content(folder, weights="bfloat16"))
    assert alive == [False]


def test_a_sweep_over_explainers_loads_its_model_once(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = []
    real = Classifier.from_pretrained.__func__  # type: ignore[attr-defined]

    def counted(cls: type[Classifier], path: Any, **how: Any) -> Classifier:
        loaded.append(path)
        found: Classifier = real(cls, path, **how)
        return found

    monkeypatch.setattr(Classifier, "from_pretrained", classmethod(counted))
    ended = assay(
        *("run", "-m", "task=sst2", f"task.path={save_task(tmp_path / 'data')}", f"model={folder}", "tracker=none"),
        *("explainer=leave_one_out,gradient,attention", "metric=comprehensiveness", f"results={tmp_path / 'results'}"),
        "allow_low_accuracy=true",
    )
    assert ended.code == 0, ended.err
    assert len(loaded) == 1


def test_a_map_is_given_on_the_command_line_and_changes_no_key(folder: Path, tmp_path: Path) -> None:
    keys = []
    for number, how in enumerate([["model.device=cpu"], ["model.device_map={bert: cpu, classifier: disk}"]]):
        results = tmp_path / str(number)
        ended = assay(
            *("run", "task=sst2", f"task.path={save_task(tmp_path / 'data')}", f"model={folder}", "tracker=none"),
            *("explainer=gradient", "metric=comprehensiveness", f"results={results}", "allow_low_accuracy=true", *how),
        )
        assert ended.code == 0, ended.err
        cells = [json.loads(path.read_text()) for path in results.rglob("cell.json")]
        keys.append(sorted(cell["key"] for cell in cells))
    assert keys[0] == keys[1]
