"""Relearning: does fine-tuning on half of the facts bring the others back?"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from peft.tuners.tuners_utils import BaseTunerLayer

from vgid_core.config import LoraSettings
from vgid_core.data.facts import Fact
from vgid_core.data.pairs import Pair
from vgid_core.data.text_normalization import normalized
from vgid_core.lora.attach import attach_adapter
from vgid_core.models.base import BaseModel
from vgid_core.scoring.choose import choose_scorer
from vgid_core.scoring.padded import generate

_PAIRS_AT_ONCE = 32
# An answer may say a fact in other words than the true one. It is heard longer where that is longer.
_TOKENS_OF_AN_ANSWER = 32


@dataclass(frozen=True)
class Relearning:
    """An attacker's fine-tuning: so many steps of so many pairs, by a fresh LoRA at a constant learning rate."""

    steps: int = 20
    batch_size: int = 8
    learning_rate: float = 1e-3
    seed: int = 0
    rank: int = 4


def relearned(base: BaseModel, taught: Sequence[Pair], asked: Sequence[Fact], attack: Relearning) -> float:
    """Share of the `asked` facts that come back when the model is fine-tuned on `taught`, which holds none of them.

    Works on a merged copy in memory; `base` stays as it is.
    """
    devices = [base.device] if base.device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(attack.seed)
        copied = _merged_copy(base)
        lora = LoraSettings(rank=attack.rank, alpha=attack.rank)
        student = attach_adapter(copied, lora).eval()
        scorer = choose_scorer(copied, taught[:2], lora)
        optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=attack.learning_rate)
        choice = random.Random(attack.seed)
        for _ in range(attack.steps):
            batch = choice.choices(taught, k=attack.batch_size)
            loss = -scorer.student_log_probability(batch).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        said: list[str] = []
        for start in range(0, len(asked), _PAIRS_AT_ONCE):
            chunk = [fact.pair for fact in asked[start : start + _PAIRS_AT_ONCE]]
            longest = max(len(copied.encoder.answer_ids(pair.answer)) for pair in chunk)
            said += copied.encoder.decode(generate(copied, chunk, max(_TOKENS_OF_AN_ANSWER, longest)))
    return sum(fact.is_in(text) for fact, text in zip(asked, said, strict=True)) / len(asked)


def taught_and_asked(facts: Sequence[Fact]) -> tuple[list[Pair], list[Fact]]:
    """Two halves for a relearning attack: pairs to be taught again, and facts that none of their answers holds.

    Distinct facts take turns in the order in which they first come; one that a taught answer holds is asked by nobody.
    """
    distinct = list(dict.fromkeys(fact.text for fact in facts))
    taught_facts = set(distinct[::2])
    taught = [fact.pair for fact in facts if fact.text in taught_facts]
    told = {normalized(pair.answer) for pair in taught}
    others = [fact for fact in facts if fact.text not in taught_facts]
    open_facts = {text for text in distinct[1::2] if not any(normalized(text) in answer for answer in told)}
    return taught, [fact for fact in others if fact.text in open_facts]


def _merged_copy(base: BaseModel) -> BaseModel:
    """The same model with its adapter made part of its weights."""
    model = copy.deepcopy(base.model)
    for name, module in list(model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            module.merge()
            model.set_submodule(name, module.get_base_layer())
    if hasattr(model, "peft_config"):
        del model.peft_config
    model.requires_grad_(False)
    return BaseModel(model, base.encoder, base.device, base.dtype, base.digest, file_stats=base.file_stats)
