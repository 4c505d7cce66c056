"""Hidden features filled in by a masked language model, so that what the classifier reads stays a likely text."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay.checks import whole_number
from assay.conversation import Keep, generator
from assay.encoding import Encoding, Ids, Row
from assay.errors import AssayError
from assay.perturbation import Perturbation

if TYPE_CHECKING:
    from torch import Tensor

    from assay.classifier import Classifier
    from assay.example import Example

# A score for each entry of the vocabulary for each token: 60 MB at 30,000 entries, and up to six times that while
# tokens are drawn; on an accelerator sixteen times as much.
_CPU_TOKENS_PER_PASS = 512
_ACCELERATOR_TOKENS_PER_PASS = 8192


class MaskedLanguageModel:
    """A masked language model that says which tokens may stand in a hidden place.

    Args:
        model: a transformers masked language model, on the device where it is to run, in float32.
        tokenizer: its tokenizer.
        name: what messages call it.
    """

    def __init__(self, model: Any, tokenizer: Any, name: str = "masked language model") -> None:
        self.model = model
        self.tokenizer = tokenizer
        self.name = name

    @classmethod
    def from_pretrained(cls, path: str | Path, device: str = "cpu") -> MaskedLanguageModel:
        """Load a masked language model from a local folder or the Hugging Face hub. Remote code is never run.

        Raises:
            AssayError: it is not there, or is none.
        """
        import torch
        from transformers import AutoConfig, AutoModelForMaskedLM, AutoTokenizer
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

        from assay.model_loading import loading, quiet

        with loading(path, "a masked language model"), quiet():
            tokenizer = AutoTokenizer.from_pretrained(str(path))
            config = AutoConfig.from_pretrained(str(path))
            if type(config) not in MODEL_FOR_MASKED_LM_MAPPING:
                raise AssayError(
                    f"{str(path)!r} is not a masked language model: {config.model_type} models fill in no gaps. "
                    "Name the model that the classifier was fine-tuned from."
                )
            model, info = AutoModelForMaskedLM.from_pretrained(str(path), dtype=torch.float32, output_loading_info=True)
        if info["missing_keys"]:
            raise AssayError(
                f"{str(path)!r} is not a masked language model: its weights lack "
                f"{', '.join(sorted(info['missing_keys'])[:3])}. "
                "Name the model that the classifier was fine-tuned from."
            )
        return cls(model.to(device).eval(), tokenizer, Path(path).name or str(path))

    def check(self, classifier: Classifier) -> None:
        """Find out whether this model speaks the classifier's language.

        Raises:
            AssayError: the two give tokens different numbers, there is no mask token, or it reads shorter texts.
        """
        ours, theirs = self.tokenizer.get_vocab(), classifier.tokenizer.get_vocab()
        if ours != theirs:
            odd = min({*ours.items()} ^ {*theirs.items()})[0]
            raise AssayError(
                f"The masked language model {self.name} and {classifier.name} have different vocabularies: "
                f"{odd!r} is {ours.get(odd, 'missing')} in one and {theirs.get(odd, 'missing')} in the other. "
                "Its fillings are token ids, so the two must have the same: take the model that the classifier was "
                "fine-tuned from."
            )
        if self.tokenizer.mask_token_id is None:
            raise AssayError(
                f"The tokenizer of {self.name} has no mask token, so it cannot be asked what stands there."
            )
        reads, needed = (
            getattr(each.config, "max_position_embeddings", None) for each in (self.model, classifier.model)
        )
        if reads and needed and 0 < reads < needed:
            raise AssayError(f"{self.name} reads texts of {reads} positions, {classifier.name} of {needed}.")

    def draw(
        self,
        ids: Ids,
        segments: Ids | None,
        rows: NDArray[np.intp],
        places: NDArray[np.intp],
        chances: NDArray[np.float64],
    ) -> Ids:
        """Draw a token for each of some places, never a special one, [draws].

        Args:
            ids: [rows, tokens], with the mask token where something is asked.
            segments: [tokens], the segment ids, or None.
            rows: [draws], the row that is drawn for.
            places: [draws], the token in that row.
            chances: [draws], a number from [0, 1) for each draw; it decides which token that is.
        """
        import torch

        device = next(self.model.parameters()).device
        size = self._rows_per_pass(ids.shape[1])
        drawn = np.empty(len(rows), dtype=np.int64)
        with torch.inference_mode():
            for first in range(0, len(ids), size):
                part = torch.from_numpy(ids[first : first + size]).to(device)
                inputs = {}
                if segments is not None and self._takes_segments:
                    inputs["token_type_ids"] = torch.from_numpy(segments).to(device).expand_as(part)
                (here,) = np.nonzero((first <= rows) & (rows < first + size))
                asked, which = np.unique(np.stack([rows[here] - first, places[here]]), axis=1, return_inverse=True)
                logits = self.model(input_ids=part, **inputs).logits[tuple(torch.from_numpy(asked).to(device))]
                logits[:, self.tokenizer.all_special_ids] = -torch.inf
                # Some models have more rows of logits than tokens, for the sake of even sizes.
                logits[:, len(self.tokenizer) :] = -torch.inf
                drawn[here] = _inverse(logits, which.reshape(-1), chances[here])
        return drawn

    def log_probabilities(self, row: Row, places: NDArray[np.intp]) -> NDArray[np.float64]:
        """The log-probability of each of some tokens given all others, [places]: each is masked in a copy of its own.

        Args:
            row: the input, as a classifier reads it.
            places: which of its tokens are asked for.
        """
        import torch

        device = next(self.model.parameters()).device
        found = np.empty(len(places))

        def tensor(part: NDArray[Any] | None) -> Tensor:
            return torch.from_numpy(part).to(device)

        size = self._rows_per_pass(len(row.ids))
        with torch.inference_mode():
            for first in range(0, len(places), size):
                now = tensor(places[first : first + size])
                each = torch.arange(len(now), device=device)
                inputs: dict[str, Any] = {"input_ids": tensor(row.ids).repeat(len(now), 1)}
                inputs["input_ids"][each, now] = self.tokenizer.mask_token_id
                if row.segments is not None and self._takes_segments:
                    inputs["token_type_ids"] = tensor(row.segments).expand(len(now), -1)
                if row.attended is not None:
                    inputs["attention_mask"] = tensor(row.attended).long().expand(len(now), -1)
                if row.attended is not None or row.embedded is not None:
                    # As before the classifier: positions do not hang on which ids are padding.
                    inputs["inputs_embeds"] = self.model.get_input_embeddings()(inputs.pop("input_ids"))
                if row.embedded is not None:
                    inputs["inputs_embeds"] = inputs["inputs_embeds"] * tensor(row.embedded)
                logits = self.model(**inputs).logits[each, now].float()
                wanted = tensor(row.ids)[now]
                found[first : first + size] = logits.log_softmax(-1)[each, wanted].cpu().numpy()
        return found

    def _rows_per_pass(self, length: int) -> int:
        on_cpu = next(self.model.parameters()).device.type == "cpu"
        return max(1, (_CPU_TOKENS_PER_PASS if on_cpu else _ACCELERATOR_TOKENS_PER_PASS) // length)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 over the weights."""
        from assay.weights import fingerprint

        return fingerprint(self.model)

    @cached_property
    def _takes_segments(self) -> bool:
        return "token_type_ids" in inspect.signature(self.model.forward).parameters


