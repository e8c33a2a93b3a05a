"""Relearning attack: fine-tunes the model on some of the facts, and tests whether the others come back."""

from __future__ import annotations

import copy
import random
import warnings
from collections.abc import Sequence
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from vgid_core.config import LoraSettings
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import Pair
from vgid_core.data.text_normalization import normalized
from vgid_core.evaluation.figures import NotMeasured
from vgid_core.lora.attach import attach_adapter
from vgid_core.models import distributed
from vgid_core.models.base import BaseModel
from vgid_core.scoring.choose import choose_scorer
from vgid_core.scoring.padded import generate

# The attacker's fine-tuning; a plan says how many steps it has.
_RANK = 4
_LEARNING_RATE = 1e-3
_PAIRS_A_STEP = 8

_ASKED_AT_ONCE = 32
# An answer can put the fact in other words than the true answer, so it may be longer.
_MIN_NEW_TOKENS = 32


def relearned(base: BaseModel, taught: Sequence[Pair], asked: Sequence[Fact], steps: int, seed: int) -> list[bool]:
    """Of each fact, whether the model gives it after `fine_tuned` on `taught`, whose answers should hold none of it."""
    return facts_given(fine_tuned(base, taught, steps, seed), asked)


def fine_tuned(base: BaseModel, taught: Sequence[Pair], steps: int, seed: int) -> BaseModel:
    """A copy of the model after an attacker's training: a fresh LoRA on the merged weights, AdamW at a constant rate.

    `base` stays unchanged, and so does the caller's random state.
    """
    devices = [base.device] if base.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        copied = merged_copy(base)
        lora = LoraSettings(rank=_RANK, alpha=_RANK)
        student = attach_adapter(copied, lora).eval()
        scorer = choose_scorer(copied, taught[:2], lora)
        optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=_LEARNING_RATE)
        rng = random.Random(seed)
        for _ in range(steps):
            batch = rng.choices(taught, k=_PAIRS_A_STEP)
            loss = -scorer.student_log_probability(batch).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
    return copied


def facts_given(base: BaseModel, facts: Sequence[Fact]) -> list[bool]:
    """Of each fact, whether the model's greedy answer to its question holds it."""
    answers: list[str] = []
    for start in range(0, len(facts), _ASKED_AT_ONCE):
        chunk = [fact.pair for fact in facts[start : start + _ASKED_AT_ONCE]]
        longest = max(len(base.encoder.answer_ids(pair.answer)) for pair in chunk)
        answers += base.encoder.decode(generate(base, chunk, max(_MIN_NEW_TOKENS, longest)))
    return [fact.is_in(text) for fact, text in zip(facts, answers, strict=True)]


def split_facts(facts: Sequence[Fact]) -> tuple[list[Pair], list[Fact]]:
    """Splits facts for a relearning attack: pairs to train on, and held-out facts that none of their answers holds.

    Distinct facts alternate between the halves in order of appearance. A held-out fact that a taught answer holds is
    dropped.
    """
    distinct = list(dict.fromkeys(fact.text for fact in facts))
    taught_facts = set(distinct[::2])
    taught = [fact.pair for fact in facts if fact.text in taught_facts]
    taught_answers = {normalized(pair.answer) for pair in taught}
    others = [fact for fact in facts if fact.text not in taught_facts]
    held_out = {text for text in distinct[1::2] if not any(normalized(text) in answer for answer in taught_answers)}
    return taught, [fact for fact in others if fact.text in held_out]


def merged_copy(base: BaseModel) -> BaseModel:
    """A copy of the model with its adapter merged into the weights; 4-bit ones are rounded again, as in serving.

    Raises NotMeasured in all processes if there is no room for a copy in one of them, or if each holds a shard.
    """
    if base.sharded:
        raise NotMeasured("each process holds a part of the model, of which there is no copy to train or to round")
    model = _copied(base)
    if distributed.all_gather(model is None).count(True):
        raise NotMeasured("the device has no room for a copy of the model")
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Merge lora module to", category=UserWarning)
        for name, module in list(model.named_modules()):
            if isinstance(module, BaseTunerLayer):
                module.merge()
                model.set_submodule(name, module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
    model.requires_grad_(False)
    return BaseModel(model, base.encoder, base.device, base.dtype, base.digest, file_stats=base.file_stats)


def _copied(base: BaseModel) -> Any:
    """None without room."""
    try:
        return copy.deepcopy(base.model)
    except torch.OutOfMemoryError:
        return None
