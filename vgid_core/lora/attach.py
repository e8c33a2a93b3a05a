"""Attaches a LoRA adapter, fresh or as a release before left it, and checks that training changed it."""

from __future__ import annotations

from pathlib import Path

from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from peft.tuners.tuners_utils import BaseTunerLayer
from safetensors import SafetensorError
from safetensors.torch import load_file

from vgid_core.config import LoraSettings
from vgid_core.errors import AdapterUntrained, StartUnusable
from vgid_core.lora.fused_product import fuse_lora
from vgid_core.lora.load import ADAPTER_WEIGHTS
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


def start_from(student: PeftModel, folder: Path, alpha: int) -> None:
    """Gives the student the weights of the adapter in `folder`, which must have its modules, rank and alpha.

    Raises StartUnusable if it has others, or can't be read.
    """
    try:
        weights = load_file(folder / ADAPTER_WEIGHTS)
        saved = LoraConfig.from_pretrained(str(folder))
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise StartUnusable("the adapter to start from can't be read") from error
    own = {name: tensor.shape for name, tensor in get_peft_model_state_dict(student).items()}
    if own != {name: tensor.shape for name, tensor in weights.items()} or saved.lora_alpha != alpha:
        raise StartUnusable(
            "the adapter to start from has other modules, another rank or another alpha than the settings"
        )
    set_peft_model_state_dict(student, weights)


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
