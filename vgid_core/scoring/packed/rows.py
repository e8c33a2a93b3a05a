"""Packed rows: one image, many questions. `[image prefix | question+answer 1 | question+answer 2 | ...]`.

Every segment attends to its prefix and to itself, and its positions go on from the prefix as if it were alone, so the
prefix (hundreds of image tokens) is computed once for all its questions. The same mathematics as separate rows: a
token sees exactly the tokens, at exactly the positions, that it would see alone. Such groups lie one after another in
one row, so that nothing is padding.
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
    """One pair, unpacked and unpadded: ids [length], positions [axes, length] (three axes for M-RoPE, else one).

    `prompt_length` of the ids are the prompt, the rest the answer; the first `image_end` of them end with the image.
    """

    ids: Tensor
    positions: Tensor
    prompt_length: int
    image_end: int

    @property
    def answer_length(self) -> int:
        """Answer tokens, the end of turn among them."""
        return len(self.ids) - self.prompt_length


@dataclass(frozen=True)
class Packed:
    """Groups of pairs in one row. ids, group, segment: [length]; positions: [axes, length].

    group: the number of the image whose prefix and questions a token belongs to, PADDING for none.
    segment: the number of the question within its group, PREFIX for what they share.
    spans: for each group, the indices of its first token and of the one after its last.
    predicts: for each group, for each of its pairs, the indices of the tokens that predict its answer.
    """

    ids: Tensor
    positions: Tensor
    group: Tensor
    segment: Tensor
    spans: list[tuple[int, int]]
    predicts: list[list[Tensor]]

    def to(self, device: torch.device) -> Packed:
        """The same on `device`; `predicts` stays where it is."""
        names = ("ids", "positions", "group", "segment")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})

    def sees(self, query: Tensor, key: Tensor) -> Tensor:
        """Whether the token at `query` attends to the one at `key`: indices of any shapes that broadcast."""
        shared = self.segment[key] == PREFIX
        own = self.segment[query] == self.segment[key]
        return (query >= key) & (self.group[query] == self.group[key]) & (shared | own)


def pack(groups: Sequence[Sequence[Row]], multiple: int = 1) -> Packed:
    """The groups in their order; the row's length is padded to a multiple of `multiple`, to keep shapes few.

    The prefix of a group is the longest run of tokens that all its rows begin with; it covers the image. Raises
    ValueError when a group's rows differ before their image's end.
    """
    parts = [_Group.of(rows) for rows in groups]
    spans, predicts, start = [], [], 0
    for part in parts:
        spans.append((start, start + len(part.ids)))
        predicts.append([indices + start for indices in part.predicts])
        start += len(part.ids)
    padding = -start % multiple
    numbers = [torch.full((len(part.ids),), number, dtype=torch.int32) for number, part in enumerate(parts)]
    return Packed(
        ids=_joined([part.ids for part in parts], padding, 0),
        positions=_joined([part.positions for part in parts], padding, 0),
        group=_joined(numbers, padding, PADDING),
        segment=_joined([part.segment for part in parts], padding, PADDING),
        spans=spans,
        predicts=predicts,
    )


def sparse_mask(packed: Packed) -> BlockMask:
    """Who sees whom for FlexAttention, which skips the blocks that are empty."""

    def sees(_row: Tensor, _head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return packed.sees(query, key)

    length = len(packed.ids)
    return create_block_mask(sees, None, None, length, length, device=packed.ids.device)


@dataclass(frozen=True)
class _Group:
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
    """How many leading tokens and positions all rows have in common, at least one prompt token left to each."""
    limit = min(row.prompt_length for row in rows) - 1
    first = rows[0]
    if len(rows) == 1:
        return limit
    agree = torch.ones(limit, dtype=torch.bool)
    for row in rows[1:]:
        agree &= row.ids[:limit] == first.ids[:limit]
        agree &= (row.positions[:, :limit] == first.positions[:, :limit]).all(0)
    return int(agree.long().cumprod(0).sum())


def _joined(parts: Sequence[Tensor], padding: int, filler: int) -> Tensor:
    """The parts along their last axis, then so much of the filler."""
    return torch.nn.functional.pad(torch.cat(list(parts), dim=-1), (0, padding), value=filler)
