"""A tiny stand-in for the pretrained language tower, and a small world and recipe to train it with."""

from __future__ import annotations

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from local.demo.training.loop import Recipe
from local.demo.training.pretrained import smollm2
from local.demo.training.pretrained.smollm2 import (
    LanguageTower,
    language_tower,
)
from local.demo.world import Census

TWENTY = Census(people=20, training_views=25, least_differences=4, general=True, unseen_faces=4, passers_by=40)

RECIPE = Recipe(
    steps=4, batch=8, micro_batch=3, learning_rate=1e-3, projector_rate=5e-3, rise=0.3, half=True, compiled=False
)

# torch's compiler warns about its own code.
COMPILES = pytest.mark.filterwarnings("ignore")


def stand_in() -> LanguageTower:
    """A Llama with random weights and SmolLM2's chat format, whose tokens are single bytes."""
    special = [smollm2.PAD, smollm2.START, smollm2.END]
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    core = Tokenizer(models.BPE({token: number for number, token in enumerate([*special, *letters])}, []))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens(special)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=core, bos_token=smollm2.START, unk_token=smollm2.PAD)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
    )
    return language_tower("stand-in", LlamaForCausalLM(config), tokenizer)
