"""Packed rows: groups `[image prefix | question+answer 1 | question+answer 2 | ...]`, one after another in one row.

Why: an image has hundreds of tokens, and all its questions share them. How: a segment attends to its group's prefix and
to itself, and its positions continue the prefix's. So each token attends to the same tokens at the same positions as in
a row of its own, and the prefix is computed once. Trade-off: attention needs a mask for each pair of tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask

PREFIX, PADDING = -1, -2


@dataclass(frozen=True)
class Row:
    """One pair, unpadded: the prompt's tokens, then the answer's.

    ids: [length]. positions: [axes, length], with three axes for M-RoPE, else one. prompt_length: the number of prompt
    tokens. image_end: the index after the last image token.
    """

    ids: Tensor
    positions: Tensor
    prompt_length: int
    image_end: int

    @property
    def answer_length(self) -> int:
        """The number of answer tokens with the end of turn."""
        return len(self.ids) - self.prompt_length


@dataclass(frozen=True)
class PackedRow:
    """Groups of pairs packed into one row. Tensors are [length]; positions [axes, length].

    group: each token's group number, or PADDING. segment: the number of the token's question within its group, PREFIX
    for the shared prefix. spans: each group's first index, and the index after its last. predicts: for each group and
    each of its pairs, the indices of the tokens that predict its answer's tokens.
    """

    ids: Tensor
    positions: Tensor
    group: Tensor
    segment: Tensor
    spans: list[tuple[int, int]]
    predicts: list[list[Tensor]]

    def to(self, device: torch.device) -> PackedRow:
        """A copy on `device`; `predicts` stays on the host."""
        names = ("ids", "positions", "group", "segment")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})

    def attends(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether the token at index `query` attends to the one at `key`: any shapes that broadcast."""
        shared = self.segment[key] == PREFIX
        own = self.segment[query] == self.segment[key]
        return (query >= key) & (self.group[query] == self.group[key]) & (shared | own)


def pack(groups: Sequence[Sequence[Row]], multiple: int = 1) -> PackedRow:
    """Packs groups of rows in their order; pads the length to a multiple of `multiple`, which keeps shapes few.

    A group's prefix is the longest common prefix of its rows' prompts. Raises ValueError if it doesn't cover the image.
    """
    packed_groups = [_Group.of(rows) for rows in groups]
    spans, predicts, start = [], [], 0
    for group in packed_groups:
        spans.append((start, start + len(group.ids)))
        predicts.append([indices + start for indices in group.predicts])
        start += len(group.ids)
    padding = -start % multiple
    numbers = [torch.full((len(group.ids),), number, dtype=torch.int32) for number, group in enumerate(packed_groups)]
    return PackedRow(
        ids=_concat_padded([group.ids for group in packed_groups], padding, 0),
        positions=_concat_padded([group.positions for group in packed_groups], padding, 0),
        group=_concat_padded(numbers, padding, PADDING),
        segment=_concat_padded([group.segment for group in packed_groups], padding, PADDING),
        spans=spans,
        predicts=predicts,
    )


def sparse_mask(packed: PackedRow) -> BlockMask:
    """The row's attention mask for FlexAttention, which skips empty blocks."""

    def attends(_row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return packed.attends(query, key)

    length = len(packed.ids)
    return create_block_mask(attends, None, None, length, length, device=packed.ids.device)


@dataclass(frozen=True)
class _Group:
    """One group's part of a PackedRow, with indices that start at the group."""

    ids: Tensor
    positions: Tensor
    segment: Tensor
    predicts: list[Tensor]

    @classmethod
    def of(cls, rows: Sequence[Row]) -> _Group:
        prefix = _shared_prefix(rows)
        if prefix < max(row.image_end for row in rows):
            raise ValueError("the rows of a group must share their image")
        ids, positions = [rows[0].ids[:prefix]], [rows[0].positions[:, :prefix]]
        segment = [torch.full((prefix,), PREFIX, dtype=torch.int32)]
        predicts, used = [], prefix
        for number, row in enumerate(rows):
            ids.append(row.ids[prefix:])
            positions.append(row.positions[:, prefix:])
            segment.append(torch.full((len(row.ids) - prefix,), number, dtype=torch.int32))
            first = used + row.prompt_length - prefix - 1  # the prompt's last token predicts the answer's first
            predicts.append(torch.arange(first, first + row.answer_length))
            used += len(row.ids) - prefix
        return cls(torch.cat(ids), torch.cat(positions, dim=1), torch.cat(segment), predicts)


def _shared_prefix(rows: Sequence[Row]) -> int:
    """The length of the longest prefix of tokens and positions that all rows share, one prompt token less at most."""
    limit = min(row.prompt_length for row in rows) - 1
    first = rows[0]
    if len(rows) == 1:
        return limit
    equal = torch.ones(limit, dtype=torch.bool)
    for row in rows[1:]:
        equal &= row.ids[:limit] == first.ids[:limit]
        equal &= (row.positions[:, :limit] == first.positions[:, :limit]).all(0)
    return int(equal.long().cumprod(0).sum())


def _concat_padded(parts: Sequence[Tensor], padding: int, filler: int) -> Tensor:
    """Concatenates the parts along their last axis and appends `padding` times the filler."""
    return torch.nn.functional.pad(torch.cat(list(parts), dim=-1), (0, padding), value=filler)
