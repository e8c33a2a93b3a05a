"""Packed rows: who attends to whom, and at which positions."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vgid_core.scoring.packed.attention import GroupMasks
from vgid_core.scoring.packed.rows import PADDING, PREFIX, PackedRow, Row, pack, sparse_mask

row = st.tuples(st.integers(0, 4), st.lists(st.integers(10, 14), min_size=1, max_size=5), st.integers(1, 4))


@settings(max_examples=60)
@given(st.lists(row, min_size=1, max_size=8), st.sampled_from([1, 8]))
def test_every_token_attends_to_what_it_would_in_a_row_of_its_own(
    rows: list[tuple[int, list[int], int]], multiple: int
) -> None:
    """The layout, token by token: the (id, position) pairs that each token attends to, in order."""
    groups: dict[int, list[Row]] = {}
    for image, question, answer in rows:
        ids = [1, 2, 2, 20 + image, *question, *range(30, 30 + answer)]
        tokens = torch.tensor(ids)
        groups.setdefault(image, []).append(Row(tokens, torch.arange(len(ids))[None], 4 + len(question), 4))
    packed = pack(list(groups.values()), multiple=multiple)
    mask = full_mask(packed)
    assert len(packed.ids) % multiple == 0
    for members, places in zip(groups.values(), packed.predicts, strict=True):
        for alone, where in zip(members, places, strict=True):
            assert packed.ids[where + 1].tolist() == alone.ids[alone.prompt_length :].tolist()
            for offset, place in enumerate(where.tolist()):
                seen = mask[place].nonzero()[:, 0]
                upto = alone.prompt_length + offset
                assert packed.ids[seen].tolist() == alone.ids[:upto].tolist()
                assert packed.positions[0, seen].tolist() == alone.positions[0, :upto].tolist()
    for number, (start, stop) in enumerate(packed.spans):
        assert (packed.group[start:stop] == number).all()
        assert not mask[start:stop, :start].any(), "no token attends to an earlier group"
    padding = packed.group == PADDING
    assert ((packed.segment == PADDING) == padding).all()
    assert int(padding.sum()) < multiple
    assert (packed.segment == PREFIX).any()


def full_mask(packed: PackedRow) -> torch.Tensor:
    """Whether each token attends to each, [queries, keys]."""
    places = torch.arange(len(packed.ids))
    return packed.attends(places[:, None], places[None, :])


def test_flex_and_group_masks_agree() -> None:
    rows = [Row(torch.arange(10, 40), torch.arange(30)[None], 20, 5) for _ in range(3)]
    packed = pack([rows, rows[:1]], multiple=128)
    places = torch.arange(len(packed.ids))
    sparse = sparse_mask(packed).mask_mod(torch.tensor(0), torch.tensor(0), places[:, None], places[None, :])
    assert torch.equal(sparse, full_mask(packed))
    blocks = torch.zeros_like(sparse)
    for (start, stop), mask in zip(packed.spans, GroupMasks.of(packed, torch.float32, last_layer=0).masks, strict=True):
        blocks[start:stop, start:stop] = mask[0, 0] == 0
    used = packed.group != PADDING
    assert torch.equal(blocks[used], full_mask(packed)[used])


def test_rows_of_a_group_must_share_their_image() -> None:
    rows = [Row(torch.tensor([1, 7, image, 9, 9]), torch.arange(5)[None], 4, 3) for image in (3, 4)]
    with pytest.raises(ValueError, match="share their image"):
        pack([rows])
