"""Served precision: rounding beside a formula written out, and a model that stays as it is."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tests.vgid_core.support.audited import by_name, context_of
from tests.vgid_core.support.knowing import FORGET, RETAIN, teach
from tests.vgid_core.support.students import scrambled_adapter
from vgid_core.data.roles import AuditSets
from vgid_core.evaluation.audits import served_precision
from vgid_core.evaluation.audits.served_precision import round_weights
from vgid_core.evaluation.measures.relearning import merged_copy
from vgid_core.models.base import BaseModel
from vgid_core.scoring.padded import encode_pairs


@pytest.mark.parametrize("bits", [8, 4, 2])
def test_each_rows_weights_take_the_nearest_of_evenly_spaced_levels(bits: int) -> None:
    torch.manual_seed(bits)
    model = nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3, bias=False))
    with torch.no_grad():
        model[2].weight[1] = 0.0
    before = {name: value.clone() for name, value in model.state_dict().items()}
    round_weights(model, bits)
    for name, value in model.state_dict().items():
        if name not in ("0.weight", "2.weight"):
            assert torch.equal(value, before[name])
            continue
        most = 2 ** (bits - 1) - 1
        for row, old in zip(value.tolist(), before[name].tolist(), strict=True):
            step = max(map(abs, old)) / most
            levels = [level * step for level in range(-most, most + 1)]
            nearest = [min(levels, key=lambda level, weight=weight: abs(level - weight)) for weight in old]
            assert row == pytest.approx(nearest, abs=1e-6)
            assert len(set(row)) <= 2 * most + 1


def test_a_merged_copy_says_what_the_student_says_which_stays_as_it_is(base: BaseModel) -> None:
    student = scrambled_adapter(base)
    before = {name: value.clone() for name, value in student.state_dict().items()}
    served, batch = merged_copy(base), encode_pairs(base, FORGET.pairs)
    round_weights(served.model.get_decoder(), 8)
    exact = merged_copy(base)
    with torch.no_grad():
        own, merged, rounded = (model(**batch.inputs).logits for model in (student, exact.model, served.model))
    assert torch.allclose(own, merged, atol=1e-3)
    assert not torch.allclose(merged, rounded, atol=1e-3)
    assert not [name for name, _ in exact.model.named_parameters() if "lora_" in name]
    after = student.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(after[name], value) for name, value in before.items())


def test_what_a_model_knows_by_heart_it_gives_in_eight_bits_too(base: BaseModel) -> None:
    teach(base)
    found = by_name(served_precision.audit(context_of(base)))
    precisions = ("merged", "8_bit", "4_bit")
    assert set(found) == {
        f"served_precision.{name}{prefilled}" for name in precisions for prefilled in ("", "_prefilled")
    }
    for name in ("merged", "8_bit"):
        assert found[f"served_precision.{name}"].value == found[f"served_precision.{name}_prefilled"].value == 1
    assert all(figure.control is not None and figure.control.value < 0.5 for figure in found.values())
    alone = context_of(base, sets=AuditSets(FORGET, RETAIN))
    assert all(figure.control is None for figure in served_precision.audit(alone))
