"""Perturbations of an image."""

import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vgid_core.config.perturbation import STRENGTHS, PerturbationConfig
from vgid_core.methods.perturb import perturb

DOCUMENTED = Path(__file__).parents[3] / "docs" / "reference" / "interventions.md"
KINDS = ["uniform", "gaussian", "diffusion", "blur", "patch_shuffle", "blank"]


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(width * 1000 + height).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def grey(level: int) -> Image.Image:
    return Image.new("RGB", (192, 192), (level, level, level))


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


# Signal that is left after each step: DDPM's own schedule (arXiv 2006.11239, sec. 4), and the one in VCD's code.
LINEAR = np.cumprod(1 - np.linspace(1e-4, 0.02, 1000))
VCD = np.cumprod(1 - (1e-5 + (5e-3 - 1e-5) / (1 + np.exp(-np.linspace(-6, 6, 1000)))))


@dataclass(frozen=True)
class SameNoise:
    """A column of the docs' table."""

    vcd_step: int
    alpha_bar: str
    step: int


def documented() -> list[SameNoise]:
    rows = re.findall(r"^\| (?:VCD's step|ᾱ|step here) \| (.+) \|$", DOCUMENTED.read_text("utf-8"), re.MULTILINE)
    vcd_steps, alpha_bars, steps = (row.split(" | ") for row in rows)
    return [SameNoise(int(v), a, int(s)) for v, a, s in zip(vcd_steps, alpha_bars, steps, strict=True)]


def clipped_deviation(deviation: float) -> float:
    """Of normal noise around the middle of [-1, 1] of which no more than that range is kept."""
    normal, edge = NormalDist(), 1 / deviation
    beyond = 2 * normal.cdf(-edge)
    return math.sqrt(deviation**2 * (1 - beyond - 2 * edge * normal.pdf(edge)) + beyond)


def test_the_documented_steps_have_as_much_noise_as_vcds() -> None:
    assert [row.vcd_step for row in documented()] == [300, 500, 700, 800, 900, 999]
    for row in documented():
        kept = VCD[row.vcd_step]  # VCD's code counts from 0
        assert row.alpha_bar == f"{kept:.3f}"
        assert row.step == 1 + np.abs(LINEAR - kept).argmin()
    default = round(STRENGTHS["diffusion"][2])
    assert LINEAR[default - 1] == pytest.approx(VCD[-1], abs=0.005), "about as much noise as VCD ever adds"


@pytest.mark.parametrize("step", [1, *(row.step for row in documented()), 700])
def test_diffusion_keeps_as_much_and_adds_as_much_as_ddpm_says(step: int) -> None:
    config = PerturbationConfig(kind="diffusion", strength=step)
    dark, middle, light = (np.asarray(perturb(grey(g), config, noise(7)), dtype=float) for g in (64, 128, 192))
    unclipped = (dark > 0) & (light < 255)
    share = (light - dark)[unclipped].mean() / (192 - 64)
    # At the docs' steps, one step more or less makes 6e-4 or more.
    assert share == pytest.approx(math.sqrt(LINEAR[step - 1]), abs=1e-4)
    rounding = 1 / math.sqrt(12) / 127.5
    expected = math.hypot(clipped_deviation(math.sqrt(1 - LINEAR[step - 1])), rounding)
    assert (middle / 127.5).std() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize("deviation", [0.1, STRENGTHS["gaussian"][2], 2.0])
def test_gaussian_noise_has_the_deviation_that_is_set(deviation: float) -> None:
    """Unclipped, with the third clipped that lies beyond one deviation, and with nearly all clipped."""
    out = perturb(grey(128), PerturbationConfig(kind="gaussian", strength=deviation), noise(7))
    # The clip leaves half of the pixel range on either side.
    assert (np.asarray(out) / 255).std() == pytest.approx(clipped_deviation(2 * deviation) / 2, rel=0.01)
