"""Photos that the model's own vision tower sees as the same, whatever their encoding, size or margin."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from vgid_core.data.pairs import EncodedImage
from vgid_core.data.sampling import even_sample
from vgid_core.errors import ModelNotSupported
from vgid_core.models.base import BaseModel
from vgid_core.models.vision_features import VisionFeatures

# Cosine of two photos' centred features, token by token. On the demo re-encoded photos reach .83 to .98, other pictures
# of the same person at most .81, other people .52.
_SAME = 0.85
_MOST_OTHERS = 2000  # photos that are looked at, an even sample


def near_copies(base: BaseModel, photos: Sequence[EncodedImage], others: Sequence[EncodedImage]) -> set[str]:
    """Digests of the photos of which one of the others is nearly a copy. Empty for a model without image features.

    Photos are compared where the model gives them equally many tokens. Features are cached for the training.
    """
    try:
        tower = VisionFeatures(base)
        own, seen = _features(tower, photos), _features(tower, even_sample(others, _MOST_OTHERS))
    except ModelNotSupported:
        return set()
    found: set[str] = set()
    for size in {len(each) for each in own.values()} & {len(each) for each in seen.values()}:
        left = {digest: each for digest, each in own.items() if len(each) == size}
        right = torch.stack([each for each in seen.values() if len(each) == size])
        rows = torch.stack(list(left.values()))
        middle = torch.cat([rows, right]).mean(0)
        closeness = _unit(rows - middle) @ _unit(right - middle).T
        found |= {digest for digest, best in zip(left, closeness.amax(1).tolist(), strict=True) if best >= _SAME}
    return found


def _features(tower: VisionFeatures, photos: Sequence[EncodedImage]) -> dict[str, Tensor]:
    """Each different photo's first stream of features as one vector on the host, by digest."""
    distinct = list(dict.fromkeys(photos))
    return {photo.digest: tower.features([photo])[0][0].flatten().float().cpu() for photo in distinct}


def _unit(rows: Tensor) -> Tensor:
    return torch.nn.functional.normalize(rows, dim=-1)
