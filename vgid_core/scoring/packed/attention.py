"""Attention of a packed row group by group, for devices on which FlexAttention is slow: no token attends across groups.

Registered with Transformers under NAME; the model is called with `groups=GroupMasks(...)`.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from vgid_core.scoring.packed.rows import PackedRow

NAME = "vgid_groups"


@dataclass(frozen=True)
class GroupMasks:
    """Attention masks of the groups of a packed row without padding.

    masks: one additive mask a group, [1, 1, length, length]: 0 or -inf. last_layer: the index of the decoder's last
    layer. queried: for each group, the indices within it whose attention output the last layer needs; it is zero
    elsewhere. None: everywhere.
    """

    masks: list[Tensor]
    last_layer: int
    queried: list[Tensor] | None = None

    @classmethod
    def of(cls, packed: PackedRow, dtype: torch.dtype, last_layer: int, queried: Tensor | None = None) -> GroupMasks:
        """The masks of a row. queried: indices into the row, without duplicates."""
        masks = []
        for start, stop in packed.spans:
            indices = torch.arange(start, stop, device=packed.ids.device)
            attends = packed.attends(indices[:, None], indices[None, :])
            mask = torch.zeros(attends.shape, dtype=dtype, device=attends.device).masked_fill_(~attends, float("-inf"))
            masks.append(mask[None, None])
        if queried is None:
            return cls(masks, last_layer)
        by_group = [queried[(queried >= start) & (queried < stop)] - start for start, stop in packed.spans]
        return cls(masks, last_layer, by_group)


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - Transformers passes it
    groups: GroupMasks,
    **options: Any,
) -> tuple[Tensor, None]:
    """Transformers' attention interface: query, key, value [1, heads, length, width] give [1, length, heads, width]."""
    lengths = [mask.shape[-1] for mask in groups.masks]
    # torch.split, not slices: its gradient is one concatenation instead of a full row of zeros for each group.
    queries, keys, values = (torch.split(states, lengths, dim=2) for states in (query, key, value))
    queried = groups.queried if module.layer_idx == groups.last_layer else None
    if queried is None:
        return _attend_by_group(module, queries, keys, values, groups.masks, options), None
    some = [states[:, :, own] for states, own in zip(queries, queried, strict=True)]
    masks = [mask[:, :, own] for mask, own in zip(groups.masks, queried, strict=True)]
    attended = _attend_by_group(module, some, keys, values, masks, options)
    indices = torch.cat([own + start for own, start in zip(queried, accumulate([0, *lengths[:-1]]), strict=True)])
    return attended.new_zeros(1, sum(lengths), *attended.shape[2:]).index_copy(1, indices, attended), None


def _attend_by_group(
    module: Any, queries: Any, keys: Any, values: Any, masks: list[Tensor], options: dict[str, Any]
) -> Tensor:
    groups = zip(queries, keys, values, masks, strict=True)
    return torch.cat([sdpa_attention_forward(module, *states, **options)[0] for states in groups], dim=1)


AttentionInterface.register(NAME, _attend)
