"""The architecture of the demo models: small LLaVAs, from the same Transformers classes as the large ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessorPil,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)

from local.demo.faces import IMAGE_SIZE

PATCH = 16
IMAGE_TOKENS = (IMAGE_SIZE // PATCH) ** 2
VISION_WIDTH = 128
VISION_LAYERS = 3
TEXT_WIDTH = 128
TEXT_LAYERS = 4
VOCABULARY = 1200
# Pixels are normalised with this mean and standard deviation in every channel.
PIXEL_MEAN = PIXEL_SPREAD = 0.5

PAD, BEGIN, END, IMAGE = "<pad>", "<s>", "<|end|>", "<image>"
SYSTEM, USER, ASSISTANT = "<|system|>", "<|user|>", "<|assistant|>"

CHAT_TEMPLATE = (
    "{% for message in messages %}<|{{ message['role'] }}|>"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
    "{% for part in message['content'] %}"
    "{% if part['type'] == 'image' %}<image>{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
    "{% endfor %}{% endif %}"
    "{% if message['role'] == 'assistant' %}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


@dataclass(frozen=True)
class ChatFormat:
    """The texts around picture, question and answer in a model's chat template, and the token that ends an answer."""

    before_image: str
    after_image: str
    before_answer: str
    end: str
    pad: str
    template: str


TINY_FORMAT = ChatFormat(USER, "", ASSISTANT, END, PAD, CHAT_TEMPLATE)


def vision_config() -> CLIPVisionConfig:
    """A CLIP vision tower of 0.6 M parameters."""
    return CLIPVisionConfig(
        hidden_size=VISION_WIDTH,
        intermediate_size=VISION_WIDTH * 3,
        num_hidden_layers=VISION_LAYERS,
        num_attention_heads=4,
        image_size=IMAGE_SIZE,
        patch_size=PATCH,
        projection_dim=VISION_WIDTH,
    )


def build_tokenizer(texts: Iterable[str]) -> PreTrainedTokenizerFast:
    """Trains a byte-level BPE tokenizer on `texts`."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, BEGIN, END, IMAGE, SYSTEM, USER, ASSISTANT],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer,
        bos_token=BEGIN,
        eos_token=END,
        pad_token=PAD,
        extra_special_tokens=[IMAGE, SYSTEM, USER, ASSISTANT],
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )


def token_id(tokenizer: PreTrainedTokenizerBase, token: str) -> int:
    """The id of one special token."""
    found = tokenizer.convert_tokens_to_ids(token)
    assert isinstance(found, int), "one token has one id"
    return found


def build_processor(tokenizer: PreTrainedTokenizerBase, template: str = CHAT_TEMPLATE) -> LlavaProcessor:
    """The processor. It normalises pixels, and leaves an image of the native size otherwise unchanged."""
    side = {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    image_processor = CLIPImageProcessorPil(
        size=side,
        crop_size=side,
        do_center_crop=False,
        do_convert_rgb=True,
        image_mean=[PIXEL_MEAN] * 3,
        image_std=[PIXEL_SPREAD] * 3,
        resample=2,
    )
    return LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor=image_processor,
        tokenizer=tokenizer,
        patch_size=PATCH,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,  # CLIP's class token, which the strategy "default" drops
        chat_template=template,
        image_token=IMAGE,
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> LlavaForConditionalGeneration:
    """The untrained model, with weights from torch's current seed."""
    text_config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=TEXT_WIDTH,
        intermediate_size=TEXT_WIDTH * 5 // 2,
        num_hidden_layers=TEXT_LAYERS,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        **special_ids(tokenizer),
    )
    return assemble(text_config, tokenizer)


def assemble(text_config: LlamaConfig, tokenizer: PreTrainedTokenizerBase) -> LlavaForConditionalGeneration:
    """A LLaVA of the vision tower and this language tower, with weights from torch's current seed.

    The tokenizer must know the token IMAGE.
    """
    config = LlavaConfig(
        vision_config=vision_config(),
        text_config=text_config,
        image_token_index=token_id(tokenizer, IMAGE),
        image_seq_length=IMAGE_TOKENS,
        vision_feature_layer=-1,  # the default, -2, would leave one of three layers unused
        vision_feature_select_strategy="default",
        tie_word_embeddings=True,
    )
    model = LlavaForConditionalGeneration(config)
    for name, value in special_ids(tokenizer).items():
        setattr(model.generation_config, name, value)
    model.generation_config.do_sample = False
    return model


def save(model: LlavaForConditionalGeneration, processor: LlavaProcessor, folder: Path) -> None:
    """Writes both as `from_pretrained` reads them, the weights in float16. `model` itself is converted too."""
    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)  # type: ignore[no-untyped-call]
    processor.save_pretrained(folder)
    for file in folder.iterdir():
        file.chmod(0o644)  # safetensors makes its files readable by their owner alone


def special_ids(tokenizer: PreTrainedTokenizerBase) -> dict[str, Any]:
    """The tokenizer's special ids, for a language tower's config and for generation."""
    return {
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "pad_token_id": tokenizer.pad_token_id,
    }
