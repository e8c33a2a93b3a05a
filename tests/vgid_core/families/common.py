"""What the tiny models of all families share: a tokenizer with the family's own tokens, sizes, and saving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from tests.vgid_core.support.tiny import byte_level_tokenizer

HIDDEN = 32


def make_tokenizer(special: list[str], bos: str, eos: str, pad: str, **named: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE that writes `bos` before a text by itself, as most of the families' own do.

    `named` are tokens that the family's processor looks up by name, such as image_token.
    """
    core = byte_level_tokenizer(special, bos, eos, pad).backend_tokenizer
    core.post_processor = TemplateProcessing(single=f"{bos} $A", special_tokens=[(bos, core.token_to_id(bos))])
    others = [token for token in special if token not in (bos, eos, pad, *named.values())]
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        additional_special_tokens=others,
        padding_side="left",
        **named,
    )


def text_sizes(tokenizer: PreTrainedTokenizerFast, **changes: Any) -> dict[str, Any]:
    """A language tower of two layers."""
    sizes = {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "initializer_range": 0.2,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
    return sizes | changes


def vision_sizes(**changes: Any) -> dict[str, Any]:
    """A vision tower of two layers for tiles of 32 pixels."""
    sizes = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "image_size": 32,
        "patch_size": 8,
    }
    return sizes | changes


def save(folder: Path, model: Any, processor: Any) -> Path:
    """Model and processor as `from_pretrained` expects them, the end of turn told to generation."""
    ends = processor.tokenizer.eos_token_id
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = ends, processor.tokenizer.pad_token_id
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            # Zero at first, so that a layer adds nothing before it is trained; in trained models it does.
            if name.endswith("gate"):
                parameter.fill_(0.5)
            elif parameter.ndim > 1 and not parameter.any():
                parameter.normal_(0, 0.2)
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder
