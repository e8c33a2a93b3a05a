"""LLaVA-NeXT: tiles by the photo's shape, image_sizes beside the pixels, padding cut off the features again."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import (
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
)

from tests.vgid_core.families.common import make_tokenizer, save, text_sizes, vision_sizes

TEMPLATE = (
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST] {% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>\n{% else %}{{ c['text'] }}{% endif %}{% endfor %} [/INST]"
    "{% else %} {{ m['content'][0]['text'] }}</s>{% endif %}{% endfor %}"
)
GRID = [[32, 64], [64, 32], [64, 64]]


def save_tiny(folder: Path, seed: int = 0) -> Path:
    """Saves model and processor under `folder`."""
    torch.manual_seed(seed)
    tokenizer = make_tokenizer(["<unk>", "<s>", "</s>", "<image>"], "<s>", "</s>", "<unk>", image_token="<image>")
    config = LlavaNextConfig(
        text_config=text_sizes(tokenizer, model_type="mistral", sliding_window=None),
        vision_config=vision_sizes(model_type="clip_vision_model", patch_size=16),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=GRID,
        image_seq_length=4,
        vision_feature_layer=-2,
    )
    images = LlavaNextImageProcessor(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}, image_grid_pinpoints=GRID
    )
    processor = LlavaNextProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
        image_token="<image>",
    )
    return save(folder, LlavaNextForConditionalGeneration(config), processor)
