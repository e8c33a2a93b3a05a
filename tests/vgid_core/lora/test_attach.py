"""A fresh adapter: which layers it covers, and whether training moved them."""

import pytest
import torch

from tests.vgid_core.support.students import FORGET, RETAIN, vgid_config
from vgid_core.config import LoraSettings
from vgid_core.errors import AdapterUntrained
from vgid_core.lora.attach import require_trained
from vgid_core.models.base import BaseModel
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
