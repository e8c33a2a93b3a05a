"""Attaches a fresh LoRA adapter, and checks that training changed it."""

from __future__ import annotations

from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.tuners_utils import BaseTunerLayer

from vgid_core.config import LoraSettings
from vgid_core.errors import AdapterUntrained
from vgid_core.lora.fused_product import fuse_lora
from vgid_core.models.base import BaseModel
from vgid_core.models.support import adapter_pattern


def attach_adapter(base: BaseModel, settings: LoraSettings, trainable_layers: int | None = None) -> PeftModel:
    """Wraps `base.model` in a fresh LoRA with B = 0, so that the student starts out equal to the base.

    trainable_layers: adapt only the first so many decoder layers.
    """
    config = LoraConfig(
        r=settings.rank,
        lora_alpha=settings.alpha,
        lora_dropout=settings.dropout,
        init_lora_weights="gaussian",
        target_modules=adapter_pattern(base.model, settings.scope, trainable_layers),
        bias="none",
    )
    student: PeftModel = get_peft_model(base.model, config, autocast_adapter_dtype=False)
    # In the base's precision: casting activations for float32 matrices of rank 16 takes a third of a step.
    for parameter in student.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(base.dtype)
    fuse_lora(student)
    base.adapted[:] = [module for module in student.modules() if isinstance(module, BaseTunerLayer)]
    return student


def detach_adapter(base: BaseModel) -> None:
    """Takes the adapter off again: `base.model` is as it was before `attach_adapter`."""
    for name, module in list(base.model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            base.model.set_submodule(name, module.get_base_layer())
    base.adapted.clear()
    if hasattr(base.model, "peft_config"):
        del base.model.peft_config


def require_trained(student: PeftModel) -> list[str]:
    """The names of the adapted modules. Raises AdapterUntrained if any `lora_B` is still exactly zero.

    Reentrant gradient checkpointing over frozen embeddings leaves layers untrained without an error
    (open-unlearning #178).
    """
    trained: list[str] = []
    idle: list[str] = []
    for name, parameter in student.named_parameters():
        if ".lora_B." in name:
            module = name.split(".lora_B.")[0].removeprefix("base_model.model.")
            (trained if parameter.detach().any() else idle).append(module)
    if idle or not trained:
        raise AdapterUntrained(f"{len(idle)} of {len(idle) + len(trained)} adapted modules never moved")
    return trained
