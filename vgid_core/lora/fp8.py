"""Products with the frozen weights in 8-bit floats, for the distillation alone: twice bf16's rate on an H100.

Activations and gradients are scaled by row as they come, weights by row once, in a copy for each direction. Teacher and
student both see the rounded base, so that the student isn't taught to make up for the rounding. Everything is measured
and shipped with the weights as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vgid_core.errors import ModelNotSupported

_FORMAT = torch.float8_e4m3fn
# As `paths.PackedScorer.deviation` takes it: what activations that differ in their last bits become, rounded to three.
FP8_ROUNDING = 0.25
_LARGEST = torch.finfo(_FORMAT).max


@dataclass(frozen=True)
class RowScaled:
    """A matrix [rows, columns] in 8-bit floats, and what each row was divided by, [rows, 1]."""

    values: Tensor
    scales: Tensor

    @classmethod
    def of(cls, matrix: Tensor) -> RowScaled:
        """Rounds `matrix`, each row scaled to the format's range."""
        scales = matrix.abs().amax(dim=-1, keepdim=True).float().clamp(min=1e-12) / _LARGEST
        return cls((matrix.float() / scales).to(_FORMAT), scales)


def require_fp8(device: torch.device) -> None:
    """Raises ModelNotSupported where PyTorch or the accelerator has no such products."""
    if not hasattr(functional, "scaled_mm"):
        raise ModelNotSupported("products in fp8 need PyTorch 2.10 or newer")
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        raise ModelNotSupported("products in fp8 need an accelerator of compute capability 8.9 or newer")


def times_transposed(given: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    """`given` [tokens, in] times a row-scaled matrix [out, in] transposed, in given's dtype."""
    rounded = RowScaled.of(given)
    by_row: Any = functional.ScalingType.RowWise
    product: Tensor = functional.scaled_mm(
        rounded.values, values.T, rounded.scales, by_row, scales.T, by_row, output_dtype=given.dtype
    )
    return product


class Fp8LoraLinear(torch.autograd.Function):
    """As the one in `fused_lora`, with both products of the frozen weight in fp8.

    values, scales: the row-scaled weight [out, in]; values_back, scales_back: its transpose [in, out], row-scaled anew.
    """

    @staticmethod
    def forward(  # noqa: D102 - torch's own name
        ctx: Any,
        given: Tensor,
        values: Tensor,
        scales: Tensor,
        values_back: Tensor,
        scales_back: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        flat = given.flatten(0, -2)
        low = flat @ down.T
        out = times_transposed(flat, values, scales)
        if bias is not None:
            out += bias
        out.addmm_(low, up.T, alpha=scale)
        ctx.save_for_backward(flat, low, values_back, scales_back, down, up)
        ctx.scale = scale
        return out.view(*given.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        flat, low, values, scales, down, up = ctx.saved_tensors
        gradient = outputs[0].flatten(0, -2)
        low_gradient = (gradient @ up).mul_(ctx.scale)
        to_given = None
        if ctx.needs_input_grad[0]:
            to_given = times_transposed(gradient, values, scales).addmm_(low_gradient, down)
            to_given = to_given.view(*outputs[0].shape[:-1], -1)
        frozen = (None,) * 5
        return to_given, *frozen, low_gradient.T @ flat, (gradient.T @ low).mul_(ctx.scale), None
