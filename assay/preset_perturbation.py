"""Perturbations that presets need to follow a tool to the letter, its peculiarities included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from assay.conversation import Keep
from assay.encoding import Encoding, Ids, Row, settings_kept
from assay.errors import AssayError
from assay.perturbation import Delete, Mask, Perturbation

if TYPE_CHECKING:
    from assay.classifier import Classifier

# ICE's empty input under masking, whatever the length of the text.
_ICE_MASKS = 5


@dataclass(frozen=True)
class DeleteAndRetokenise(Perturbation):
    """The tokens of a hidden feature are dropped, the rest is decoded to a text, and that is tokenised again (ferret).

    A piece whose beginning is gone is glued to the word before it, or at the start of a text becomes characters of its
    own, so that the model often sees other tokens than were kept. Each text of a pair is decoded by itself; what is
    not part of a text, such as special tokens and a prompt, stays. The full input is left as it is, and what has become
    longer than the model reads is cut off at the end.
    """

    _bound: list[tuple[Any, int]] = field(default_factory=list, init=False, repr=False, compare=False)

    def check(self, model: Classifier) -> None:
        """Take hold of the model's tokenizer."""
        self._bound[:] = [(model.tokenizer, model.max_length)]

    def rows(self, encoding: Encoding, keep: Keep, hidden_id: int) -> list[Row]:
        """One row, of what the text that is left is read as, for each keep-mask.

        Raises:
            AssayError: `check` has not been called yet, so that there is no tokenizer.
        """
        if not self._bound:
            raise AssayError("delete_and_retokenise has no tokenizer yet; call its `check` with the classifier first.")
        return [encoding.row if visible.all() else self._read_again(encoding, visible) for visible in keep]

    def _read_again(self, encoding: Encoding, visible: NDArray[np.bool_]) -> Row:
        tokenizer, most = self._bound[0]
        ids, segments = encoding.row.ids, encoding.row.segments
        feature = encoding.feature_of_token
        text_of_feature = np.array([one.segment for one in encoding.features])
        parts, kinds, end = [], [], 0
        for text in np.unique(text_of_feature):
            own = (feature >= 0) & (text_of_feature[feature] == text)
            first, last = np.flatnonzero(own)[[0, -1]]
            left = ids[first : last + 1][visible[feature[first : last + 1]] | (feature[first : last + 1] < 0)]
            with settings_kept(tokenizer):
                read = tokenizer(tokenizer.decode(left), add_special_tokens=False, verbose=False)["input_ids"]
            surplus = max(0, len(read) - (last + 1 - first) + len(ids) - most)
            parts += [ids[end:first], np.array(read[: len(read) - surplus], dtype=np.int64)]
            if segments is not None:
                kinds += [segments[end:first], np.full(len(parts[-1]), segments[first])]
            end = last + 1
        whole: Ids = np.concatenate([*parts, ids[end:]])
        return Row(whole, None if segments is None else np.concatenate([*kinds, segments[end:]]))


@dataclass(frozen=True)
class IceMask(Mask):
    """Each token of a hidden feature becomes the mask token, as ICE does it.

    Args:
        fixed_empty_input: whether five mask tokens between the special ones of a single text stand for the text with
            everything hidden, whatever its length; else it is as long as the text.
        lost_segments: whether the segment ids are left out of every input, the full one too, so that a pair is read as
            if all were its first text. A bug of ICE's.
    """

    fixed_empty_input: bool = True
    lost_segments: bool = False

    def rows(self, encoding: Encoding, keep: Keep, hidden_id: int) -> Sequence[Row]:
        """One row for each keep-mask."""
        rows = super().rows(encoding, keep, hidden_id)
        empty = np.full(_ICE_MASKS, hidden_id) if self.fixed_empty_input else None
        return _as_ice_reads(rows, encoding, keep, empty, self.lost_segments)


@dataclass(frozen=True)
class IceDelete(Delete):
    """The tokens of a hidden feature are dropped, as ICE does it.

    Args:
        fixed_empty_input: whether the special tokens of a single text stand for the text with everything hidden, also
            where it is a pair.
        lost_segments: whether the segment ids are left out of every input, the full one too, so that a pair is read as
            if all were its first text. A bug of ICE's.
    """

    fixed_empty_input: bool = True
    lost_segments: bool = False

    def rows(self, encoding: Encoding, keep: Keep, hidden_id: int) -> Sequence[Row]:
        """One row for each keep-mask."""
        rows = super().rows(encoding, keep, hidden_id)
        empty = np.empty(0, dtype=np.int64) if self.fixed_empty_input else None
        return _as_ice_reads(rows, encoding, keep, empty, self.lost_segments)


def _as_ice_reads(
    rows: Sequence[Row], encoding: Encoding, keep: Keep, empty: Ids | None, lost_segments: bool
) -> Sequence[Row]:
    """The rows with ICE's own input where nothing is visible, and without segment ids.

    Args:
        rows: one for each keep-mask.
        encoding: the full input.
        keep: [queries, n].
        empty: what stands between the special tokens of the empty input; None to leave that as it is.
        lost_segments: whether every segment id becomes 0.
    """
    if empty is not None:
        own = np.flatnonzero(encoding.feature_of_token >= 0)
        ids = np.concatenate([encoding.row.ids[: own[0]], empty, encoding.row.ids[own[-1] + 1 :]])
        nothing = Row(ids, None if encoding.row.segments is None else np.zeros_like(ids))
        rows = [row if visible.any() else nothing for row, visible in zip(rows, keep, strict=True)]
    if lost_segments and encoding.row.segments is not None:
        rows = [replace(row, segments=np.zeros_like(row.ids)) for row in rows]
    return rows
