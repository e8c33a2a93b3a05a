"""What is left after unlearning, asked by somebody who wants it back: membership, begun answers, relearning.

Every figure is to be read beside the same figure of a model that never saw the data (the retain-only twin), where there
is one: a model that gives *less* than the twin has been made to flinch, which can be told apart, too.
"""

from __future__ import annotations

import copy
import random
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from peft.tuners.tuners_utils import BaseTunerLayer
from torch import Tensor, nn

from vgid_core.answer_path import AnswerPath
from vgid_core.base_model import BaseModel, attach_adapter
from vgid_core.config import LoraSettings
from vgid_core.data import Pair
from vgid_core.facts import Fact
from vgid_core.losses import token_log_probability
from vgid_core.paths import choose_path
from vgid_core.plain_path import generate
from vgid_core.spread import spread_over

MEMBERSHIP_ATTACKS = ("loss", "zlib", "min_k", "min_k_plus_plus", "grad_norm")
# Of this project's own: a mean over an answer can be right while its parts are not.
OWN_MEMBERSHIP_ATTACKS = ("first_token", "entropy")
ALL_MEMBERSHIP_ATTACKS = (*MEMBERSHIP_ATTACKS, *OWN_MEMBERSHIP_ATTACKS)
_LEAST_LIKELY_SHARE = 0.2  # k of Min-K%
_PAIRS_AT_ONCE = 32
_MOST_PLACES = 4  # within a fact
# An answer may say a fact in other words than the true one. It is heard longer where that is longer.
_TOKENS_OF_AN_ANSWER = 32
_TOKENS_AFTER_A_BEGINNING = 16


def membership_scores(base: BaseModel, path: AnswerPath, pairs: Sequence[Pair]) -> dict[str, list[float]]:
    """For each attack a score a pair: the higher, the more the model seems to have been trained on the pair.

    loss (Yeom et al., arXiv 1709.01604): mean log-probability of the answer's tokens. zlib (Carlini et al.,
    arXiv 2012.07805): its sum over the answer's length in zlib-compressed bytes. min_k (arXiv 2310.16789): mean of the
    least likely 20 %. min_k_plus_plus (arXiv 2404.02936): the same, each token standardised by mean and deviation of
    the log-probabilities that the model expects there. grad_norm: less the norm of the loss's gradient with respect to
    the language tower's normalisation weights, which every family has and which cost no memory to speak of.
    first_token: log-probability of the answer's first token alone. entropy: less the mean entropy of what the model
    would say in each token's place, whatever the token is.
    """
    scores: dict[str, list[float]] = {name: [] for name in ALL_MEMBERSHIP_ATTACKS}
    for start in range(0, len(pairs), _PAIRS_AT_ONCE):
        chunk = pairs[start : start + _PAIRS_AT_ONCE]
        ids = [torch.tensor(path.answer_ids(pair.answer)) for pair in chunk]
        with torch.no_grad():
            logits = path.student_logits(chunk).float()
            told = _token_scores(logits, torch.cat(ids).to(logits.device))
        by_pair = zip(*(torch.split(of_all, [len(row) for row in ids]) for of_all in told), strict=True)
        for pair, (tokens, expected, deviation) in zip(chunk, by_pair, strict=True):
            scores["loss"].append(float(tokens.mean()))
            scores["zlib"].append(float(tokens.sum()) / len(zlib.compress(pair.answer.encode())))
            scores["min_k"].append(_mean_of_least(tokens))
            scores["min_k_plus_plus"].append(_mean_of_least((tokens - expected) / deviation))
            scores["first_token"].append(float(tokens[0]))
            scores["entropy"].append(float(expected.mean()))
    with _norm_weights(base) as weights:
        for pair in pairs:
            scores["grad_norm"].append(-_gradient_norm(path, pair, weights))
    return scores


def auc(members: Sequence[float], others: Sequence[float]) -> float:
    """The chance that a member scores higher than another, ties counting half: 0.5 tells nothing, 1 tells all."""
    left, right = torch.tensor(members)[:, None], torch.tensor(others)[None]
    return float((left > right).float().mean() + 0.5 * (left == right).float().mean())


def membership_aucs(
    base: BaseModel, path: AnswerPath, members: Sequence[Pair], others: Sequence[Pair]
) -> dict[str, float]:
    """AUC of each attack: forgotten pairs against pairs of the same kind that the model was never trained on."""
    inside, outside = membership_scores(base, path, members), membership_scores(base, path, others)
    return {name: auc(inside[name], outside[name]) for name in inside}


def prefill_recovery(base: BaseModel, facts: Sequence[Fact]) -> float:
    """Share of facts that the model completes when the true answer up to the fact is put into its mouth."""
    begun = [base.encoder.answer_ids(fact.begun)[:-1] for fact in facts]  # without the end of turn
    said = _said_after(base, [fact.pair for fact in facts], begun)
    return sum(fact.is_in(text) for fact, text in zip(facts, said, strict=True)) / len(facts)


