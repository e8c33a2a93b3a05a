"""Students that differ from their base, both scorers, and the settings of a short VGID run."""

from collections.abc import Callable

import pytest
import torch
from peft import PeftModel

from tests.vgid_core.support.tiny import pair_set
from vgid_core.config import LoraSettings, UnlearnConfig
from vgid_core.lora.attach import attach_adapter
from vgid_core.models.base import BaseModel
from vgid_core.scoring.packed.scorer import PackedScorer
from vgid_core.scoring.padded import PaddedScorer
from vgid_core.scoring.scorer import Scorer

MakeScorer = Callable[[BaseModel], Scorer]
SCORERS: list[MakeScorer] = [PaddedScorer, PackedScorer]
FORGET, RETAIN = pair_set("forget", 8), pair_set("retain", 9, first_picture=50)


def vgid_config(**training: object) -> UnlearnConfig:
    values = {"steps": 4, "forget_batch_size": 4, "retain_batch_size": 4, "learning_rate": 3e-3} | training
    settings = {"method": "vgid", "training": values, "evaluation": {"audits": "none"}, "device": "cpu", "seed": 5}
    return UnlearnConfig.model_validate(settings)


def scrambled_adapter(base: BaseModel, lora: LoraSettings | None = None) -> PeftModel:
    """A student that differs from its base: a fresh LoRA has B = 0, for which every test would pass."""
    student = attach_adapter(base, lora or LoraSettings())
    generator = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, parameter in student.named_parameters():
            if ".lora_B." in name:
                parameter.normal_(0, 0.2, generator=generator)
    return student.eval()


both_scorers = pytest.mark.parametrize("scorer", SCORERS, ids=["padded", "packed"])
