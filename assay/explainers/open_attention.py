"""Scaled dot product attention one operation at a time, for methods that must see each of them.

This file imports torch; explainers import it inside their methods.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def open_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
    *,
    matmul: Callable[[Tensor, Tensor], Tensor] = torch.matmul,
    softmax: Callable[[Tensor], Tensor] = lambda scores: torch.softmax(scores, dim=-1),
) -> Tensor:
    """What `torch.nn.functional.scaled_dot_product_attention` computes in eval mode, of the same arguments.

    Args:
        query: [..., heads, tokens, width].
        key: [..., heads or fewer, tokens, width]; fewer are repeated.
        value: as `key`.
        attn_mask: Boolean, or added to the scores.
        dropout_p: ignored.
        is_causal: whether a token attends to those before it alone.
        scale: what the scores are multiplied with; by default 1 / √width.
        enable_gqa: ignored; grouped heads are recognised by their number.
        matmul: how two activations are multiplied.
        softmax: how scores become weights.
    """
    groups = query.shape[-3] // key.shape[-3]
    if groups > 1:
        key, value = (states.repeat_interleave(groups, dim=-3) for states in (key, value))
    scores = matmul(query, key.transpose(-2, -1)) * (query.shape[-1] ** -0.5 if scale is None else scale)
    if is_causal:
        attn_mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).tril()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        # Not -inf: a row of padding may see nothing at all.
        scores = scores.masked_fill(~attn_mask, torch.finfo(scores.dtype).min)
    elif attn_mask is not None:
        scores = scores + attn_mask
    return matmul(softmax(scores).to(value.dtype), value)
