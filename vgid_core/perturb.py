"""The visual half of the teacher's intervention: disturbances in image space, before any normalisation.

VGID (arXiv 2606.00105) replaces the image by noise; `diffusion` is the forward process at step t (arXiv 2006.11239),
as in visual contrastive decoding (arXiv 2311.16922), whose code has a gentler schedule, on normalised pixels.
`replace_pixels` is the one disturbance after normalisation, that of VGID's public code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from PIL import Image, ImageFilter
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor, to_pil_image

from vgid_core.errors import ModelNotSupported
from vgid_core.intervention import PerturbationConfig
from vgid_core.lessons import NoisePixels, Shown

_Perturbation = Callable[[Tensor, float, torch.Generator], Tensor]


def perturb(image: Image.Image, config: PerturbationConfig, generator: torch.Generator) -> Image.Image:
    """A disturbed copy of `image`, same size, RGB. Draws from `generator` (CPU) alone, so a seed fixes it.

    Raises KeyError for `uniform_normalised`, which disturbs no image (see `replace_pixels`).
    """
    if config.kind == "none":
        return image
    strength = config.effective_strength or 0.0
    if config.kind == "blur":
        return image.filter(ImageFilter.GaussianBlur(strength))
    pixels = pil_to_tensor(image).float() / 255.0
    disturbed = _KINDS[config.kind](pixels, strength, generator)
    result: Image.Image = to_pil_image((disturbed.clamp(0, 1) * 255).round().to(torch.uint8))
    return result


def draw_pixels(noise: NoisePixels, like: Tensor) -> Tensor:
    """U[0, 1) in the shape and precision of an image's normalised pixel values, the same each time.

    Of values in tiles [image, tiles, channels, height, width], a tile of zeros is padding, by which some models know
    it, and stays.
    """
    drawn = torch.rand(like.shape, generator=torch.Generator().manual_seed(noise.seed)).to(like)
    return drawn if like.ndim < 5 else drawn * (like != 0).flatten(-3).any(-1)[..., None, None, None]


def replace_pixels(inputs: Mapping[str, Tensor], images: Sequence[Shown]) -> dict[str, Tensor]:
    """A processor's output for `images` with U[0, 1) for pixel values where an image is `NoisePixels`.

    Raises ModelNotSupported if the output doesn't tell which pixel values are whose.
    """
    if not any(isinstance(image, NoisePixels) for image in images):
        return dict(inputs)
    pixels = inputs["pixel_values"]
    counts = _values_of_each(pixels, inputs.get("image_grid_thw"), images)
    if counts is None:
        raise ModelNotSupported("noise in normalised pixels needs images of one size with this model's processor")
    parts = [
        draw_pixels(image, part) if isinstance(image, NoisePixels) else part
        for image, part in zip(images, torch.split(pixels, counts), strict=True)
    ]
    return {**inputs, "pixel_values": torch.cat(parts)}


def _values_of_each(pixels: Tensor, grid: Tensor | None, images: Sequence[Shown]) -> list[int] | None:
    """Rows of `pixels` that are each image's: one, as many patches as its grid has, or tiles by its size."""
    if len(pixels) == len(images):
        return [1] * len(images)
    if grid is not None:
        return [int(count) for count in grid.prod(-1)]
    if len(pixels) % len(images) or len({image.size for image in images}) > 1:
        return None
    return [len(pixels) // len(images)] * len(images)


def _uniform(pixels: Tensor, _strength: float, generator: torch.Generator) -> Tensor:
    return torch.rand(pixels.shape, generator=generator)


def _gaussian(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    return pixels + strength * torch.randn(pixels.shape, generator=generator)


def _diffusion(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """q(x_t | x_0) of a 1000-step linear-beta schedule on pixels scaled to [-1, 1], at step t = strength."""
    kept = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), dim=0)[round(strength) - 1]
    noise = torch.randn(pixels.shape, generator=generator)
    return (kept.sqrt() * (pixels * 2 - 1) + (1 - kept).sqrt() * noise + 1) / 2


def _blank(pixels: Tensor, _strength: float, _generator: torch.Generator) -> Tensor:
    return torch.zeros_like(pixels)


def _patch_shuffle(pixels: Tensor, strength: float, generator: torch.Generator) -> Tensor:
    """Cuts the image into a grid of `strength` x `strength` patches and deals them anew; the remainder stays put."""
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
