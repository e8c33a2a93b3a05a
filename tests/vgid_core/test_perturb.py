from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vgid_core.intervention import STRENGTHS, PerturbationConfig
from vgid_core.perturb import perturb

KINDS = ["uniform", "gaussian", "diffusion", "blur", "patch_shuffle", "blank"]


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def noise(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=40)
@given(st.sampled_from(KINDS), st.integers(3, 40), st.integers(3, 40), st.integers(0, 9))
def test_size_and_mode_are_kept_and_a_seed_fixes_the_result(kind: str, width: int, height: int, seed: int) -> None:
    image, config = photo(width, height), PerturbationConfig.model_validate({"kind": kind})
    first, second = perturb(image, config, noise(seed)), perturb(image, config, noise(seed))
    assert (first.size, first.mode) == (image.size, "RGB")
    assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_the_image(kind: str) -> None:
    image = photo(32, 32)
    assert perturb(image, PerturbationConfig.model_validate({"kind": kind}), noise(0)).tobytes() != image.tobytes()


def test_none_is_the_image_itself() -> None:
    image = photo(8, 8)
    assert perturb(image, PerturbationConfig(kind="none"), noise(0)) is image


@pytest.mark.parametrize("kind", ["gaussian", "diffusion", "blur"])
def test_more_strength_moves_further_from_the_image(kind: str) -> None:
    image = photo(32, 32)
    low, high, _ = STRENGTHS[kind]

    def distance(strength: float) -> float:
        out = perturb(image, PerturbationConfig.model_validate({"kind": kind, "strength": strength}), noise(0))
        return float(np.abs(np.asarray(out, dtype=float) - np.asarray(image, dtype=float)).mean())

    assert distance(low) < distance((low + high) / 8) < 130


def test_uniform_noise_keeps_nothing_of_the_photo() -> None:
    config = PerturbationConfig(kind="uniform")
    assert (
        perturb(photo(16, 16), config, noise(4)).tobytes()
        == perturb(Image.new("RGB", (16, 16)), config, noise(4)).tobytes()
    )


def test_patch_shuffle_moves_pixels_and_invents_none() -> None:
    image = photo(33, 34)
    out = perturb(image, PerturbationConfig(kind="patch_shuffle", strength=8), noise(1))
    left, right = (Counter(map(tuple, np.asarray(i).reshape(-1, 3).tolist())) for i in (image, out))
    assert left == right
    assert np.array_equal(np.asarray(out)[32:], np.asarray(image)[32:]), "what doesn't fill a patch stays put"


def test_diffusion_at_its_last_step_is_nearly_pure_noise() -> None:
    config = PerturbationConfig(kind="diffusion", strength=1000)
    one, other = perturb(photo(16, 16), config, noise(2)), perturb(Image.new("RGB", (16, 16)), config, noise(2))
    gap = np.abs(np.asarray(one, dtype=int) - np.asarray(other, dtype=int))
    assert gap.max() <= 3
