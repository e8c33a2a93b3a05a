"""Matrix products with the frozen weights in fp8, in training alone: twice bf16's rate on an H100.

Why: most of a step's time goes into these products. How: activations and gradients are scaled row by row when they are
used; weights are scaled row by row once, with one copy for each direction. Teacher and student both use the rounded
weights, so the student doesn't learn to compensate the rounding. Trade-off: a second and third copy of the weights at
one byte each, and rounded activations. Evaluation uses the original weights, and the adapter is saved for these.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from vgid_core.errors import ModelNotSupported

_FORMAT = torch.float8_e4m3fn
# Tolerance for `PackedScorer.deviation`: activations that differ in their last bits can round to different values.
FP8_ROUNDING = 0.25
_LARGEST = torch.finfo(_FORMAT).max


@dataclass(frozen=True)
class RowScaled:
    """A matrix [rows, columns] in float8_e4m3fn, and the scale of each row, [rows, 1], float32."""

    values: Tensor
    scales: Tensor

    @classmethod
    def of(cls, matrix: Tensor) -> RowScaled:
        """Scales each row to the format's range and rounds."""
        scales = matrix.abs().amax(dim=-1, keepdim=True).float().clamp(min=1e-12) / _LARGEST
        return cls((matrix.float() / scales).to(_FORMAT), scales)


def require_fp8(device: torch.device) -> None:
    """Raises ModelNotSupported if PyTorch or the accelerator lacks fp8 products."""
    if not hasattr(functional, "scaled_mm"):
        raise ModelNotSupported("products in fp8 need PyTorch 2.10 or newer")
    if device.type == "cuda" and torch.cuda.get_device_capability(device) < (8, 9):
        raise ModelNotSupported("products in fp8 need an accelerator of compute capability 8.9 or newer")


def times_transposed(inputs: Tensor, values: Tensor, scales: Tensor) -> Tensor:
    """inputs @ matrix.T in fp8: inputs [tokens, in], matrix [out, in] row-scaled. Returns [tokens, out]."""
    rounded = RowScaled.of(inputs)
    by_row: Any = functional.ScalingType.RowWise
    product: Tensor = functional.scaled_mm(
        rounded.values, values.T, rounded.scales, by_row, scales.T, by_row, output_dtype=inputs.dtype
    )
    return product


class Fp8LoraLinear(torch.autograd.Function):
    """`fused_product._LoraLinear` with the frozen weight's products in fp8.

    values, scales: the row-scaled weight [out, in]. values_back, scales_back: its row-scaled transpose [in, out], for
    the backward pass.
    """

    @staticmethod
    def forward(  # noqa: D102 - torch's own name
        ctx: Any,
        inputs: Tensor,
        values: Tensor,
        scales: Tensor,
        values_back: Tensor,
        scales_back: Tensor,
        bias: Tensor | None,
        down: Tensor,
        up: Tensor,
        scale: float,
    ) -> Tensor:
        flat = inputs.flatten(0, -2)
        low = flat @ down.T
        out = times_transposed(flat, values, scales)
        if bias is not None:
            out += bias
        out.addmm_(low, up.T, alpha=scale)
        ctx.save_for_backward(flat, low, values_back, scales_back, down, up)
        ctx.scale = scale
        return out.view(*inputs.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:  # noqa: D102
        flat, low, values, scales, down, up = ctx.saved_tensors
        gradient = outputs[0].flatten(0, -2)
        low_gradient = (gradient @ up).mul_(ctx.scale)
        input_gradient = None
        if ctx.needs_input_grad[0]:
            input_gradient = times_transposed(gradient, values, scales).addmm_(low_gradient, down)
            input_gradient = input_gradient.view(*outputs[0].shape[:-1], -1)
        frozen = (None,) * 5
        return input_gradient, *frozen, low_gradient.T @ flat, (gradient.T @ low).mul_(ctx.scale), None
