"""PaliGemma: no chat template, a prefix that sees itself both ways, a causal suffix (token_type_ids)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipImageProcessor,
)

from tests.vgid_core.families.common import HIDDEN, make_tokenizer, save, text_sizes, vision_sizes


def save_tiny(folder: Path, seed: int = 0, **text: Any) -> Path:
    """Saves model and processor under `folder`. `text`: other fields of the language tower, as PaliGemma 2 has them."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(["<pad>", "<eos>", "<bos>", "<image>"], "<bos>", "<eos>", "<pad>", image_token="<image>")
    images = SiglipImageProcessor(size={"height": 32, "width": 32})
    images.image_seq_length = 16
    processor = PaliGemmaProcessor(image_processor=images, tokenizer=tokenizer)
    config = PaliGemmaConfig(
        text_config=text_sizes(tokenizer, **({"model_type": "gemma"} | text)),
        vision_config=vision_sizes(model_type="siglip_vision_model", vision_use_head=False, projection_dim=HIDDEN),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        projection_dim=HIDDEN,
    )
    return save(folder, PaliGemmaForConditionalGeneration(config), processor)
