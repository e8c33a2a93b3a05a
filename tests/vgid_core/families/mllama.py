"""Mllama: layers of cross-attention to the image's tiles, which aren't part of the text; masks of both."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import MllamaConfig, MllamaForConditionalGeneration, MllamaImageProcessor, MllamaProcessor

from tests.vgid_core.families.common import make_tokenizer, save, text_sizes

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<|image|>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
SPECIAL = ["<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>", "<|start_header_id|>", "<|end_header_id|>"]


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """Saves model and processor under `folder`."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(SPECIAL, "<|begin_of_text|>", "<|eot_id|>", "<|finetune_right_pad_id|>")
    text = text_sizes(tokenizer, num_hidden_layers=3, cross_attention_layers=[1], rope_parameters=None)
    # Its id is the first one past the vocabulary: it has an embedding, but no logit.
    tokenizer.add_special_tokens({"extra_special_tokens": ["<|image|>"]}, replace_extra_special_tokens=False)
    config = MllamaConfig(
        text_config=text,
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_global_layers": 1,
            "attention_heads": 2,
            "image_size": 32,
            "patch_size": 16,
            "max_num_tiles": 4,
            "intermediate_layers_indices": [0],
            "vision_output_dim": 64,
        },
        image_token_index=tokenizer.convert_tokens_to_ids("<|image|>"),
    )
    images = MllamaImageProcessor(size={"height": 32, "width": 32}, max_image_tiles=4)
    processor = MllamaProcessor(images, tokenizer, chat_template=TEMPLATE)
    return save(folder, MllamaForConditionalGeneration(config), processor)
