"""Frozen language weights in 4 bits (NF4, QLoRA, arXiv 2305.14314) by bitsandbytes: a quarter of bf16's memory."""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import torch
from transformers import AutoConfig, BitsAndBytesConfig

from vgid_core.errors import ModelNotLoadable
from vgid_core.models.support import empty_model


def nf4_arguments(source: str, dtype: torch.dtype) -> dict[str, Any]:
    """Arguments of `from_pretrained` that quantize the language tower alone, in host memory.

    Raises ModelNotLoadable if bitsandbytes isn't installed.
    """
    if find_spec("bitsandbytes") is None:
        raise ModelNotLoadable("4-bit base weights need bitsandbytes: pip install '.[gpu]'")
    quantization = BitsAndBytesConfig(  # type: ignore[no-untyped-call]
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=dtype,
        llm_int8_skip_modules=_modules_outside_decoder(source),
    )
    return {"quantization_config": quantization, "device_map": {"": "cpu"}}


def keep_differentiable(model: Any) -> None:
    """Keeps 4-bit weights in the layout whose kernels have gradients.

    On a CPU with AVX512-BF16, a layer in evaluation mode would switch to an inference layout, whose kernel has none
    (bitsandbytes 0.50).
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def _modules_outside_decoder(source: str) -> list[str]:
    """Names of the top modules without any part of the language tower, found on the model without weights."""
    shell = empty_model(AutoConfig.from_pretrained(source))
    names = {module: name for name, module in shell.named_modules()}
    decoder = names[shell.get_decoder()]
    inner = names[shell.base_model]
    children = [
        *shell.named_children(),
        *((f"{inner}.{name}", child) for name, child in shell.base_model.named_children()),
    ]
    return [name for name, _ in children if not f"{decoder}.".startswith(f"{name}.")]
