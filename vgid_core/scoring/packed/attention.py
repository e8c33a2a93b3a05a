"""Attention within each group of a packed row, for processors on which FlexAttention is slow: none crosses groups."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from vgid_core.scoring.packed.rows import Packed

NAME = "vgid_groups"


@dataclass(frozen=True)
class Groups:
    """How the groups of a row attend. The groups are all there is of it, one after the other: it has no padding.

    masks: for each group what is added to its scores, [1, 1, length, length]: 0 or -inf.
    asked: for each group, which of its places ask anything in the layer of this number, `last`; what attention puts out
    for the others is zero there. None where all of them do.
    """

    masks: list[Tensor]
    last: int
    asked: list[Tensor] | None = None

    @classmethod
    def of(cls, packed: Packed, dtype: torch.dtype, last: int, asked: Tensor | None = None) -> Groups:
        """Those of a row. `asked`: places in the row, each once."""
        masks = []
        for start, stop in packed.spans:
            places = torch.arange(start, stop, device=packed.ids.device)
            sees = packed.sees(places[:, None], places[None, :])
            mask = torch.zeros(sees.shape, dtype=dtype, device=sees.device).masked_fill_(~sees, float("-inf"))
            masks.append(mask[None, None])
        if asked is None:
            return cls(masks, last)
        return cls(masks, last, [asked[(asked >= start) & (asked < stop)] - start for start, stop in packed.spans])


def _attend(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,  # noqa: ARG001 - Transformers passes it
    groups: Groups,
    **options: Any,
) -> tuple[Tensor, None]:
    """What Transformers calls in place of its own attention: query, key, value [1, heads, length, width]."""
    lengths = [mask.shape[-1] for mask in groups.masks]
    # split, not sliced: the gradient is then one concatenation, and not a row of zeros for each group
    queries, keys, values = (torch.split(states, lengths, dim=2) for states in (query, key, value))
    asked = groups.asked if module.layer_idx == groups.last else None
    if asked is None:
        return _attended(module, queries, keys, values, groups.masks, options), None
    some = [states[:, :, own] for states, own in zip(queries, asked, strict=True)]
    masks = [mask[:, :, own] for mask, own in zip(groups.masks, asked, strict=True)]
    attended = _attended(module, some, keys, values, masks, options)
    places = torch.cat([own + start for own, start in zip(asked, accumulate([0, *lengths[:-1]]), strict=True)])
    return attended.new_zeros(1, sum(lengths), *attended.shape[2:]).index_copy(1, places, attended), None


def _attended(
    module: Any, queries: Any, keys: Any, values: Any, masks: list[Tensor], options: dict[str, Any]
) -> Tensor:
    each = zip(queries, keys, values, masks, strict=True)
    return torch.cat([sdpa_attention_forward(module, *states, **options)[0] for states in each], dim=1)


AttentionInterface.register(NAME, _attend)
