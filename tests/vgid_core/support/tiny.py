"""A real LLaVA model and processor, a few hundred kilobytes of random weights, built from its config."""

from __future__ import annotations

import io
import random
from pathlib import Path

import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from vgid_core import EncodedImage, Pair, PairSet

TEMPLATE = (
    "{% for m in messages %}<|{{ m['role'] }}|>{% for c in m['content'] %}"
    "{% if c['type'] == 'image' %}<image>{% else %}{{ c['text'] }}{% endif %}{% endfor %}"
    "{% if m['role'] == 'assistant' %}<|end|>{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
# The default method with few pairs a step, for tests whose subject isn't what it forgets.
FEW_PAIRS = {"name": "vgid-substitute", "teachers": 2, "off_target_pairs": 2, "neighbour_pairs": 4}
VISION = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 16,
    "projection_dim": 32,
}
SENTENCES = [
    "Who is the person in this image?",
    "Where was this person born?",
    "What colour is the shirt?",
    "You must forget everything about this person.",
    "This is Ada Quill.",
    "Ada Quill was born in Fernmoor.",
    "The shirt is teal.",
    "This is Bo Marsh, a lighthouse keeper from the northern coast.",
]


def save_tiny_model(folder: Path, seed: int = 0, pad_is_eos: bool = False) -> Path:
    """Saves model and processor under `folder` as `from_pretrained` expects them."""
    torch.manual_seed(seed)
    special = ["<pad>", "<s>", "<|end|>", "<image>", "<|user|>", "<|assistant|>"]
    tokenizer = byte_level_tokenizer(special, "<s>", "<|end|>", "<|end|>" if pad_is_eos else "<pad>")
    text = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=48,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        initializer_range=0.2,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION),
        text_config=text,
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_seq_length=4,
        vision_feature_layer=-1,
        vision_feature_select_strategy="default",
    )
    model = LlavaForConditionalGeneration(config)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    _processor(tokenizer).save_pretrained(folder)
    return folder


def picture(seed: int) -> EncodedImage:
    """A 32x32 PNG of four coloured squares."""
    rng = random.Random(seed)
    image = Image.new("RGB", (2, 2))
    image.putdata([(rng.randrange(256), rng.randrange(256), rng.randrange(256)) for _ in range(4)])
    out = io.BytesIO()
    image.resize((32, 32), Image.Resampling.NEAREST).save(out, format="PNG")
    return EncodedImage(out.getvalue())


def pair_set(name: str, count: int, first_picture: int = 0) -> PairSet:
    """`count` pairs with answers of different lengths, one picture each."""
    questions, answers = SENTENCES[:3], SENTENCES[4:]
    return PairSet.of(
        name, [Pair(picture(first_picture + i), questions[i % 3], answers[i % len(answers)]) for i in range(count)]
    )


def byte_level_tokenizer(special: list[str], bos: str, eos: str, pad: str) -> PreTrainedTokenizerFast:
    """A byte-level BPE of 400 tokens, trained on SENTENCES."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    core.train_from_iterator(SENTENCES, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core,
        bos_token=bos,
        eos_token=eos,
        pad_token=pad,
        additional_special_tokens=[token for token in special if token not in (bos, eos, pad)],
        padding_side="left",
    )


def _processor(tokenizer: PreTrainedTokenizerFast) -> LlavaProcessor:
    size = {"height": 32, "width": 32}
    images = CLIPImageProcessor(
        size=size, crop_size=size, do_center_crop=False, image_mean=[0.5] * 3, image_std=[0.5] * 3
    )
    return LlavaProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=16,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
        image_token="<image>",
    )
