"""A real Qwen2.5-VL and a real Qwen2-VL: M-RoPE, dynamic resolution, a few hundred kilobytes of random weights each."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    PreTrainedTokenizerFast,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLImageProcessor,
    Qwen2VLProcessor,
    Qwen2VLVideoProcessor,
)

from tests.vgid_core.support.tiny import byte_level_tokenizer

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>{% else %}{{ c['text'] }}{% endif %}"
    "{% endfor %}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SPECIAL = [
    "<|endoftext|>",
    "<|im_end|>",
    "<|im_start|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
]
TEXT = {
    "hidden_size": 48,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 512,
    "initializer_range": 0.2,
    "rope_parameters": {"rope_type": "default", "mrope_section": [2, 2, 2], "rope_theta": 10000.0},
}
VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 48,
    "patch_size": 8,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
    "window_size": 32,
    "fullatt_block_indexes": [1],
}


VISION_2 = {
    "depth": 2,
    "embed_dim": 32,
    "hidden_size": 48,
    "num_heads": 2,
    "mlp_ratio": 2,
    "patch_size": 8,
    "spatial_merge_size": 2,
    "temporal_patch_size": 2,
}


def save_tiny_qwen(folder: Path, seed: int = 0) -> Path:
    """Saves model and processor under `folder` as `from_pretrained` expects them."""
    return _save(folder, seed, (Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor), VISION)


def save_tiny_qwen2(folder: Path, seed: int = 0) -> Path:
    """The same for Qwen2-VL, whose vision tower has other layers."""
    return _save(folder, seed, (Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor), VISION_2)


def _save(folder: Path, seed: int, family: tuple[Any, Any, Any], vision: dict[str, Any]) -> Path:
    make_config, make_model, make_processor = family
    torch.manual_seed(seed)
    tokenizer = byte_level_tokenizer(SPECIAL, bos="<|im_start|>", eos="<|im_end|>", pad="<|endoftext|>")
    ids = {name: tokenizer.convert_tokens_to_ids(name) for name in SPECIAL}
    special = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    config = make_config(
        text_config={"vocab_size": len(tokenizer), **TEXT, **special},
        vision_config=vision,
        image_token_id=ids["<|image_pad|>"],
        video_token_id=ids["<|video_pad|>"],
        vision_start_token_id=ids["<|vision_start|>"],
        vision_end_token_id=ids["<|vision_end|>"],
    )
    model = make_model(config)
    model.generation_config.eos_token_id = [tokenizer.eos_token_id, tokenizer.pad_token_id]
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    _processor(tokenizer, make_processor).save_pretrained(folder)
    return folder


def _processor(tokenizer: PreTrainedTokenizerFast, make_processor: Any) -> Any:
    size = {"shortest_edge": 16 * 16, "longest_edge": 64 * 64}
    images = Qwen2VLImageProcessor(patch_size=8, merge_size=2, temporal_patch_size=2, size=size)
    videos = Qwen2VLVideoProcessor(patch_size=8, merge_size=2, temporal_patch_size=2, size=size)
    return make_processor(image_processor=images, tokenizer=tokenizer, video_processor=videos, chat_template=TEMPLATE)
