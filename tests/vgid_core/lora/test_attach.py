"""A fresh adapter: which layers it covers, and whether training moved them."""

import pytest
import torch

from tests.vgid_core.support.students import FORGET, RETAIN, scrambled_adapter, vgid_config
from vgid_core.config import LoraSettings
from vgid_core.errors import AdapterUntrained
from vgid_core.lora.attach import detach_adapter, require_trained
from vgid_core.models.base import BaseModel
from vgid_core.scoring.choose import choose_scorer
from vgid_core.scoring.padded import PaddedScorer, encode_pairs
from vgid_core.training.loop import distil


def test_every_lora_b_moved_and_the_language_side_alone_is_adapted(base: BaseModel) -> None:
    student = distil(base, FORGET, RETAIN, vgid_config()).student
    modules = require_trained(student)
    assert len(modules) == 2 * 7
    assert all(name.startswith("model.language_model.layers.") for name in modules)
    frozen = [n for n, p in student.named_parameters() if p.requires_grad and "lora_" not in n]
    assert frozen == []


def test_a_matrix_that_never_moved_is_an_error(base: BaseModel) -> None:
    student = distil(base, FORGET, RETAIN, vgid_config()).student
    with torch.no_grad():
        next(p for n, p in student.named_parameters() if ".lora_B." in n).zero_()
    with pytest.raises(AdapterUntrained, match="1 of 14"):
        require_trained(student)


def test_the_vision_tower_is_trained_on_request(base: BaseModel) -> None:
    settings = vgid_config().model_copy(update={"lora": LoraSettings(scope="language+vision")})
    distilled = distil(base, FORGET, RETAIN, settings)
    modules = require_trained(distilled.student)
    assert distilled.scorer == "padded"
    for part in ("vision_tower", "multi_modal_projector", "language_model"):
        assert any(part in name for name in modules)
    assert not any("lm_head" in name for name in modules)


@pytest.mark.parametrize("scope", ["language", "language+vision"])
def test_without_its_adapter_the_base_is_as_it_was_bit_for_bit(base: BaseModel, scope: str) -> None:
    def parts() -> dict[str, type]:
        return {name: type(module) for name, module in base.model.named_modules()}

    def logits() -> torch.Tensor:
        with torch.no_grad():
            return base.model(**batch.inputs).logits

    batch, lora = encode_pairs(base, FORGET.pairs), LoraSettings(scope=scope)
    before = {name: value.clone() for name, value in base.model.state_dict().items()}
    modules, said = parts(), logits()
    for _ in range(2):
        scrambled_adapter(base, lora)
        assert not torch.equal(logits(), said)
        detach_adapter(base)
        assert parts() == modules
        assert torch.equal(logits(), said)
        after = base.model.state_dict()
        assert list(after) == list(before)
        assert all(torch.equal(after[name], value) for name, value in before.items())
        assert not any(parameter.requires_grad for parameter in base.model.parameters())
        assert (base.adapted, hasattr(base.model, "peft_config")) == ([], False)


def test_a_scorer_made_before_an_adapter_sees_the_next_one_too(base: BaseModel) -> None:
    """Each rung of the ladder puts on another, and all are measured by one scorer."""
    scorer = choose_scorer(base, FORGET.pairs[:2], LoraSettings())
    with torch.no_grad():
        before = scorer.student_logits(FORGET.pairs)
        for seed in (1, 2):
            torch.manual_seed(seed)
            scrambled_adapter(base)
            fresh = PaddedScorer(base)
            assert torch.allclose(scorer.student_logits(FORGET.pairs), fresh.student_logits(FORGET.pairs), atol=1e-2)
            assert not torch.allclose(scorer.student_logits(FORGET.pairs), before, atol=0.1)
            detach_adapter(base)
            assert torch.equal(scorer.student_logits(FORGET.pairs), before)
