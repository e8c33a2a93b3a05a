"""Packed rows: one image, many questions. `[image prefix | question+answer 1 | question+answer 2 | ...]`.

Every segment attends to its prefix and to itself, and its positions go on from the prefix as if it were alone, so the
prefix (hundreds of image tokens) is computed once for all its questions. The same mathematics as separate rows: a
token sees exactly the tokens, at exactly the positions, that it would see alone. Several such groups may lie in one
row, so that little is padding.
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
    """Rows of equal length. ids, group, segment: [rows, length]; positions: [axes, rows, length].

    group: the number of the image whose prefix and questions a token belongs to, PADDING for none.
    segment: the number of the question within its group, PREFIX for what they share.
    predicts: for each group, for each of its pairs, the flat indices into [rows * length] of the tokens that predict
    its answer. image_order: groups in the order in which their images appear in the rows.
    """

    ids: Tensor
    positions: Tensor
    group: Tensor
    segment: Tensor
    predicts: list[list[Tensor]]
    image_order: list[int]

    def to(self, device: torch.device) -> Packed:
        """The same on `device`; `predicts` stays where it is."""
        names = ("ids", "positions", "group", "segment")
        return replace(self, **{name: getattr(self, name).to(device, non_blocking=True) for name in names})


def pack(groups: Sequence[Sequence[Row]], one_row: bool = False, multiple: int = 1) -> Packed:
    """Rows as long as the longest group, filled by first fit, longest group first; or everything in one row.

    The prefix of a group is the longest run of tokens that all its rows begin with; it covers the image. Lengths are
    rounded up to a multiple of `multiple`, to keep shapes few. Raises ValueError when a group's rows differ before
    their image's end.
    """
    parts = [_Group.of(rows) for rows in groups]
    lengths = [len(part.ids) for part in parts]
    length = sum(lengths) if one_row else max(lengths)
    length = -(-length // multiple) * multiple
    bins = _first_fit(lengths, length)
    axes, device = parts[0].positions.shape[0], parts[0].ids.device
    ids = torch.zeros(len(bins), length, dtype=torch.long, device=device)
    positions = torch.zeros(axes, len(bins), length, dtype=torch.long, device=device)
    group = torch.full((len(bins), length), PADDING, dtype=torch.int32, device=device)
    segment = torch.full((len(bins), length), PADDING, dtype=torch.int32, device=device)
    predicts: list[list[Tensor]] = [[] for _ in parts]
    for row, members in enumerate(bins):
        start = 0
        for number in members:
            part = parts[number]
            place = slice(start, start + len(part.ids))
            ids[row, place], segment[row, place], group[row, place] = part.ids, part.segment, number
            positions[:, row, place] = part.positions
            predicts[number] = [indices + row * length + start for indices in part.predicts]
            start = place.stop
    return Packed(ids, positions, group, segment, predicts, [number for members in bins for number in members])


def sparse_mask(packed: Packed) -> BlockMask:
    """`allowed` for FlexAttention, which skips the blocks that are empty."""

    def sees(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        shared = packed.segment[row, key] == PREFIX
        own = packed.segment[row, query] == packed.segment[row, key]
        return (query >= key) & (packed.group[row, query] == packed.group[row, key]) & (shared | own)

    rows, length = packed.ids.shape
    return create_block_mask(sees, rows, None, length, length, device=packed.ids.device)


def allowed(packed: Packed) -> Tensor:
    """The attention mask: [rows, 1, length, length], true where a query (third axis) sees a key (fourth)."""
    place = torch.arange(packed.ids.shape[1], device=packed.ids.device)
    same_group = packed.group[:, :, None] == packed.group[:, None, :]
    key_is_shared = (packed.segment == PREFIX)[:, None, :]
    same_segment = packed.segment[:, :, None] == packed.segment[:, None, :]
    return ((place[:, None] >= place) & same_group & (key_is_shared | same_segment))[:, None]


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
        device = rows[0].ids.device
        ids, positions = [rows[0].ids[:prefix]], [rows[0].positions[:, :prefix]]
        segment = [torch.full((prefix,), PREFIX, dtype=torch.int32, device=device)]
        predicts, used = [], prefix
        for number, row in enumerate(rows):
            ids.append(row.ids[prefix:])
            positions.append(row.positions[:, prefix:])
            segment.append(torch.full((len(row.ids) - prefix,), number, dtype=torch.int32, device=device))
            first = used + row.prompt_length - prefix - 1  # the prompt's last token predicts the answer's first
            predicts.append(torch.arange(first, first + row.answer_length, device=device))
            used += len(row.ids) - prefix
        return cls(torch.cat(ids), torch.cat(positions, dim=1), torch.cat(segment), predicts)


def _shared_prefix(rows: Sequence[Row]) -> int:
    """How many leading tokens and positions all rows have in common, at least one prompt token left to each."""
    limit = min(row.prompt_length for row in rows) - 1
    first = rows[0]
    agree = torch.ones(limit, dtype=torch.bool, device=first.ids.device)
    for row in rows[1:]:
        agree &= row.ids[:limit] == first.ids[:limit]
        agree &= (row.positions[:, :limit] == first.positions[:, :limit]).all(0)
    return int(agree.long().cumprod(0).sum())


def _first_fit(lengths: Sequence[int], capacity: int) -> list[list[int]]:
    """Which items share a bin: longest first, each into the first bin with room."""
    bins: list[list[int]] = []
    room: list[int] = []
    for number in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        place = next((index for index, free in enumerate(room) if lengths[number] <= free), len(bins))
        if place == len(bins):
            bins.append([])
            room.append(capacity)
        bins[place].append(number)
        room[place] -= lengths[number]
    return bins
