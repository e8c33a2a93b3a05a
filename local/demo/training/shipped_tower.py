"""The shipped model's vision tower, on which further models are trained."""

from __future__ import annotations

import torch
from transformers import AutoModelForImageTextToText, CLIPVisionModel

from local.demo.paths import BASE
from local.demo.training.architecture import vision_config


def shipped_vision_tower() -> CLIPVisionModel:
    """A copy of it. It was trained on random faces, so it suits any world."""
    base = AutoModelForImageTextToText.from_pretrained(str(BASE), dtype=torch.float32)
    tower = CLIPVisionModel(vision_config())
    tower.load_state_dict(base.model.vision_tower.state_dict())
    return tower
