"""Attention within each group of a packed row, for processors on which FlexAttention is slow: none crosses groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from vgid_core.packing import Packed

NAME = "vgid_groups"

GroupMasks = list[tuple[slice, Tensor]]


def group_masks(packed: Packed, dtype: torch.dtype) -> GroupMasks:
    """For each group, where it lies and what attention adds to its scores, [1, 1, length, length]: 0 or -inf."""
    masks = []
    for start, stop in packed.spans:
        places = torch.arange(start, stop, device=packed.ids.device)
        sees = packed.sees(places[:, None], places[None, :])
        mask = torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, float("-inf"))
        masks.append((slice(start, stop), mask[None, None]))
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
    parts = [
        sdpa_attention_forward(module, query[:, :, at], key[:, :, at], value[:, :, at], mask, **options)[0]
        for at, mask in groups
    ]
    return torch.cat(parts, dim=1), None


AttentionInterface.register(NAME, _attend)
