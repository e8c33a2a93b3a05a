"""Whether a model can be worked on: decided by its config and processor alone, before any weights are read.

No family is named here. What counts is what the processor returns and what the model takes.
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
    """Processor and texts of a local folder or hub id whose model can be worked on with an adapter of this scope.

    What it makes of images is for a model without weights (`empty_model`).

    Reads, and of a hub downloads, config and processor only. Raises ModelNotSupported for a model type that is unknown
    or none for images and text, an encoder-decoder, a processor without chat template, a language tower that can't be
    told apart; ModelNotLoadable when a package is missing that the model needs; OSError and ValueError for files that
    are missing or damaged.
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
    """The model's modules without weights, which takes a fraction of a second and no memory."""
    with torch.device("meta"):
        return AutoModelForImageTextToText.from_config(config)  # type: ignore[no-untyped-call]


def adapter_pattern(model: Any, scope: str, reach: int | None = None) -> str:
    """A regular expression over module names: every linear layer of the language tower, with vision if in scope.

    `reach` leaves out the decoder's layers from that number on. Vision layers above the one whose states the language
    tower gets are left out, too: they could never be trained. Raises ModelNotSupported when the language tower can't be
    told from the rest.
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
            # A number alone, as in a Sequential, is also the name of layers.
            leaves.add(".".join(parts[-2:] if parts[-1].isdigit() else parts[-1:]))
    choice = "|".join(re.escape(leaf) for leaf in sorted(leaves))
    tail_mass = [names[id(layer)] for layer in decoder.layers[reach:]] if reach is not None else []
    if scope != "language":
        tail_mass += _unread_layers(model, prefix)
    inside = f"{re.escape(prefix)}\\." if scope == "language" else ""
    except_for = "".join(rf"(?!{re.escape(name)}\.)" for name in tail_mass)
    return rf"{except_for}{inside}(?:.*\.)?(?:{choice})"


def _unread_layers(model: Any, decoder: str) -> list[str]:
    """Names of vision layers whose states nobody reads, where the config says which are read (LLaVA's does)."""
    read = getattr(model.config, "vision_feature_layer", None)
    depth = getattr(getattr(model.config, "vision_config", None), "num_hidden_layers", None)
    if read is None or depth is None:
        return []
    # Counted as hidden states are: 0 is what enters the first layer, -1 what leaves the last.
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
