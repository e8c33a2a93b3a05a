"""What the frozen vision side makes of each image: computed once, several at a time, and kept."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from vgid_core.base_model import BaseModel
from vgid_core.data import EncodedImage
from vgid_core.lessons import Shown
from vgid_core.perturb import replace_pixels

_AT_ONCE = 16  # images of one size through the vision tower


def image_features(base: BaseModel, images: Sequence[Shown]) -> list[Tensor]:
    """Features of each image, [tokens, hidden], on the model's device. Those of encoded images are kept in `base`."""
    found = [base.features.get(image.digest) if isinstance(image, EncodedImage) else None for image in images]
    missing: dict[tuple[int, int], list[int]] = {}
    for index, features in enumerate(found):
        if features is None:
            missing.setdefault(images[index].size, []).append(index)
    for indices in missing.values():
        for start in range(0, len(indices), _AT_ONCE):
            part = indices[start : start + _AT_ONCE]
            for index, features in zip(part, _compute(base, [images[index] for index in part]), strict=True):
                image = images[index]
                if isinstance(image, EncodedImage):
                    base.features.put(image.digest, features)
                found[index] = features
    return [features.to(base.device, non_blocking=True) for features in found if features is not None]


def _compute(base: BaseModel, images: Sequence[Shown]) -> list[Tensor]:
    """Of images of one size: together where the family then gives a block for each, else one by one."""
    blocks = _blocks(base, images)
    if len(blocks) == len(images):
        return blocks
    return [torch.cat(_blocks(base, [image])) for image in images]


@torch.no_grad()
def _blocks(base: BaseModel, images: Sequence[Shown]) -> list[Tensor]:
    decoded = [image if isinstance(image, Image.Image) else image.decode() for image in images]
    inputs = base.encoder.processor.image_processor(images=decoded, return_tensors="pt")
    inputs = replace_pixels(inputs, images)
    moved = {name: value.to(base.device) for name, value in inputs.items()}
    moved["pixel_values"] = moved["pixel_values"].to(base.dtype)
    return list(base.model.base_model.get_image_features(**moved).pooler_output)
