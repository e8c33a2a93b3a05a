"""The visual half of VGID's intervention: perturbations of the image's pixels, before normalisation.

VGID (arXiv 2606.00105) replaces the image by noise. `diffusion` is DDPM's forward process at step t (arXiv 2006.11239),
as in visual contrastive decoding (arXiv 2311.16922), whose code uses a weaker schedule on normalised pixels.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from vgid_core.config.perturbation import PerturbationConfig

_Perturbation = Callable[[Tensor, float, torch.Generator], Tensor]


def perturb(image: Image.Image, config: PerturbationConfig, generator: torch.Generator) -> Image.Image:
    """A perturbed copy of an RGB image, of the same size. All randomness comes from `generator` (CPU)."""
    if config.kind == "none":
        return image
    strength = config.effective_strength or 0.0
    if config.kind == "blur":
        return image.filter(ImageFilter.GaussianBlur(strength))
    pixels = pil_to_tensor(image).float() / 255.0
    perturbed = _KINDS[config.kind](pixels, strength, generator)
    result: Image.Image = to_pil_image((perturbed.clamp(0, 1) * 255).round().to(torch.uint8))
    return result


def _uniform(pixels: Tensor, _strength: float, generator: torch.Generator) -> Tensor:
    return torch.rand(pixels.shape, generator=generator)


def _gaussian(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    return pixels + strength * torch.randn(pixels.shape, generator=generator)


def _diffusion(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Samples q(x_t | x_0) of a 1000-step linear-beta schedule at t = strength, on pixels scaled to [-1, 1]."""
    alpha_bar = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), dim=0)[round(strength) - 1]
    noise = torch.randn(pixels.shape, generator=generator)
    return (alpha_bar.sqrt() * (pixels * 2 - 1) + (1 - alpha_bar).sqrt() * noise + 1) / 2


def _blank(pixels: Tensor, _strength: float, _generator: torch.Generator) -> Tensor:
    return torch.zeros_like(pixels)


def _patch_shuffle(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Shuffles a grid of `strength` x `strength` patches. A remainder at the right and bottom edges stays in place."""
    channels, height, width = pixels.shape
    side = min(round(strength), height, width)
    rows, columns = height // side, width // side
    core = pixels[:, : rows * side, : columns * side]
    patches = core.reshape(channels, side, rows, side, columns).permute(1, 3, 0, 2, 4).flatten(0, 1)
    patches = patches[torch.randperm(side * side, generator=generator)]
    grid = patches.reshape(side, side, channels, rows, columns)
    mixed = grid.permute(2, 0, 3, 1, 4).reshape(core.shape)
    result = pixels.clone()
    result[:, : rows * side, : columns * side] = mixed
    return result


_KINDS: dict[str, _Perturbation] = {
    "uniform": _uniform,
    "gaussian": _gaussian,
    "diffusion": _diffusion,
    "patch_shuffle": _patch_shuffle,
    "blank": _blank,
}
