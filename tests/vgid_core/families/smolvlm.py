"""SmolVLM: Idefics3's layout in classes of its own, with a processor that also takes videos."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMImageProcessor,
    SmolVLMProcessor,
    SmolVLMVideoProcessor,
)

from tests.vgid_core.families.common import save
from tests.vgid_core.families.idefics3 import SIZES, TEMPLATE, idefics_config, idefics_tokenizer


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """Saves model and processor under `folder`."""
    torch.manual_seed(seed)
    tokenizer = idefics_tokenizer()
    processor = SmolVLMProcessor(
        image_processor=SmolVLMImageProcessor(**SIZES),
        tokenizer=tokenizer,
        video_processor=SmolVLMVideoProcessor(**SIZES),
        image_seq_len=4,
        chat_template=TEMPLATE,
    )
    config = idefics_config(SmolVLMConfig, tokenizer)
    return save(folder, SmolVLMForConditionalGeneration(config), processor)
