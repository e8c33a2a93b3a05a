"""Prefill attacks: the model continues the beginning of the true answer."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from vgid_core.data.facts import Fact
from vgid_core.data.pairs import Pair
from vgid_core.data.sampling import even_sample
from vgid_core.models.base import BaseModel

_BATCH_SIZE = 32
_MAX_CUTS = 4  # within a fact
_MIN_NEW_TOKENS = 16


def prefilled_up_to_fact(base: BaseModel, facts: Sequence[Fact]) -> list[bool]:
    """Of each fact, whether the model gives it after the true answer up to the fact."""
    prefills = [base.encoder.answer_ids(fact.prefix)[:-1] for fact in facts]  # without the end of turn
    continuations = _continue_answers(base, [fact.pair for fact in facts], prefills)
    return [fact.is_in(text) for fact, text in zip(facts, continuations, strict=True)]


def prefilled_inside_fact(base: BaseModel, facts: Sequence[Fact]) -> list[tuple[Fact, bool]]:
    """Of each cut within a fact, whether the model adds a word of the fact after it, with the fact.

    The prefill is the true answer up to a token within the fact: after "This is Del" the model adds "phine" or
    "Wexler". At most _MAX_CUTS cuts of a fact are tried. Compare with a reference model, which completes many words by
    itself. Empty if no fact can be cut.
    """
    cuts = [(fact, *cut) for fact in facts for cut in even_sample(list(_cuts(base, fact)), _MAX_CUTS)]
    continuations = _continue_answers(base, [fact.pair for fact, _, _ in cuts], [ids for _, ids, _ in cuts])
    return [
        (fact, fact.is_continued(prefilled, text))
        for (fact, _, prefilled), text in zip(cuts, continuations, strict=True)
    ]


def _cuts(base: BaseModel, fact: Fact) -> Iterator[tuple[list[int], str]]:
    """The answer's token prefixes that end within the fact with words left, each with the part of the fact it holds."""
    answer, start = fact.pair.answer, fact.pair.answer.index(fact.text)
    ids = base.encoder.answer_ids(answer)[:-1]
    texts = base.encoder.decode([ids[:end] for end in range(1, len(ids))])
    for end, text in enumerate(texts, 1):
        inside = start < len(text) < start + len(fact.text) and answer.startswith(text)
        if inside and fact.missing_words(text[start:]):
            yield ids[:end], text[start:]


@torch.no_grad()  # not inference_mode: see `generate`
def _continue_answers(base: BaseModel, pairs: Sequence[Pair], prefills: Sequence[Sequence[int]]) -> list[str]:
    """The model's greedy continuation of each prefill, at least as long as the rest of the true answer."""
    by_length: dict[int, list[int]] = {}
    for index, ids in enumerate(prefills):
        by_length.setdefault(len(ids), []).append(index)
    continuations = [""] * len(pairs)
    for length, group in by_length.items():
        for start in range(0, len(group), _BATCH_SIZE):
            chunk = group[start : start + _BATCH_SIZE]
            longest = max(len(base.encoder.answer_ids(pairs[index].answer)) for index in chunk)
            max_tokens = max(_MIN_NEW_TOKENS, longest - length)
            texts = _continue_batch(
                base, [pairs[index] for index in chunk], [prefills[index] for index in chunk], max_tokens
            )
            for index, text in zip(chunk, texts, strict=True):
                continuations[index] = text
    return continuations


def _continue_batch(
    base: BaseModel, pairs: Sequence[Pair], prefills: Sequence[Sequence[int]], max_tokens: int
) -> list[str]:
    """The continuations of prefills of equal length."""
    batch = base.encoder.batch([p.image.decode() for p in pairs], [p.question for p in pairs], prefills)
    inputs = {name: value for name, value in batch.inputs.items() if name != "position_ids"}
    greedy: dict[str, Any] = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0}
    output = base.model.generate(**inputs, max_new_tokens=max_tokens, **greedy)
    return base.encoder.decode(output[:, inputs["input_ids"].shape[1] :])