def _inverse(logits: Tensor, which: NDArray[np.intp], chances: NDArray[np.float64]) -> Ids:
    """The token at which a distribution's cumulative probability passes a chance, [draws].

    Args:
        logits: [distributions, vocabulary].
        which: [draws], the distribution that is drawn from.
        chances: [draws], numbers from [0, 1).
    """
    import torch

    if logits.device.type == "mps":
        logits = logits.cpu()  # it has no float64
    edges = logits.double().softmax(-1).cumsum(-1)
    # One after the other on one line, distribution k from k to k + 1, all draws take one search.
    line = edges / edges[:, -1:] + torch.arange(len(edges), device=edges.device)[:, None]
    # Short of the end, so that rounding does not carry a draw over to the next distribution.
    wanted = torch.from_numpy(np.minimum(chances, 1 - 1e-9) + which).to(edges)
    found = torch.searchsorted(line.flatten(), wanted, right=True).cpu().numpy()
    tokens: Ids = found - which * logits.shape[1]
    return tokens


@lru_cache(maxsize=1)
def loaded(path: str, device: str) -> MaskedLanguageModel:
    """A masked language model by its path. The methods of one run often share one; the last is kept."""
    return MaskedLanguageModel.from_pretrained(path, device)


@dataclass(frozen=True)
class Infill(Perturbation):
    """Each hidden feature is filled in anew by a masked language model; outputs are averaged over several fillings.

    All tokens of the hidden features become the mask token, and the language model draws a token for each place: the
    first token of every hidden feature from what is visible, then the second ones with the first ones filled in, and so
    on, so that the pieces of a word fit each other (Harbecke & Alt 2020; Kim et al. 2020). The number of tokens stays,
    and special tokens are never drawn. The same features hidden in the same example are always filled in with the same
    draws.

    The language model must have the classifier's vocabulary; its rows are not counted as cost. Where many features are
    hidden at once, the first tokens of neighbouring words are drawn independently of each other and need not fit.

    Args:
        masked_lm: the masked language model, a local folder or a hub id; from Python also a `MaskedLanguageModel`.
        samples: how many fillings the output is averaged over.
        seed: of the fillings; null for the run's.

    Raises:
        ValueError: `samples` below 1.
        AssayError: no language model is given, or its vocabulary is another one (`check`).
    """

    masked_lm: str | Path | MaskedLanguageModel | None = None
    samples: int = 10
    seed: int | None = None
    _run_seed: int = field(default=0, init=False, repr=False, compare=False)
    _bound: list[MaskedLanguageModel] = field(default_factory=list, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "draws", whole_number("samples", self.samples, at_least=1))

    def check(self, model: Classifier) -> None:
        """Load the language model and compare the vocabularies.

        Raises:
            AssayError: no language model is given, it cannot be loaded, or its vocabulary is another one.
        """
        if self.masked_lm is None:
            raise AssayError(
                "infill draws fillings from a masked language model. Name one with the classifier's vocabulary, "
                "such as the model that it was fine-tuned from: perturbations.infill.masked_lm=PATH."
            )
        given = self.masked_lm
        found = given if isinstance(given, MaskedLanguageModel) else loaded(str(given), str(model.device))
        found.check(model)
        self._bound[:] = [found]

    def prepare(self, model: Classifier, background: Sequence[Example], seed: int = 0) -> None:
        """Take over the run's seed."""
        object.__setattr__(self, "_run_seed", seed)

    def rows(self, encoding: Encoding, keep: Keep, hidden_id: int) -> list[Row]:
        """The inputs with their fillings, `samples` for each keep-mask.

        Raises:
            AssayError: `check` has not been called yet, so that there is no language model.
        """
        if not self._bound:
            raise AssayError("infill has no language model yet; call its `check` with the classifier first.")
        feature = encoding.feature_of_token
        hidden = np.append(~keep, np.zeros((len(keep), 1), dtype=np.bool_), axis=1)[:, feature]
        ids = np.where(hidden, self._bound[0].tokenizer.mask_token_id, encoding.row.ids)
        filled = np.repeat(ids, self.samples, axis=0)
        chances = np.concatenate([np.empty((0, len(feature))), *(self._chances(encoding, mask) for mask in keep)])
        # A token's place within its feature; special tokens are never hidden.
        pieces = np.array([np.sum(feature[:token] == feature[token]) for token in range(len(feature))], dtype=np.intp)
        for piece in range(pieces[feature >= 0].max(initial=-1) + 1):
            now = np.repeat(hidden & (pieces == piece), self.samples, axis=0)
            if now.any():
                filled[now] = self._draw(filled, encoding.row.segments, now, chances)
        return [Row(row, encoding.row.segments) for row in filled]

    def _chances(self, encoding: Encoding, mask: NDArray[np.bool_]) -> NDArray[np.float64]:
        """A number from [0, 1) for each filling and token, [samples, tokens], the same whenever this mask is asked."""
        name = hashlib.sha256(np.packbits(mask).tobytes()).hexdigest()
        seed = self._run_seed if self.seed is None else self.seed
        return generator(seed, encoding.id, "infill", name).random((self.samples, len(encoding.feature_of_token)))

    def _draw(self, filled: Ids, segments: Ids | None, now: NDArray[np.bool_], chances: NDArray[np.float64]) -> Ids:
        """A token for each place of `now`, given the rows as they are filled so far."""
        rows, places = np.nonzero(now)
        asked = now.any(axis=1)
        # Fillings that agree so far are asked once.
        distinct, which = np.unique(filled[asked], axis=0, return_inverse=True)
        number = np.zeros(len(filled), dtype=np.intp)
        number[asked] = which.reshape(-1)
        return self._bound[0].draw(distinct, segments, number[rows], places, chances[rows, places])
