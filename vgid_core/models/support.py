"""Checks whether a model is supported by its config and processor alone, before any weights are read.

No family is named here: what counts are the processor's outputs and the arguments of the model's forward.
"""

from __future__ import annotations

import re
from inspect import signature
from typing import Any

import torch
from torch import nn
from transformers import (
    CONFIG_MAPPING,
    MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING,
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    PreTrainedConfig,
)

from vgid_core.errors import ModelNotLoadable, ModelNotSupported
from vgid_core.models.encoding import PromptEncoder


def supported_encoder(source: str, scope: str) -> PromptEncoder:
    """The encoder of a local folder or hub id whose model supports an adapter of this scope.

    Reads (from a hub: downloads) config and processor alone; the encoder's model has no weights (`empty_model`). Raises
    ModelNotSupported for a model type that is unknown, takes no images or is an encoder-decoder, for a processor
    without chat template, and for a language tower that isn't a module of its own; ModelNotLoadable for a missing
    package; OSError and ValueError for missing or damaged files.
    """
    config = _supported_config(source)
    try:
        shell = empty_model(config)
        _require_tower(shell, config.model_type, scope)
        processor: Any = AutoProcessor.from_pretrained(source, trust_remote_code=False)  # type: ignore[no-untyped-call]
    except ImportError as error:
        missing = str(error).strip().partition("\n")[0]
        raise ModelNotLoadable(f"the model needs a package that isn't installed: {missing}") from error
    if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
        raise ModelNotSupported("the processor lacks a tokenizer or an image processor")
    return PromptEncoder(processor, shell, torch.device("cpu"), torch.float32)


def empty_model(config: PreTrainedConfig) -> Any:
    """The model's modules on the meta device: without weights, in a fraction of a second."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)  # type: ignore[no-untyped-call]


def adapter_pattern(model: Any, scope: str, trainable_layers: int | None = None) -> str:
    """A regular expression over the names of the modules to adapt: all linear layers of the scope's towers.

    trainable_layers: adapt only the first so many decoder layers. Vision layers above the one whose states the language
    tower reads are excluded, since no gradient reaches them. Raises ModelNotSupported if the language tower isn't a
    module of its own.
    """
    decoder = model.get_decoder()
    names = {id(module): name for name, module in model.named_modules()}
    prefix = names.get(id(decoder))
    if not prefix or decoder is model.base_model:
        raise ModelNotSupported("the model doesn't keep its language tower in a module of its own")
    head = model.get_output_embeddings()
    leaves = set()
    for name, module in (model if scope == "language+vision" else decoder).named_modules():
        if isinstance(module, nn.Linear) and module is not head:
            parts = name.split(".")
            # In a Sequential the name is a number, which is also the name of layers.
            leaves.add(".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:]))
    choice = "|".join(re.escape(leaf) for leaf in sorted(leaves))
    excluded = [names[id(layer)] for layer in decoder.layers[trainable_layers:]] if trainable_layers is not None else []
    if scope != "language":
        excluded += _unused_vision_layers(model, prefix)
    inside = f"{re.escape(prefix)}\\." if scope == "language" else ""
    except_for = "".join(rf"(?!{re.escape(name)}\.)" for name in excluded)
    return rf"{except_for}{inside}(?:.*\.)?(?:{choice})"


def _unused_vision_layers(model: Any, decoder: str) -> list[str]:
    """Names of vision layers above the last one that is read, if the config names that one (LLaVA's does)."""
    read = getattr(model.config, "vision_feature_layer", None)
    depth = getattr(getattr(model.config, "vision_config", None), "num_hidden_layers", None)
    if read is None or depth is None:
        return []
    # Indices into hidden states: 0 is the first layer's input, -1 the last layer's output.
    last = max(layer if layer >= 0 else depth + 1 + layer for layer in ([read] if isinstance(read, int) else read))
    return [
        f"{name}.{index}"
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and len(module) == depth and not name.startswith(f"{decoder}.")
        for index in range(last, depth)
    ]


def _supported_config(source: str) -> PreTrainedConfig:
    values, _ = PreTrainedConfig.get_config_dict(source)
    if not values:
        raise OSError("no config.json")
    kind = values.get("model_type", "")
    if kind not in CONFIG_MAPPING:
        raise ModelNotSupported(
            f"model type '{kind}' is unknown to this version of transformers; code that comes with a model isn't run"
        )
    config: PreTrainedConfig = AutoConfig.from_pretrained(source, trust_remote_code=False)
    if type(config) not in MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
        raise ModelNotSupported(f"model type '{kind}' isn't one that takes images and text and answers with text")
    if any(getattr(part, "is_encoder_decoder", False) for part in (config, config.get_text_config())):
        raise ModelNotSupported(f"model type '{kind}' is an encoder-decoder; only decoders can be worked on")
    return config


def _require_tower(shell: Any, kind: str, scope: str) -> None:
    if "logits_to_keep" not in signature(type(shell).forward).parameters:
        raise ModelNotSupported(f"model type '{kind}' can't give logits at answer tokens alone")
    adapter_pattern(shell, scope)
