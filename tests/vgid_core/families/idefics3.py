"""Idefics3 and SmolVLM: a text of tiles by the photo's size, tiles padded over a batch, masks of their pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3ImageProcessor,
    Idefics3Processor,
    PreTrainedTokenizerFast,
)

from tests.vgid_core.families.common import make_tokenizer, save, text_sizes, vision_sizes

# The first token that it writes is the beginning of the first turn.
TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ m['role'] | capitalize }}"
    "{{ ':' if m['content'][0]['type'] == 'image' else ': ' }}{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}<end_of_utterance>\n"
    "{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)
TILES = [f"<row_{row}_col_{column}>" for row in (1, 2) for column in (1, 2)]
SIZES = {"size": {"longest_edge": 64}, "max_image_size": {"longest_edge": 32}}


def idefics_tokenizer() -> PreTrainedTokenizerFast:
    """With the tokens around tiles and images."""
    special = ["<pad>", "<|im_start|>", "<end_of_utterance>", "<fake_token_around_image>", "<image>", "<global-img>"]
    return make_tokenizer([*special, *TILES], "<|im_start|>", "<end_of_utterance>", "<pad>", image_token="<image>")


def idefics_config(kind: Any, tokenizer: PreTrainedTokenizerFast) -> Any:
    """Of Idefics3, or of SmolVLM, which has the same fields."""
    return kind(
        text_config=text_sizes(tokenizer, model_type="llama"),
        vision_config=vision_sizes(),
        image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        pad_token_id=tokenizer.pad_token_id,
        scale_factor=2,
    )


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """Saves model and processor under `folder`."""
    torch.manual_seed(seed)
    tokenizer = idefics_tokenizer()
    processor = Idefics3Processor(Idefics3ImageProcessor(**SIZES), tokenizer, image_seq_len=4, chat_template=TEMPLATE)
    config = idefics_config(Idefics3Config, tokenizer)
    return save(folder, Idefics3ForConditionalGeneration(config), processor)
