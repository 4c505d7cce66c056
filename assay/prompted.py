"""A causal language model as a classifier, read through the label word that it would write after a prompt."""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from assay.autocast import autocast
from assay.classifier import Classifier, Device
from assay.encoding import Encoding, FeatureUnit, Place, Row, check_encodable, find_features, settings_kept
from assay.errors import AssayError
from assay.example import Example
from assay.model_loading import DeviceMap, Dtype, check_placing, load_causal_config, load_network, loading

SLOTS = {1: ("{text}",), 2: ("{first}", "{second}")}
_SLOT = re.compile("|".join(re.escape(slot) for slots in SLOTS.values() for slot in slots))


class PromptedClassifier(Classifier):
    """A causal language model read through a prompt and a label word for each class.

    The text is put into the template's slot. A class scores the log-probability of its label word after that, summed
    over the word's tokens; probabilities are normalised over the classes. Only the words of the text can be hidden,
    never the template: a token that holds characters of both (as may happen where no white space parts them) stays.
    Where the prompt is longer than the model reads, the end of the text is cut off, never the template.

    Every row is asked once where all label words are single tokens, and otherwise once for each class whose word has
    several. Attention and hidden states are those of the prompt alone.

    Attributes:
        prompt: the template and the label words, as they belong to a result's protocol.
        label_ids: the tokens of each class's label word, [classes][tokens].
    """

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        template: str,
        label_words: Mapping[str, str],
        name: str = "model",
        dtype: Dtype = "float32",
        revision: str | None = None,
    ) -> None:
        """Wrap a causal language model and its tokenizer.

        Args:
            model: a transformers causal language model, where it is to run.
            tokenizer: its fast tokenizer.
            template: the prompt, with the slot `{text}`, or `{first}` and `{second}` for the two texts of a pair. It
                ends where the label word begins.
            label_words: for each class its word, exactly as it is to follow the template: with a space in front where
                the template does not end in white space.
            name: what results call it.
            dtype: the precision of the arithmetic.
            revision: the hub commit of the weights.

        Raises:
            AssayError: a template without its slots, fewer than two classes, or label words that the tokenizer cannot
                tell apart by their first token or turns into nothing.
        """
        self._parts = parse_template(template)
        super().__init__(model, tokenizer, name, dtype, revision)
        if not isinstance(label_words, Mapping) or len(label_words) < 2:
            raise AssayError(f"label_words must give a word for each of at least two classes, not {label_words!r}.")
        self.labels = tuple(str(label) for label in label_words)
        self._words = tuple(str(word) for word in label_words.values())
        self.prompt = {"template": template, "label_words": dict(zip(self.labels, self._words, strict=True))}
        self.label_ids = self._tokenized_words()

    @classmethod
    def load(
        cls,
        path: str | Path,
        template: str,
        label_words: Mapping[str, str],
        device: Device = "auto",
        dtype: Dtype = "float32",
        revision: str | None = None,
        weights: Dtype = "float32",
        device_map: DeviceMap | None = None,
    ) -> PromptedClassifier:
        """Load a causal language model from a local folder or the Hugging Face hub; remote code is never run.

        Args:
            path: a local folder or a hub id.
            template: see the constructor.
            label_words: see the constructor.
            device: where it runs; `auto` takes CUDA, then MPS, then the CPU.
            dtype: the precision of the arithmetic.
            revision: a branch, tag or commit on the hub; the commit it stands for is recorded.
            weights: the precision of the weights.
            device_map: how the model is spread over devices (`Classifier.from_pretrained` says more).

        Raises:
            AssayError: no such folder, not a causal language model, no fast tokenizer, or what the constructor raises.
        """
        from transformers import AutoModelForCausalLM, AutoTokenizer

        check_placing(device, weights, device_map)
        parse_template(template)
        config = load_causal_config(path, revision)
        with loading(path, "a causal language model"):
            tokenizer = AutoTokenizer.from_pretrained(str(path), revision=revision)
            model, _ = load_network(AutoModelForCausalLM, path, revision, device, weights, device_map)
        commit = getattr(config, "_commit_hash", None)
        name = Path(path).name or str(path)
        return cls(model, tokenizer, template, label_words, name, dtype, commit)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weights, the template and the label words."""
        weights = super().fingerprint
        return hashlib.sha256(json.dumps([weights, self.prompt]).encode()).hexdigest()

    @cached_property
    def max_length(self) -> int:
        """The most tokens that a prompt may have, with room left for the longest label word."""
        return super().max_length - max(len(ids) for ids in self.label_ids) + 1

    def encode(self, example: Example, feature: FeatureUnit = "word") -> Encoding:
        """The prompt with the example in its slots, as this model reads it.

        Raises:
            AssayError: another number of texts than the template has slots, a template that alone is too long, or what
                `assay.encoding.encode` raises.
        """
        check_encodable(self.tokenizer, feature)
        slots = len(self._parts) - 1
        if len(example.text) != slots:
            raise AssayError(
                f"Example {example.id!r} has {len(example.text)} text{'s' * (len(example.text) > 1)}, but the template "
                f"has {' and '.join(SLOTS[slots])}. It needs {' and '.join(SLOTS[len(example.text)])}."
            )
        texts = list(example.text)
        ids, places = self._read(texts)
        full_length = len(ids)
        while len(ids) > self.max_length:
            # The longer text gives first, as tokenizers do it.
            longest = max(
                range(slots), key=lambda slot: sum(place is not None and place[0] == slot for place in places)
            )
            own = [place for place in places if place is not None and place[0] == longest]
            if not own:
                raise AssayError(
                    f"The template alone has {len(ids)} tokens, and {self.name} reads {self.max_length}. Shorten it."
                )
            surplus = min(len(ids) - self.max_length, len(own))
            texts[longest] = texts[longest][: min(own[-surplus][1], len(texts[longest]) - 1)].rstrip()
            ids, places = self._read(texts)
        row = Row(np.array(ids, dtype=np.int64))
        return find_features(example, row, places, self.tokenizer, feature, truncated=full_length - len(ids))

    def _read(self, texts: Sequence[str]) -> tuple[list[int], list[Place | None]]:
        """The tokens of the filled template, and where in the texts each stands."""
        filled = self._parts[0]
        spans = []
        for text, after in zip(texts, self._parts[1:], strict=True):
            spans.append((len(filled), len(filled) + len(text)))
            filled += text + after
        with settings_kept(self.tokenizer):
            encoded = self.tokenizer(
                filled,
                return_offsets_mapping=True,
                return_attention_mask=False,
                return_token_type_ids=False,
                verbose=False,
            )
        places: list[Place | None] = []
        for start, end in encoded["offset_mapping"]:
            slot = next((slot for slot, (first, last) in enumerate(spans) if start < last and end > first), None)
            if slot is None:
                places.append(None)
                continue
            first, last = spans[slot]
            outside = filled[start : max(start, first)] + filled[min(end, last) : end]
            # The white space before a word may be part of its first token; anything else of the template stays.
            own = None if outside.strip() else (slot, max(start - first, 0), min(end, last) - first)
            places.append(own)
        return encoded["input_ids"], places

    def _tokenized_words(self) -> list[list[int]]:
        """The tokens of each label word as they follow the template, [classes][tokens]."""
        end = self._parts[-1]
        found = []
        with settings_kept(self.tokenizer):
            start = self.tokenizer(end, add_special_tokens=False, verbose=False)["input_ids"]
            for label, word in zip(self.labels, self._words, strict=True):
                whole = self.tokenizer(end + word, add_special_tokens=False, verbose=False)["input_ids"]
                follows = whole[: len(start)] == start
                ids = whole[len(start) :] if follows else self.tokenizer(word, add_special_tokens=False)["input_ids"]
                if not ids:
                    raise AssayError(f"The label word {word!r} of class {label!r} has no tokens.")
                found.append([int(token) for token in ids])
        firsts: dict[int, str] = {}
        for (label, word), ids in zip(zip(self.labels, self._words, strict=True), found, strict=True):
            if ids[0] in firsts:
                token = self.tokenizer.convert_ids_to_tokens(ids[0])
                raise AssayError(
                    f"The label words {firsts[ids[0]]!r} and {word!r} (class {label!r}) begin with the same token, "
                    f"{token!r}. Choose words whose first tokens differ."
                )
            firsts[ids[0]] = word
        return found

    @cached_property
    def _takes_segments(self) -> bool:
        return False

    @cached_property
    def _reads_last_token(self) -> bool:
        return True

    @cached_property
    def _keeps_few_logits(self) -> bool:
        """Whether the model can be asked for the logits of the last places alone; a vocabulary's for all is a lot."""
        return "logits_to_keep" in inspect.signature(self.model.forward).parameters

    def _forward(
        self, ids: Tensor | None, embeddings: Tensor | None, inputs: dict[str, Tensor], dtype: Dtype | None
    ) -> Tensor:
        """Summed log-probabilities of the label words, [rows, classes]; rows have no padding."""
        if embeddings is None:
            embeddings = self.model.get_input_embeddings()(ids)
        longer = [label for label, word in enumerate(self.label_ids) if len(word) > 1]
        first = None
        scores: dict[int, Tensor] = {}
        for label in longer or [0]:
            word = torch.tensor(self.label_ids[label], device=embeddings.device)
            following = self.model.get_input_embeddings()(word[:-1]).expand(len(embeddings), -1, -1)
            both = torch.cat([embeddings, following], dim=1)
            rest = {name: _continued(name, value, len(word) - 1) for name, value in inputs.items()}
            found = self._log_probabilities(both, len(word), rest, dtype)
            scores[label] = found[:, torch.arange(len(word)), word].sum(1)
            first = found[:, 0] if first is None else first
        assert first is not None
        return torch.stack(
            [scores[label] if label in scores else first[:, word[0]] for label, word in enumerate(self.label_ids)],
            dim=1,
        )

    def _log_probabilities(
        self, embeddings: Tensor, places: int, inputs: dict[str, Tensor], dtype: Dtype | None
    ) -> Tensor:
        """Log-probabilities of the next token at the last places, [rows, places, vocabulary]."""
        few = {"logits_to_keep": places} if self._keeps_few_logits else {}
        with autocast(self.model, len(self.labels), self.device, dtype or self.dtype):
            logits = self._call(inputs_embeds=embeddings, use_cache=False, **few, **inputs).logits
        found: Tensor = logits[:, -places:].float().log_softmax(-1)
        return found


def _continued(name: str, values: Tensor, more: int) -> Tensor:
    """An attention mask or positions, [rows, tokens], with those of further tokens."""
    last = values[:, -1:]
    if name == "position_ids":
        return torch.cat([values, last + torch.arange(1, more + 1, device=values.device)], dim=1)
    return torch.cat([values, torch.ones_like(last).expand(-1, more)], dim=1)


def parse_template(template: str) -> list[str]:
    """What stands before, between and after the template's slots.

    Raises:
        AssayError: it has not exactly the slots of one text or those of a pair.
    """
    slots = tuple(_SLOT.findall(template)) if isinstance(template, str) else ()
    if slots not in SLOTS.values():
        has = f"it has {', '.join(slots)}" if slots else "it has no slot"
        raise AssayError(
            f"The template (model.template) must hold {{text}} once, or {{first}} and then {{second}} for the two "
            f"texts of a pair; {has}: {template!r}. For example: 'Review: {{text}}\\nSentiment:'"
        )
    return _SLOT.split(template)
