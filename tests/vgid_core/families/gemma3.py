"""Gemma 3: image tokens see each other both ways (token_type_ids), windows, <bos> in the template."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import Gemma3Config, Gemma3ForConditionalGeneration, Gemma3ImageProcessor, Gemma3Processor

from tests.vgid_core.families.common import make_tokenizer, save, text_sizes, vision_sizes

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>{{ 'model' if m['role'] == 'assistant' else 'user' }}\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<start_of_image>{% else %}{{ c['text'] | trim }}"
    "{% endif %}{% endfor %}<end_of_turn>\n{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
SPECIAL = [
    "<pad>",
    "<end_of_turn>",
    "<bos>",
    "<start_of_turn>",
    "<start_of_image>",
    "<end_of_image>",
    "<image_soft_token>",
]


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """Saves model and processor under `folder`."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(
        SPECIAL,
        "<bos>",
        "<end_of_turn>",
        "<pad>",
        boi_token="<start_of_image>",
        eoi_token="<end_of_image>",
        image_token="<image_soft_token>",
    )
    config = Gemma3Config(
        text_config=text_sizes(
            tokenizer,
            layer_types=["sliding_attention", "full_attention"],
            sliding_window=8,
            query_pre_attn_scalar=16,
        ),
        vision_config=vision_sizes(model_type="siglip_vision_model", vision_use_head=False),
        mm_tokens_per_image=4,
        boi_token_index=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_index=tokenizer.convert_tokens_to_ids("<end_of_image>"),
        image_token_index=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
    )
    processor = Gemma3Processor(
        image_processor=Gemma3ImageProcessor(size={"height": 32, "width": 32}),
        tokenizer=tokenizer,
        chat_template=TEMPLATE,
        image_seq_length=4,
    )
    return save(folder, Gemma3ForConditionalGeneration(config), processor)
