"""What conversations ask: whether it is a question at all, its masks, and how much memory it takes."""

from __future__ import annotations

from typing import Any

import numpy as np

from assay.conversation import Keep, Question, Rough, Soften
from assay.encoding import Encoding


def checked(asked: Any, encoding: Encoding) -> Question:
    """A private copy of what was asked.

    Raises:
        ValueError: it is no question.
    """
    if isinstance(asked, Soften):
        retention = np.array(asked.retention, dtype=np.float64)
        if retention.ndim != 2 or retention.shape[1] != encoding.n or not np.all((retention >= 0) & (retention <= 1)):
            raise ValueError(
                f"asked with retentions of shape {retention.shape}; they are chances from 0 to 1 of shape "
                f"[queries, {encoding.n}]"
            )
        return Soften(retention, asked.draws, asked.seed)
    if isinstance(asked, Rough):
        return Rough(_mask(asked.keep, encoding), asked.dtype)
    return _mask(asked, encoding)


def memory(asked: Question | None) -> int:
    """About how much memory a question takes."""
    return asked.retention.nbytes if isinstance(asked, Soften) else masks(asked).nbytes


def masks(asked: Question | None) -> Keep:
    """The masks of a question that has some."""
    assert asked is not None
    assert not isinstance(asked, Soften)
    return asked.keep if isinstance(asked, Rough) else asked


def _mask(keep: Any, encoding: Encoding) -> Keep:
    try:
        keep = np.asarray(keep).copy()
    except Exception as error:
        raise ValueError(f"asked with something that is no array: {type(error).__name__}: {error}") from error
    if keep.dtype != np.bool_ or keep.ndim != 2 or keep.shape[1] != encoding.n:
        raise ValueError(
            f"asked with an array of {keep.dtype} and shape {keep.shape}; "
            f"a keep-mask is boolean with shape [queries, {encoding.n}]"
        )
    mask: Keep = keep
    return mask
