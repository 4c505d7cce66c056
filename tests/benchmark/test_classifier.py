"""A model and its tokenizer behind one face: loading, errors, fingerprints, precision, limits."""

from __future__ import annotations

import json
import logging
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import BertModel

from assay.classifier import Classifier
from assay.encoding import make_batch
from assay.errors import AssayError
from assay.example import Example
from assay.model_loading import quiet
from tests.benchmark.watching import changed, state
from tests.tiny_models import ARCHITECTURES, CORPUS, tiny_classifier, tiny_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT as its user would have saved it."""
    model, tokenizer = tiny_model("bert")
    path = tmp_path_factory.mktemp("models") / "my-bert"
    model.save_pretrained(path)
    tokenizer.save_pretrained(path)
    return path


def copy(folder: Path, to: Path) -> Path:
    return Path(shutil.copytree(folder, to / "copy"))


def test_what_is_saved_and_loaded_answers_the_same_and_has_the_same_fingerprint(folder: Path) -> None:
    loaded, original = Classifier.from_pretrained(folder, device="cpu"), Classifier(*tiny_model("bert"))
    assert loaded.fingerprint == original.fingerprint
    assert loaded.name == "my-bert"
    assert loaded.revision is None
    assert not loaded.model.training
    row = loaded.encode(Example("one", (CORPUS[0],))).row
    assert np.array_equal(loaded.answer([row]), original.answer([row]))


def test_the_fingerprint_follows_the_weights() -> None:
    model, other = Classifier(*tiny_model("bert")), Classifier(*tiny_model("bert", seed=1))
    assert model.fingerprint != other.fingerprint
    touched = Classifier(*tiny_model("bert"))
    with torch.no_grad():
        next(touched.model.parameters()).view(-1)[0] += 1e-6
    assert touched.fingerprint != model.fingerprint


def test_the_fingerprint_is_the_same_for_the_old_file_format(folder: Path, tmp_path: Path) -> None:
    path = copy(folder, tmp_path)
    model = tiny_model("bert")[0]
    (path / "model.safetensors").unlink()
    torch.save(model.state_dict(), path / "pytorch_model.bin")
    assert Classifier.from_pretrained(path, device="cpu").fingerprint == Classifier(*tiny_model("bert")).fingerprint


def test_a_missing_folder_is_named_with_its_neighbours(folder: Path) -> None:
    with pytest.raises(AssayError, match=r"no model folder .*my-bart.*Did you mean 'my-bert'"):
        Classifier.from_pretrained(folder.parent / "my-bart")


def test_a_folder_without_a_model_says_what_it_holds(tmp_path: Path) -> None:
    (tmp_path / "readme.txt").touch()
    with pytest.raises(AssayError, match=r"no config.json. It holds: readme.txt"):
        Classifier.from_pretrained(tmp_path)


def test_a_model_without_a_classification_head_is_refused(folder: Path, tmp_path: Path) -> None:
    path = copy(folder, tmp_path)
    BertModel(tiny_model("bert")[0].config).save_pretrained(path)
    with pytest.raises(AssayError, match="is a BertModel, not a sequence classification model"):
        Classifier.from_pretrained(path, device="cpu")
    config = json.loads((path / "config.json").read_text())
    config["architectures"] = None  # and one that does not say what it is
    (path / "config.json").write_text(json.dumps(config))
    with pytest.raises(AssayError, match=r"not a classifier: its weights lack classifier"):
        Classifier.from_pretrained(path, device="cpu")


@pytest.mark.parametrize("file", ["config.json", "model.safetensors", "tokenizer.json"])
def test_a_damaged_model_folder_is_an_error_of_one_sentence(folder: Path, tmp_path: Path, file: str) -> None:
    path = copy(folder, tmp_path)
    (path / file).write_bytes((path / file).read_bytes()[:40])
    with pytest.raises(AssayError, match=str(path)):
        Classifier.from_pretrained(path, device="cpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="CUDA is here")
def test_cuda_without_cuda_is_refused(folder: Path) -> None:
    with pytest.raises(AssayError, match=r"no CUDA device.*model.device=cpu"):
        Classifier.from_pretrained(folder, device="cuda")


def test_an_unknown_device_or_precision_is_refused(folder: Path) -> None:
    wrong: Any = "gpu"
    with pytest.raises(AssayError, match="Unknown device 'gpu'"):
        Classifier.from_pretrained(folder, device=wrong)
    wrong = "float23"
    with pytest.raises(AssayError, match=r"Unknown dtype 'float23'. Did you mean"):
        Classifier.from_pretrained(folder, device="cpu", dtype=wrong)


def test_the_hidden_token_is_the_mask_else_unknown_else_padding() -> None:
    model, tokenizer = tiny_model("bert")
    for kind in ("mask", "unknown", "padding"):
        found, token_id = Classifier(model, tokenizer).hidden_token
        assert found == kind
        name = {"mask": "mask_token", "unknown": "unk_token", "padding": "pad_token"}[kind]
        assert token_id == getattr(tokenizer, f"{name}_id")
        setattr(tokenizer, name, None)
    with pytest.raises(AssayError, match="perturbation=delete"):
        _ = Classifier(model, tokenizer).hidden_token


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_the_longest_text_that_is_read_is_the_longest_that_the_model_can_take(architecture: str) -> None:
    model = tiny_classifier(architecture)
    assert model.max_length == 512
    row = model.encode(Example("long", ("good " * 700,))).row
    assert len(row.ids) == 512
    assert np.isfinite(model.answer([row])).all()


def test_a_roberta_with_fewer_positions_than_its_tokenizer_says_is_not_overrun() -> None:
    model, tokenizer = tiny_model("roberta", max_position_embeddings=20)
    classifier = Classifier(model, tokenizer)
    assert classifier.max_length == 20 - 2  # RoBERTa's padding id is 1, and positions start behind it
    encoding = classifier.encode(Example("long", ("good " * 50,)))
    assert len(encoding.row.ids) == 18
    assert encoding.truncated == len(tokenizer("good " * 50)["input_ids"]) - 18
    assert np.isfinite(classifier.answer([encoding.row])).all()


@pytest.mark.parametrize("architecture", ["bert", "gpt2"])
def test_bfloat16_is_close_to_float32_and_leaves_the_weights(architecture: str) -> None:
    model, tokenizer = tiny_model(architecture)
    before = state(model)
    exact, rough = Classifier(model, tokenizer), Classifier(model, tokenizer, dtype="bfloat16")
    rows = [exact.encode(Example("one", (CORPUS[0],))).row]
    difference = np.abs(exact.answer(rows) - rough.answer(rows)).max()
    assert 0 < difference < 0.2
    assert rough.answer(rows, dtype="float32") == pytest.approx(exact.answer(rows), abs=1e-6)
    assert changed(before, state(model)) == []


def test_a_class_is_known_by_name_and_by_number() -> None:
    model, tokenizer = tiny_model("bert", 3)
    model.config.id2label = {0: "no", 1: "maybe", 2: "yes"}
    classifier = Classifier(model, tokenizer)
    assert [classifier.class_index(name) for name in ("no", "yes", 1)] == [0, 2, 1]
    with pytest.raises(AssayError, match=r"no class 'yess'. Did you mean 'yes'"):
        classifier.class_index("yess")
    for number in (3, -1):
        with pytest.raises(AssayError, match="its classes are 0 to 2"):
            classifier.class_index(number)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_padded_batch_gives_each_row_what_it_gets_alone(architecture: str) -> None:
    model = tiny_classifier(architecture)
    encodings = [model.encode(Example(text, (text,))) for text in ("dull", CORPUS[0], "a good film")]
    target = torch.tensor([0, 1, 1])
    with model.at_work(), torch.no_grad():
        together = model.output(make_batch(encodings, model.tokenizer.pad_token_id), target)
        alone = [model.output(make_batch([one]), goal[None])[0] for one, goal in zip(encodings, target, strict=True)]
    assert together.numpy() == pytest.approx(torch.stack(alone).numpy(), abs=1e-5)


def test_everything_is_counted_where_the_model_is_called() -> None:
    model = Classifier(*tiny_model("bert"))
    encoding = model.encode(Example("one", ("a good film",)))
    model.answer([encoding.row] * 3)
    with model.at_work():
        embeddings = model.embeddings(make_batch([encoding])).repeat(4, 1, 1).requires_grad_()
        model.output(make_batch([encoding]), torch.tensor([0]), embeddings).sum().backward()
    tokens = len(encoding.row.ids)
    assert model.cost.forward_rows == 3 + 4
    assert model.cost.forward_tokens == 7 * tokens
    assert (model.cost.backward_rows, model.cost.backward_tokens) == (4, 4 * tokens)


def test_a_switch_to_eager_attention_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    model = Classifier(*tiny_model("bert"), name="small")
    batch = make_batch([model.encode(Example("x", ("good",)))])
    model.attentions(batch)
    model.attentions(batch)
    told = [record.getMessage() for record in caplog.records if record.name == "assay.eager_attention"]
    assert told == [
        "small computes its attention by 'sdpa', which does not give the weights; where a method reads them, it is "
        "computed eagerly."
    ]
    assert model.model.config._attn_implementation == "sdpa"


def test_a_gradient_under_dropout_is_not_shared() -> None:
    model = tiny_classifier()
    batch = make_batch([model.encode(Example("a", (CORPUS[0],)))])
    target = torch.tensor([0])
    with model.at_work():
        model.model.train()
        model.input_gradient(batch, target)
        assert "input_gradient" not in batch.memo
        model.model.eval()
        plain = model.input_gradient(batch, target)
        model.model.train()
        model.input_gradient(batch, target)
        model.model.eval()
        assert model.input_gradient(batch, target) is plain


def test_only_warnings_of_transformers_are_held_back_and_only_meanwhile(caplog: pytest.LogCaptureFixture) -> None:
    theirs, own = logging.getLogger("transformers.models.bert"), logging.getLogger("my_module")
    logging.getLogger("transformers").addHandler(caplog.handler)
    try:
        for place in range(2):
            with quiet():
                theirs.warning("held back")
                theirs.error("an error %d", place)
                own.warning("another's")
            theirs.warning("after")
    finally:
        logging.getLogger("transformers").removeHandler(caplog.handler)
    said = list(dict.fromkeys(caplog.messages))
    assert said == ["an error 0", "another's", "after", "an error 1"]
