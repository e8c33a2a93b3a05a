"""A linear layer and its LoRA in one autograd function.

Why: PEFT scales and adds the adapter's output as tensors of the layer's full width, forward and backward. How: the
scale goes into the product of low rank, and each sum into the product before it (addmm). Trade-off: the same
mathematics with different rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn

from vgid_core.errors import ModelNotSupported
from vgid_core.lora.fp8 import Fp8LoraLinear, RowScaled, require_fp8, times_transposed


class _LoraLinear(torch.autograd.Function):
    """y = x W^T + bias + scale (x A^T) B^T with frozen W and bias. Saves x and x A^T for the backward pass."""

    @staticmethod
    def forward(
        ctx: Any, inputs: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        flat = inputs.flatten(0, -2)
        low = flat @ down.T
        out = flat @ weight.T if bias is None else torch.addmm(bias, flat, weight.T)
        out.addmm_(low, up.T, alpha=scale)
        ctx.save_for_backward(flat, low, weight, down, up)
        ctx.scale = scale
        return out.view(*inputs.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        flat, low, weight, down, up = ctx.saved_tensors
        gradient = outputs[0].flatten(0, -2)
        low_gradient = (gradient @ up).mul_(ctx.scale)
        input_gradient = None
        if ctx.needs_input_grad[0]:
            input_gradient = (gradient @ weight).addmm_(low_gradient, down).view(*outputs[0].shape[:-1], -1)
        return input_gradient, None, None, low_gradient.T @ flat, (gradient.T @ low).mul_(ctx.scale), None


def fuse_lora(model: nn.Module) -> None:
    """Replaces the forward of every plain linear layer with exactly one LoRA by the fused one, in place.

    Layers with dropout, quantised weights, DoRA or an adapter bias keep PEFT's forward. Saved adapters don't differ.
    """
    for module in _fusable_layers(model):
        module.forward = _fused(module)  # type: ignore[method-assign, assignment]


@contextmanager
def fp8_products(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within the context, the layers that `fuse_lora` changes compute the frozen weight's products in fp8.

    Raises ModelNotSupported if the device or the model can't do that.
    """
    require_fp8(device)
    layers = _fusable_layers(model)
    if not layers:
        raise ModelNotSupported("products in fp8 need plain linear layers with a LoRA")
    for module in layers:
        module.forward = _fused_fp8(module)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        fuse_lora(model)


def _fusable_layers(model: nn.Module) -> list[Linear]:
    return [module for module in model.modules() if isinstance(module, Linear) and _is_fusable(module)]


def _is_fusable(module: Linear) -> bool:
    if len(module.active_adapters) != 1:
        return False
    name = module.active_adapters[0]
    return (
        type(module.get_base_layer()) is nn.Linear
        and name in module.lora_A
        and name not in module.lora_variant
        and isinstance(module.lora_dropout[name], nn.Identity)
        and module.lora_A[name].bias is None
        and module.lora_B[name].bias is None
    )


def _fused(module: Linear) -> Callable[[Tensor], Tensor]:
    base: Any = module.get_base_layer()
    by_peft = type(module).forward.__get__(module)
    down, up, scale = _adapter(module)

    def forward(inputs: Tensor) -> Tensor:
        if module.merged:
            merged: Tensor = by_peft(inputs)
            return merged
        if module.disable_adapters:
            switched_off: Tensor = base(inputs)
            return switched_off
        result: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call, unused-ignore]
            inputs, base.weight, base.bias, down.weight, up.weight, scale
        )
        return result

    return forward


def _fused_fp8(module: Linear) -> Callable[[Tensor], Tensor]:
    base: Any = module.get_base_layer()
    down, up, scale = _adapter(module)
    weight, back = RowScaled.of(base.weight.detach()), RowScaled.of(base.weight.detach().T.contiguous())

    def forward(inputs: Tensor) -> Tensor:
        if module.disable_adapters:
            product = times_transposed(inputs.flatten(0, -2), weight.values, weight.scales)
            product = product if base.bias is None else product + base.bias
            return product.view(*inputs.shape[:-1], -1)
        result: Tensor = Fp8LoraLinear.apply(  # type: ignore[no-untyped-call, unused-ignore]
            inputs, weight.values, weight.scales, back.values, back.scales, base.bias, down.weight, up.weight, scale
        )
        return result

    return forward


def _adapter(module: Linear) -> tuple[Any, Any, float]:
    """The adapter's A and B layers and its scale."""
    name = module.active_adapters[0]
    return module.lora_A[name], module.lora_B[name], module.scaling[name]
