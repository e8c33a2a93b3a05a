"""Attention within each group of a packed row, for processors on which FlexAttention is slow: none crosses groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from vgid_core.packing import Packed

NAME = "vgid_groups"

GroupMasks = list[Tensor]


def group_masks(packed: Packed, dtype: torch.dtype) -> GroupMasks:
    """For each group what attention adds to its scores, [1, 1, length, length]: 0 or -inf.

    The groups are all there is of the row, one after the other: it has no padding.
    """
    masks = []
    for start, stop in packed.spans:
        places = torch.arange(start, stop, device=packed.ids.device)
        sees = packed.sees(places[:, None], places[None, :])
        mask = torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, float("-inf"))
        masks.append(mask[None, None])
    return masks


def _attend(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    groups: GroupMasks,
    **options: Any,
) -> tuple[Tensor, None]:
    """What Transformers calls in place of its own attention: query, key, value [1, heads, length, width]."""
    # split, not sliced: the gradient is then one concatenation, and not a row of zeros for each group
    lengths = [mask.shape[-1] for mask in groups]
    split = [states.split(lengths, dim=2) for states in (query, key, value)]
    parts = [
        sdpa_attention_forward(module, *states, mask, **options)[0]
        for *states, mask in zip(*split, groups, strict=True)
    ]
    return torch.cat(parts, dim=1), None


AttentionInterface.register(NAME, _attend)
