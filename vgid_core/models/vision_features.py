"""What the frozen vision side makes of each image: computed once, several at a time, and kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vgid_core.data.examples import TeacherImage
from vgid_core.data.pairs import EncodedImage
from vgid_core.errors import ModelNotSupported
from vgid_core.models.base import BaseModel

_AT_ONCE = 16  # images of one size through the vision tower
# Fields of an output beside the features: what the tower made on the way to them.
_ON_THE_WAY = ("pooler_output", "last_hidden_state", "hidden_states", "attentions")


@dataclass(frozen=True)
class _Form:
    """How a family hands its features on: `kind` of output, all images in one tensor or a list of them.

    `streams`: other fields that go along with the features, layer by layer, and how many layers each has.
    """

    kind: type
    joined: bool
    streams: tuple[tuple[str, int], ...]


class VisionSide:
    """Features of images, and the way back into what the model's forward takes in their place."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._inner: Any = base.model.base_model
        if not hasattr(self._inner, "get_image_features"):
            raise ModelNotSupported("the model has no image features in the place of tokens")
        self._taken = set(signature(type(self._inner).get_image_features).parameters)
        self._form: _Form | None = None

    def features(self, images: Sequence[TeacherImage]) -> list[Tensor]:
        """Of each image, [streams, tokens, hidden], on the model's device. Those of encoded images are kept in `base`.

        The first stream stands in the place of the image's tokens; few families have more than one.
        """
        kept = self._base.features
        found = [kept.get(image.digest) if isinstance(image, EncodedImage) else None for image in images]
        missing: dict[tuple[int, int], list[int]] = {}
        for index, features in enumerate(found):
            if features is None:
                missing.setdefault(images[index].size, []).append(index)
        for indices in missing.values():
            for start in range(0, len(indices), _AT_ONCE):
                part = indices[start : start + _AT_ONCE]
                for index, features in zip(part, self._compute([images[index] for index in part]), strict=True):
                    image = images[index]
                    if isinstance(image, EncodedImage):
                        kept.put(image.digest, features)
                    found[index] = features
        return [features.to(self._base.device, non_blocking=True) for features in found if features is not None]

    def as_output(self, features: Sequence[Tensor]) -> Any:
        """Several images' features as `get_image_features` would have given them."""
        if self._form is None:
            self._compute([Image.new("RGB", (64, 64))])
        form = self._form
        assert form is not None
        first = [each[0] for each in features]
        fields: dict[str, Any] = {"pooler_output": torch.cat(first)[None] if form.joined else first}
        used = 1
        for name, layers in form.streams:
            fields[name] = [[each[layer] for each in features] for layer in range(used, used + layers)]
            used += layers
        return form.kind(**fields)

    def _compute(self, images: Sequence[TeacherImage]) -> list[Tensor]:
        """Of images of one size: together where the family gives as many blocks (tiles) for each, else one by one."""
        blocks = self._blocks(images)
        if len(blocks) % len(images):
            return [torch.cat(self._blocks([image]), dim=1) for image in images]
        each = len(blocks) // len(images)
        return [torch.cat(blocks[start : start + each], dim=1) for start in range(0, len(blocks), each)]

    @torch.no_grad()
    def _blocks(self, images: Sequence[TeacherImage]) -> list[Tensor]:
        """By the whole processor, whose settings for images can differ from those of its image processor."""
        decoded = [image if isinstance(image, Image.Image) else image.decode() for image in images]
        inputs = self._base.encoder.prompts(decoded, ["?"] * len(images))
        output = self._inner.get_image_features(**{name: inputs[name] for name in inputs if name in self._taken})
        pooled = output.pooler_output
        others = {name: output[name] for name in output if name not in _ON_THE_WAY}
        self._form = _Form(
            type(output), isinstance(pooled, Tensor), tuple((name, len(layers)) for name, layers in others.items())
        )
        streams = [pooled, *(layer for layers in others.values() for layer in layers)]
        return [torch.stack(block) for block in zip(*streams, strict=True)]
