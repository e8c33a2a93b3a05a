"""Makes a model of LLaVA-1.5-7B's shapes with random weights, and pairs of fixed token counts, without a download."""

from __future__ import annotations

import io
import random
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import nn
from transformers import (
    CLIPImageProcessor,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaProcessor,
    PreTrainedTokenizerFast,
)

from vgid_core import EncodedImage, Pair
from vgid_core.models.base import BaseModel
from vgid_core.models.encoding import PromptEncoder
from vgid_core.models.four_bit import keep_differentiable

# Counts of words, of which each is a token. The template adds two tokens to a question, the end adds one to an answer.
QUESTION, ANSWER, INSTRUCTION = 18, 35, 40
SPECIAL = ["<pad>", "<s>", "</s>", "<image>", "USER:", "ASSISTANT:"]
TEMPLATE = (
    "<s> w1 w2 w3 {% for m in messages %}{{ 'USER:' if m['role'] == 'user' else 'ASSISTANT:' }} "
    "{% for c in m['content'] %}{% if c['type'] == 'image' %}<image> {% else %}{{ c['text'] }} {% endif %}{% endfor %}"
    "{% if m['role'] == 'assistant' %}</s>{% endif %}{% endfor %}{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)


@dataclass(frozen=True)
class Shapes:
    """The sizes of the two towers. The defaults are LLaVA-1.5-7B's."""

    vocabulary: int = 32064
    hidden: int = 4096
    intermediate: int = 11008
    layers: int = 32
    heads: int = 32
    vision_hidden: int = 1024
    vision_intermediate: int = 4096
    vision_layers: int = 24
    vision_heads: int = 16
    image: int = 336
    patch: int = 14

    @property
    def image_tokens(self) -> int:
        """How many tokens an image becomes."""
        return (self.image // self.patch) ** 2

    @property
    def language_weights(self) -> int:
        """How many weights the language tower's linear layers have."""
        return self.layers * (4 * self.hidden**2 + 3 * self.hidden * self.intermediate)


TINY = Shapes(512, 64, 128, 5, 4, 64, 128, 3, 4, 28, 14)


def build_model(shapes: Shapes, device: torch.device, dtype: torch.dtype) -> LlavaForConditionalGeneration:
    """Makes the model on `device` in evaluation mode, with random weights of seed 0."""
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(
            hidden_size=shapes.vision_hidden,
            intermediate_size=shapes.vision_intermediate,
            num_hidden_layers=shapes.vision_layers,
            num_attention_heads=shapes.vision_heads,
            image_size=shapes.image,
            patch_size=shapes.patch,
        ),
        text_config=LlamaConfig(
            vocab_size=shapes.vocabulary,
            hidden_size=shapes.hidden,
            intermediate_size=shapes.intermediate,
            num_hidden_layers=shapes.layers,
            num_attention_heads=shapes.heads,
            num_key_value_heads=shapes.heads,
            max_position_embeddings=4096,
        ),
        image_token_index=SPECIAL.index("<image>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
        image_seq_length=shapes.image_tokens,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with device:
            model = LlavaForConditionalGeneration(config)
    finally:
        torch.set_default_dtype(before)
    model.generation_config.eos_token_id = SPECIAL.index("</s>")
    model.generation_config.pad_token_id = SPECIAL.index("<pad>")
    model.train(False).requires_grad_(False)
    return model


def build_processor(shapes: Shapes) -> LlavaProcessor:
    """Makes a processor for which each word is a token. It resizes images as CLIP does."""
    words = {token: number for number, token in enumerate(SPECIAL)}
    words |= {f"w{number}": number for number in range(len(SPECIAL), shapes.vocabulary)}
    core = Tokenizer(models.WordLevel(words, unk_token="<pad>"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=core,
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
        additional_special_tokens=["<image>", "USER:", "ASSISTANT:"],
        padding_side="left",
    )
    size = {"height": shapes.image, "width": shapes.image}
    images = CLIPImageProcessor(size=size, crop_size=size, do_center_crop=False)
    return LlavaProcessor(  # type: ignore[no-untyped-call]
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=shapes.patch,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=TEMPLATE,
        image_token="<image>",
    )


def build_base(shapes: Shapes, device: torch.device, dtype: torch.dtype) -> BaseModel:
    """Makes what `load_base` returns, with random weights."""
    model = build_model(shapes, device, dtype)
    encoder = PromptEncoder(build_processor(shapes), model, device, dtype)
    return BaseModel(model, encoder, device, dtype, "random")


def quantize_to_nf4(base: BaseModel) -> None:
    """Quantizes the language tower's linear layers to 4 bits, as `load_base` does for `base_weights: nf4`."""
    from bitsandbytes.nn.modules import Linear4bit, Params4bit

    for parent in list(base.model.get_decoder().modules()):
        for name, linear in list(parent.named_children()):
            if type(linear) is nn.Linear:
                small = Linear4bit(  # type: ignore[no-untyped-call]
                    linear.in_features, linear.out_features, bias=False, compute_dtype=base.dtype, quant_type="nf4"
                )
                small.weight = Params4bit(linear.weight.data.cpu(), requires_grad=False, quant_type="nf4")
                setattr(parent, name, small.to(base.device))
    keep_differentiable(base.model)


def words(count: int, rng: random.Random, vocabulary: int) -> str:
    """`count` random words, each of which is one token."""
    return " ".join(f"w{rng.randrange(100, vocabulary)}" for _ in range(count))


def make_pairs(images: int, questions: int, shapes: Shapes, seed: int = 0) -> list[Pair]:
    """Makes `questions` pairs on each of `images` photos, all with the same counts of tokens."""
    rng = random.Random(seed)
    pairs = []
    for number in range(images):
        pixels = np.random.default_rng(seed * 10_000 + number).integers(0, 256, (48, 48, 3), dtype=np.uint8)
        stream = io.BytesIO()
        picture = Image.fromarray(pixels).resize((shapes.image, shapes.image))
        picture.save(stream, format="JPEG")
        photo = EncodedImage(stream.getvalue())
        for _ in range(questions):
            question, answer = words(QUESTION, rng, shapes.vocabulary), words(ANSWER, rng, shapes.vocabulary)
            pairs.append(Pair(photo, question, answer))
    return pairs
