"""Image features of the frozen vision tower: computed in batches, cached by image digest."""

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

_BATCH_SIZE = 16  # images of one size in a pass of the vision tower
# Fields of an output that aren't further streams of features.
_OTHER_FIELDS = ("pooler_output", "last_hidden_state", "hidden_states", "attentions")


@dataclass(frozen=True)
class _OutputForm:
    """The form of a family's `get_image_features` output.

    kind: the output's class. concatenated: all images in one tensor, else a list of tensors. streams: further fields
    with features for deeper decoder layers (Qwen3-VL's deepstack), and how many layers each has.
    """

    kind: type
    concatenated: bool
    streams: tuple[tuple[str, int], ...]


class VisionFeatures:
    """Computes image features, and puts cached ones back into the form that the model's forward takes."""

    def __init__(self, base: BaseModel) -> None:
        self._base = base
        self._inner: Any = base.model.base_model
        if not hasattr(self._inner, "get_image_features"):
            raise ModelNotSupported("the model has no image features in the place of tokens")
        self._arguments = set(signature(type(self._inner).get_image_features).parameters)
        self._form: _OutputForm | None = None

    def features(self, images: Sequence[TeacherImage]) -> list[Tensor]:
        """Features of each image, [streams, tokens, hidden], on the model's device; cached for encoded images.

        The first stream replaces the image tokens' embeddings. Most families have no other.
        """
        cache = self._base.features
        found = [cache.get(image.digest) if isinstance(image, EncodedImage) else None for image in images]
        missing: dict[tuple[int, int], list[int]] = {}
        for index, features in enumerate(found):
            if features is None:
                missing.setdefault(images[index].size, []).append(index)
        for indices in missing.values():
            for start in range(0, len(indices), _BATCH_SIZE):
                part = indices[start : start + _BATCH_SIZE]
                for index, features in zip(part, self._compute([images[index] for index in part]), strict=True):
                    image = images[index]
                    if isinstance(image, EncodedImage):
                        cache.put(image.digest, features)
                    found[index] = features
        return [features.to(self._base.device, non_blocking=True) for features in found if features is not None]

    def as_output(self, features: Sequence[Tensor]) -> Any:
        """The images' features in the form that `get_image_features` returns for all of them."""
        if self._form is None:
            self._compute([Image.new("RGB", (64, 64))])
        form = self._form
        assert form is not None
        first = [each[0] for each in features]
        fields: dict[str, Any] = {"pooler_output": torch.cat(first)[None] if form.concatenated else first}
        used = 1
        for name, layers in form.streams:
            fields[name] = [[each[layer] for each in features] for layer in range(used, used + layers)]
            used += layers
        return form.kind(**fields)

    def _compute(self, images: Sequence[TeacherImage]) -> list[Tensor]:
        """Features of images of one size: in one batch if each has equally many blocks (tiles), else one by one."""
        blocks = self._blocks(images)
        if len(blocks) % len(images):
            return [torch.cat(self._blocks([image]), dim=1) for image in images]
        each = len(blocks) // len(images)
        return [torch.cat(blocks[start : start + each], dim=1) for start in range(0, len(blocks), each)]

    @torch.no_grad()
    def _blocks(self, images: Sequence[TeacherImage]) -> list[Tensor]:
        """The vision tower's blocks for a batch, by the whole processor: its image settings can override the image
        processor's.
        """
        decoded = [image if isinstance(image, Image.Image) else image.decode() for image in images]
        inputs = self._base.encoder.prompts(decoded, ["?"] * len(images))
        output = self._inner.get_image_features(**{name: inputs[name] for name in inputs if name in self._arguments})
        pooled = output.pooler_output
        others = {name: output[name] for name in output if name not in _OTHER_FIELDS}
        self._form = _OutputForm(
            type(output), isinstance(pooled, Tensor), tuple((name, len(layers)) for name, layers in others.items())
        )
        streams = [pooled, *(layer for layers in others.values() for layer in layers)]
        return [torch.stack(block) for block in zip(*streams, strict=True)]
