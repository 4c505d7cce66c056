"""A Hugging Face model and its tokenizer behind one face: encode, logits, embeddings, attentions."""

from __future__ import annotations

import inspect
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import cached_property, partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from assay.autocast import autocast
from assay.compiled_network import CompiledNetwork
from assay.conversation import Cost
from assay.device import reader, to_device
from assay.eager_attention import eager_attention, no_hooks_left
from assay.encoding import Batch, Encoding, FeatureUnit, Output, Row, encode
from assay.errors import AssayError, near_matches
from assay.example import Example
from assay.last_layer import first_token_only
from assay.model_loading import (
    DTYPES,
    DeviceMap,
    Dtype,
    check_placing,
    is_spread,
    load_config,
    load_network,
    loading,
    quiet,
)
from assay.rows import Stack
from assay.weights import fingerprint, weights_in_memory

Device = Literal["auto", "cpu", "cuda", "mps"]


class Classifier:
    """A text classifier that can be probed.

    The model that is handed in stays as it was: train mode, frozen parameters, attention implementation and hooks are
    put back whenever `at_work` ends.

    Attributes:
        name: the hub id or the folder's name.
        labels: the class names, in the order of the logits.
        revision: the hub commit that the weights came from, or None for a local folder.
        cost: what has been asked of the model so far, counted where the model is called.
        borrowed: what would have been asked besides, had it not been known from another method.
        has_told_of_eager_attention: whether a line has said that its attention is computed in another way than it came.
        prompt: the template and label words of a prompted language model; None for a classifier.
    """

    prompt: Mapping[str, Any] | None = None
    has_told_of_eager_attention = False
    _compiled: CompiledNetwork | None = None

    def __init__(
        self, model: Any, tokenizer: Any, name: str = "model", dtype: Dtype = "float32", revision: str | None = None
    ) -> None:
        """Wrap a model and its tokenizer.

        Args:
            model: a transformers sequence classification model, where it is to run.
            tokenizer: its fast tokenizer.
            name: what results call it.
            dtype: the precision of the arithmetic; the weights stay as they are (autocast), which errs less than
                converting them. Weights in half precision are never computed with in `float32`, but in their own.
            revision: the hub commit of the weights.
        """
        if dtype not in DTYPES:
            raise AssayError(f"Unknown dtype {dtype!r}. {near_matches(dtype, DTYPES)}")
        self.model = model
        self.tokenizer = tokenizer
        self.name = name
        self.dtype: Dtype = self.weights if dtype == "float32" else dtype
        self.revision = revision
        self.cost = Cost()
        self.borrowed = Cost()
        id2label = model.config.id2label
        self.labels: tuple[str, ...] = tuple(str(id2label[index]) for index in sorted(id2label))

    @classmethod
    def from_pretrained(
        cls,
        path: str | Path,
        device: Device = "auto",
        dtype: Dtype = "float32",
        revision: str | None = None,
        weights: Dtype = "float32",
        device_map: DeviceMap | None = None,
    ) -> Classifier:
        """Load a sequence classification model from a local folder or the Hugging Face hub.

        Remote code is never run.

        Args:
            path: a local folder or a hub id.
            device: where it runs; `auto` takes CUDA, then MPS, then the CPU.
            dtype: the precision of the arithmetic (see the constructor).
            revision: a branch, tag or commit on the hub; the commit it stands for is recorded.
            weights: the precision of the weights; half of it takes half of the memory, and rounds each weight.
            device_map: how a model that is too large for one device is spread over several, the CPU and the disk
                (accelerate): `auto`, or a device for each module by its name. It takes the place of `device`.

        Raises:
            AssayError: no such folder, not a classifier, no fast tokenizer, or a device that is not there.
        """
        from transformers import AutoModelForSequenceClassification, AutoTokenizer

        check_placing(device, weights, device_map)
        config = load_config(path, revision)
        with loading(path, "a classifier"):
            tokenizer = AutoTokenizer.from_pretrained(str(path), revision=revision)
            model, info = load_network(AutoModelForSequenceClassification, path, revision, device, weights, device_map)
        if info["missing_keys"]:
            raise AssayError(
                f"{str(path)!r} is not a classifier: its weights lack {', '.join(sorted(info['missing_keys'])[:3])}. "
                "Fine-tune it first, for example with `assay train`."
            )
        commit = getattr(config, "_commit_hash", None)
        return cls(model, tokenizer, Path(path).name or str(path), dtype, commit)

    @property
    def device(self) -> torch.device:
        """Where the model is; of one over several devices, where it takes its inputs."""
        if is_spread(self.model):
            first: torch.device = self.model.get_input_embeddings().weight.device
            if first.type != "meta":
                return first
            # What is fetched when it is needed is fetched to the first device that computes.
            places = [place for place in self.model.hf_device_map.values() if place not in ("cpu", "disk")]
            return torch.device(places[0] if places else "cpu")
        device: torch.device = next(self.model.parameters()).device
        return device

    @property
    def weights(self) -> Dtype:
        """The precision of the weights."""
        kinds = {kind: name for name, kind in DTYPES.items()}
        found = [kinds[weight.dtype] for weight in self.model.parameters() if weight.dtype in kinds]
        # Some architectures keep a few weights in float32 where the others are rounded.
        rounded: list[Any] = [name for name in found if name != "float32"]
        return rounded[0] if rounded else "float32"

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the names, shapes and values of the weights, the same for every file format."""
        return fingerprint(self.model)

    @property
    def embedding_table(self) -> Tensor:
        """The word embeddings, [vocabulary, width], in float32 and where the model takes its inputs."""
        table: Tensor = self.model.get_input_embeddings().weight.detach()
        if table.device.type == "meta":
            names = (name for name, module in self.model.named_modules() if module is self.model.get_input_embeddings())
            table = weights_in_memory(self.model, f"{next(names)}.weight").to(self.device)
        return table.float()

    def check_whole(self) -> None:
        """See that weights can be taken out of the network and put into it, as some methods do.

        Raises:
            AssayError: they are on several devices, or in half precision.
        """
        if is_spread(self.model):
            raise AssayError(
                f"{self.name} is spread over several devices (model.device_map), and this takes weights out of the "
                "network, which must be on one. Set model.device_map=null, or choose another method."
            )
        if self.weights != "float32":
            raise AssayError(
                f"{self.name} keeps its weights in {self.weights}, and this computes with them in float32. "
                "Set model.weights=float32, or choose another method."
            )

    @property
    def embedding_width(self) -> int:
        """The number of elements of a word embedding."""
        return int(self.model.get_input_embeddings().weight.shape[1])

    @cached_property
    def max_length(self) -> int:
        """The most tokens that the model reads, special tokens included."""
        limits = [self.tokenizer.model_max_length]
        positions = getattr(self.model.config, "max_position_embeddings", None)
        if positions and positions > 0:
            # RoBERTa and its kin count positions from the padding id + 1, so that many rows are never used.
            offset = next(
                (
                    module.padding_idx + 1
                    for name, module in self.model.named_modules()
                    if name.endswith("position_embeddings") and getattr(module, "padding_idx", None) is not None
                ),
                0,
            )
            limits.append(positions - offset)
        return int(min(limits))

    @cached_property
    def hidden_token(self) -> tuple[str, int]:
        """The kind and the id of the token that stands for something hidden: `mask`, else `unknown`, else `padding`.

        Raises:
            AssayError: the tokenizer has none of them.
        """
        kinds = {
            "mask": self.tokenizer.mask_token_id,
            "unknown": self.tokenizer.unk_token_id,
            "padding": self.tokenizer.pad_token_id,
        }
        for kind, token_id in kinds.items():
            if token_id is not None:
                return kind, int(token_id)
        raise AssayError(
            f"{self.name}'s tokenizer has no mask, unknown or padding token to hide a word with. "
            "Use perturbation=delete, which needs none."
        )

    def class_index(self, target: int | str) -> int:
        """The index of a class named by its label or its index.

        Raises:
            AssayError: no such class.
        """
        if isinstance(target, str):
            if target not in self.labels:
                raise AssayError(f"{self.name} has no class {target!r}. {near_matches(target, self.labels)}")
            return self.labels.index(target)
        if not 0 <= target < len(self.labels):
            raise AssayError(f"{self.name} has no class {target}; its classes are 0 to {len(self.labels) - 1}.")
        return int(target)

    def encode(self, example: Example, feature: FeatureUnit = "word") -> Encoding:
        """The example as this model reads it, cut off at `max_length`."""
        return encode(example, self.tokenizer, self.max_length, feature, self._takes_segments)

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Eval mode and frozen parameters for as long as this lasts; afterwards everything is as it was."""
        training = {module: module.training for module in self.model.modules()}
        trainable = {parameter: parameter.requires_grad for parameter in self.model.parameters()}
        self.model.eval()
        for parameter in trainable:
            parameter.requires_grad_(False)
        try:
            yield
        finally:
            for module, mode in training.items():
                module.training = mode
            for parameter, flag in trainable.items():
                parameter.requires_grad_(flag)

    def answer(self, rows: Sequence[Row], dtype: Dtype | None = None) -> NDArray[np.float32]:
        """The logits of rows of one kind (`Row.kind`), [rows, classes]."""
        return self.begin(Stack.of(rows), dtype)()

    def begin(self, rows: Stack, dtype: Dtype | None = None) -> Callable[[], NDArray[np.float32]]:
        """Give the model rows; a call of what is returned waits for their logits, [rows, classes], and reads them.

        Where the class is read off the first token, the last layer works for that one alone. On CUDA this returns as
        soon as the work is queued, so that the host can prepare what comes next meanwhile.
        """
        ids, inputs = to_device(rows.ids, self.device).long(), {}
        if rows.segments is not None:
            inputs["token_type_ids"] = to_device(rows.segments, self.device).long()
        if rows.attended is not None:
            inputs["attention_mask"] = to_device(rows.attended, self.device).long()
        # A compiled network has no room for what is hung into it.
        one_token = first_token_only(self.model) if self._compiled is None else nullcontext()
        with torch.inference_mode(), one_token:
            if rows.attended is None and rows.embedded is None:
                logits = self._forward(ids, None, inputs, dtype)
            else:
                # RoBERTa and its kin count positions over the ids that are not padding; in embeddings nothing moves.
                embeddings = self.model.get_input_embeddings()(ids)
                if rows.embedded is not None:
                    embeddings = embeddings * to_device(rows.embedded, self.device)
                ends_early = rows.attended is not None and self._reads_last_token
                forward = self._forward_by_length if ends_early else partial(self._forward, None)
                logits = forward(embeddings, inputs, dtype)
            return reader(logits.float())

    def compile(self) -> None:
        """Answer the engine's rows by a compiled network from now on.

        Methods that look inside see the network itself, which stays as it is. Where compiling fails, a line says so,
        and the network answers as before.
        """
        self._compiled = CompiledNetwork(self.model, self.name)

    def embeddings(self, batch: Batch) -> Tensor:
        """The word embeddings of a batch, [batch, tokens, width], before positions and segments are added."""
        embedded: Tensor = self.model.get_input_embeddings()(batch.input_ids)
        # Points between embeddings cannot be told apart in half precision.
        return embedded.detach().float()

    def output(self, batch: Batch, target: Tensor, embeddings: Tensor | None = None) -> Tensor:
        """The target's output for each row, [batch], with a gradient.

        Args:
            batch: the encoded examples.
            target: [batch], the class that is explained.
            embeddings: [copies * batch, tokens, width], in place of the batch's own word embeddings: all its rows, then
                all its rows again; masks, segments and targets are repeated to match.

        Under a contrast (`batch.foil`) it is the target's output less the foil's.
        """
        rows = len(batch.input_ids) if embeddings is None else len(embeddings)
        copies = rows // len(batch.input_ids)
        inputs = {name: value.repeat(copies, 1) for name, value in batch.model_inputs.items()}
        if self._reads_last_token and batch.attention_mask is not None:
            logits = self._forward_by_length(self.embeddings(batch) if embeddings is None else embeddings, inputs)
        else:
            logits = self._forward(batch.input_ids if embeddings is None else None, embeddings, inputs, None)
        # The last of several devices gives the logits.
        outputs = transform(logits.float().to(target.device), batch.output)
        chosen = outputs.gather(1, target.repeat(copies)[:, None])
        if batch.foil is not None:
            chosen = chosen - outputs.gather(1, batch.foil.repeat(copies)[:, None])
        return chosen.squeeze(1)

    def input_gradient(self, batch: Batch, target: Tensor) -> Tensor:
        """The gradient of each row's output at its word embeddings, [batch, tokens, width].

        It is computed once for a batch, whoever asks; everyone who asks is charged for it (`borrowed`).
        """
        # What a method does in train mode, with dropout, is no one else's.
        memo = {} if any(module.training for module in self.model.modules()) else batch.memo
        if "input_gradient" not in memo:
            before, started = self.cost.copy(), time.perf_counter()
            with torch.enable_grad():
                leaf = self.embeddings(batch).requires_grad_()
                # Rows do not see each other, so the gradient of their sum holds each row's own.
                (gradient,) = torch.autograd.grad(self.output(batch, target, leaf).sum(), leaf)
            spent = self.cost.since(before)
            spent.seconds = time.perf_counter() - started
            memo["input_gradient"] = gradient, spent
        else:
            self.borrowed.add(memo["input_gradient"][1])
        found: Tensor = memo["input_gradient"][0]
        return found

    def read_token(self, batch: Batch) -> Tensor:
        """The place of the token whose state the class is read off, [batch]: the first, or a decoder's last."""
        count = torch.full_like(batch.input_ids[:, 0], batch.input_ids.shape[1])
        if batch.attention_mask is not None:
            count = batch.attention_mask.sum(1)
        return count - 1 if self._reads_last_token else torch.zeros_like(count)

    def attentions(self, batch: Batch) -> list[Tensor]:
        """Each layer's attention, [batch, heads, tokens, tokens]; a row sums to 1 over the tokens it attends to.

        Raises:
            AssayError: an architecture that does not report its attention, or reports a wrong one.
        """
        if getattr(self.model.config, "alibi", False):
            raise AssayError(
                f"{self.name} ({type(self.model).__name__}) counts its position bias (ALiBi) twice where it reports "
                "its attention weights, so that they are not those that it uses."
            )
        with eager_attention(self):
            outputs = self._call(input_ids=batch.input_ids, output_attentions=True, **batch.model_inputs)
        layers = getattr(outputs, "attentions", None)
        if not layers or any(layer is None for layer in layers):
            raise AssayError(f"{self.name} ({type(self.model).__name__}) does not report its attention weights.")
        return list(layers)

    def hidden_states(self, batch: Batch) -> list[Tensor]:
        """The embeddings that enter the first layer and each layer's output, each [batch, tokens, width]."""
        with no_hooks_left(self.model), quiet():
            outputs = self._call(input_ids=batch.input_ids, output_hidden_states=True, **batch.model_inputs)
        return list(outputs.hidden_states)

    @cached_property
    def _takes_segments(self) -> bool:
        return "token_type_ids" in inspect.signature(self.model.forward).parameters

    @cached_property
    def _takes_positions(self) -> bool:
        return "position_ids" in inspect.signature(self.model.forward).parameters

    @cached_property
    def _reads_last_token(self) -> bool:
        """Whether the class is read off the last token that is not padding, as decoders do."""
        return hasattr(self.model, "score") and "input_ids" in inspect.signature(self.model.forward).parameters

    def _forward(
        self, ids: Tensor | None, embeddings: Tensor | None, inputs: dict[str, Tensor], dtype: Dtype | None
    ) -> Tensor:
        if ids is not None and self._reads_last_token and "attention_mask" not in inputs:
            # Decoders look for padding by its token id; a hidden last word may carry that id and would be passed over.
            ids, embeddings = None, self.model.get_input_embeddings()(ids)
        with autocast(self.model, len(self.labels), self.device, dtype or self.dtype), quiet():
            logits: Tensor = self._call(input_ids=ids, inputs_embeds=embeddings, **inputs).logits
        return logits

    def _forward_by_length(self, embeddings: Tensor, inputs: dict[str, Tensor], dtype: Dtype | None = None) -> Tensor:
        """A decoder's logits of rows that end at the last token that is attended to, those of one length at a time.

        In embeddings it cannot see where a row ends; what comes after is read by no token before.
        """
        mask = inputs["attention_mask"]
        positions = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
        lengths = (mask * (positions + 1)).amax(1)
        logits, places = [], []
        for length in sorted(set(lengths.tolist())):
            (chosen,) = (lengths == length).nonzero(as_tuple=True)
            part = {name: value[chosen, :length] for name, value in inputs.items()}
            if part["attention_mask"].all():
                del part["attention_mask"]
            elif self._takes_positions:
                # OPT, for one, counts positions over what is attended to.
                part["position_ids"] = positions[chosen, :length]
            logits.append(self._forward(None, embeddings[chosen, :length], part, dtype))
            places.append(chosen)
        return torch.cat(logits)[torch.cat(places).argsort()]

    def _call(self, **inputs: Any) -> Any:
        given = {name: value for name, value in inputs.items() if value is not None}
        if "inputs_embeds" in given:
            given["inputs_embeds"] = given["inputs_embeds"].to(self.model.get_input_embeddings().weight.dtype)
        shape = given["input_ids" if "input_ids" in given else "inputs_embeds"].shape
        rows, tokens = shape[0], shape[0] * shape[1]
        self.cost.forward_rows += rows
        self.cost.forward_tokens += tokens
        # Only the engine's rows are answered in inference mode; whoever looks inside needs the network itself.
        network = self.model if self._compiled is None or not torch.is_inference_mode_enabled() else self._compiled
        outputs = network(**given)
        if outputs.logits.requires_grad:

            def count(_: Tensor) -> None:
                self.cost.backward_rows += rows
                self.cost.backward_tokens += tokens

            outputs.logits.register_hook(count)
        return outputs


def transform(logits: Tensor, output: Output) -> Tensor:
    """Logits as the output that is asked for, over the last axis."""
    if output == "probability":
        return logits.softmax(-1)
    if output == "log_probability":
        return logits.log_softmax(-1)
    return logits
