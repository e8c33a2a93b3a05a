"""A linear layer and its LoRA in one step: the products alone, nothing stored or added that they could add themselves.

PEFT scales and adds the adapter's output as tensors of the layer's full width, forwards and backwards. Here the scale
goes into a product of rank 16, and each sum into the product before it. The same mathematics, other rounding.
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
    """y = x W^T + bias + scale (x A^T) B^T for frozen W and bias; saves x and x A^T."""

    @staticmethod
    def forward(
        ctx: Any, given: Tensor, weight: Tensor, bias: Tensor | None, down: Tensor, up: Tensor, scale: float
    ) -> Tensor:
        flat = given.flatten(0, -2)
        low = flat @ down.T
        out = flat @ weight.T if bias is None else torch.addmm(bias, flat, weight.T)
        out.addmm_(low, up.T, alpha=scale)
        ctx.save_for_backward(flat, low, weight, down, up)
        ctx.scale = scale
        return out.view(*given.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor | None, ...]:
        flat, low, weight, down, up = ctx.saved_tensors
        gradient = outputs[0].flatten(0, -2)
        low_gradient = (gradient @ up).mul_(ctx.scale)
        to_given = None
        if ctx.needs_input_grad[0]:
            to_given = (gradient @ weight).addmm_(low_gradient, down).view(*outputs[0].shape[:-1], -1)
        return to_given, None, None, low_gradient.T @ flat, (gradient.T @ low).mul_(ctx.scale), None


def fuse_lora(model: nn.Module) -> None:
    """Makes every plain linear layer under `model` that carries exactly one LoRA compute it fused, from now on.

    Others (dropout, quantised weights, DoRA, a bias of the adapter's own) stay PEFT's. What is saved is the same.
    """
    for module in _plain_layers(model):
        module.forward = _fused(module)  # type: ignore[method-assign, assignment]


@contextmanager
def fp8_products(model: nn.Module, device: torch.device) -> Iterator[None]:
    """Within, the layers that `fuse_lora` has changed take their frozen weight's products in fp8.

    Raises ModelNotSupported where that isn't possible.
    """
    require_fp8(device)
    layers = _plain_layers(model)
    if not layers:
        raise ModelNotSupported("products in fp8 need plain linear layers with a LoRA")
    for module in layers:
        module.forward = _fused_fp8(module)  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        fuse_lora(model)


def _plain_layers(model: nn.Module) -> list[Linear]:
    return [module for module in model.modules() if isinstance(module, Linear) and _plain(module)]


def _plain(module: Linear) -> bool:
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

    def forward(given: Tensor) -> Tensor:
        if module.merged:
            merged: Tensor = by_peft(given)
            return merged
        if module.disable_adapters:
            switched_off: Tensor = base(given)
            return switched_off
        result: Tensor = _LoraLinear.apply(  # type: ignore[no-untyped-call, unused-ignore]
            given, base.weight, base.bias, down.weight, up.weight, scale
        )
        return result

    return forward


def _fused_fp8(module: Linear) -> Callable[[Tensor], Tensor]:
    base: Any = module.get_base_layer()
    down, up, scale = _adapter(module)
    weight, back = RowScaled.of(base.weight.detach()), RowScaled.of(base.weight.detach().T.contiguous())

    def forward(given: Tensor) -> Tensor:
        if module.disable_adapters:
            product = times_transposed(given.flatten(0, -2), weight.values, weight.scales)
            product = product if base.bias is None else product + base.bias
            return product.view(*given.shape[:-1], -1)
        result: Tensor = Fp8LoraLinear.apply(  # type: ignore[no-untyped-call, unused-ignore]
            given, weight.values, weight.scales, back.values, back.scales, base.bias, down.weight, up.weight, scale
        )
        return result

    return forward


def _adapter(module: Linear) -> tuple[Any, Any, float]:
    """Its A and its B as layers, and its scale."""
    name = module.active_adapters[0]
    return module.lora_A[name], module.lora_B[name], module.scaling[name]