def inside_recovery(base: BaseModel, facts: Sequence[Fact]) -> float | None:
    """Share of places inside of facts from where on the model says more of them: a word that wasn't whole before.

    Put into its mouth is the true answer up to a token within the fact: "This is Del", and it says "phine" or "Wexler".
    Asked are at most four places of a fact. To be read beside a retain-only twin, which ends many a word by itself.
    None, where no fact has such a place.
    """
    places = [(fact, *place) for fact in facts for place in spread_over(list(_places_inside(base, fact)), _MOST_PLACES)]
    said = _said_after(base, [fact.pair for fact, _, _ in places], [begun for _, begun, _ in places])
    found = [fact.goes_on(told, text) for (fact, _, told), text in zip(places, said, strict=True)]
    return sum(found) / len(found) if found else None


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
        path = choose_path(copied, taught[:2], lora)
        optimizer = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=attack.learning_rate)
        choice = random.Random(attack.seed)
        for _ in range(attack.steps):
            batch = choice.choices(taught, k=attack.batch_size)
            loss = -_answer_tokens(path, batch).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
        said: list[str] = []
        for start in range(0, len(asked), _PAIRS_AT_ONCE):
            chunk = [fact.pair for fact in asked[start : start + _PAIRS_AT_ONCE]]
            longest = max(len(copied.encoder.answer_ids(pair.answer)) for pair in chunk)
            said += copied.encoder.decode(generate(copied, chunk, max(_TOKENS_OF_AN_ANSWER, longest)))
    return sum(fact.is_in(text) for fact, text in zip(asked, said, strict=True)) / len(asked)


def _token_scores(logits: Tensor, ids: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Log-probability of each token, what the model expects there, and by how much that deviates; each [tokens]."""
    log_p = logits.log_softmax(-1)
    p = log_p.exp()
    mean = (p * log_p).sum(-1)
    deviation = ((p * log_p.square()).sum(-1) - mean.square()).clamp(min=1e-12).sqrt()
    likelihood = log_p.gather(-1, ids[:, None])[:, 0]
    return likelihood, mean, deviation


def _mean_of_least(values: Tensor) -> float:
    count = max(1, round(_LEAST_LIKELY_SHARE * len(values)))
    return float(values.topk(count, largest=False).values.mean())


def _answer_tokens(path: AnswerPath, pairs: Sequence[Pair]) -> Tensor:
    """Log-probability of every answer token, with gradients."""
    logits = path.student_logits(pairs)
    ids = torch.tensor([token for pair in pairs for token in path.answer_ids(pair.answer)], device=logits.device)
    return token_log_probability(logits, ids)


def _gradient_norm(path: AnswerPath, pair: Pair, weights: Sequence[nn.Parameter]) -> float:
    gradients = torch.autograd.grad(-_answer_tokens(path, [pair]).mean(), weights)
    return float(nn.utils.get_total_norm(gradients))


@contextmanager
def _norm_weights(base: BaseModel) -> Iterator[list[nn.Parameter]]:
    """Within, the language tower's weights that are vectors take gradients."""
    weights = [p for p in base.model.get_decoder().parameters() if p.ndim == 1 and p.is_floating_point()]
    before = [weight.requires_grad for weight in weights]
    for weight in weights:
        weight.requires_grad_(True)
    try:
        yield weights
    finally:
        for weight, needed in zip(weights, before, strict=True):
            weight.requires_grad_(needed)


def _places_inside(base: BaseModel, fact: Fact) -> Iterator[tuple[list[int], str]]:
    """Beginnings of the answer that end within the fact, with words of it left; in tokens, and what they tell of it."""
    answer, start = fact.pair.answer, fact.pair.answer.index(fact.text)
    ids = base.encoder.answer_ids(answer)[:-1]
    texts = base.encoder.decode([ids[:end] for end in range(1, len(ids))])
    for end, text in enumerate(texts, 1):
        inside = start < len(text) < start + len(fact.text) and answer.startswith(text)
        if inside and fact.untold(text[start:]):
            yield ids[:end], text[start:]


@torch.inference_mode()
def _said_after(base: BaseModel, pairs: Sequence[Pair], begun: Sequence[Sequence[int]]) -> list[str]:
    """What the model goes on with after each pair's begun answer, at least as far as the true answer goes."""
    by_length: dict[int, list[int]] = {}
    for index, ids in enumerate(begun):
        by_length.setdefault(len(ids), []).append(index)
    said = [""] * len(pairs)
    for length, group in by_length.items():
        for start in range(0, len(group), _PAIRS_AT_ONCE):
            chunk = group[start : start + _PAIRS_AT_ONCE]
            longest = max(len(base.encoder.answer_ids(pairs[index].answer)) for index in chunk)
            most = max(_TOKENS_AFTER_A_BEGINNING, longest - length)
            texts = _continued(base, [pairs[index] for index in chunk], [begun[index] for index in chunk], most)
            for index, text in zip(chunk, texts, strict=True):
                said[index] = text
    return said


def _continued(base: BaseModel, pairs: Sequence[Pair], begun: Sequence[Sequence[int]], most_tokens: int) -> list[str]:
    """What the model says after answers that are begun with equally many tokens."""
    batch = base.encoder.batch([p.image.decode() for p in pairs], [p.question for p in pairs], begun)
    inputs = {name: value for name, value in batch.inputs.items() if name != "position_ids"}
    plain: dict[str, Any] = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0}
    output = base.model.generate(**inputs, max_new_tokens=most_tokens, **plain)
    return base.encoder.decode(output[:, inputs["input_ids"].shape[1] :])


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
    return BaseModel(model, base.encoder, base.device, base.dtype, base.digest, version=base.version)
