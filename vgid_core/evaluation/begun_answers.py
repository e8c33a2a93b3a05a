"""Begun answers: what does the model go on with when the true answer's beginning is put into its mouth?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from vgid_core.data.facts import Fact
from vgid_core.data.pairs import Pair
from vgid_core.data.sampling import even_sample
from vgid_core.models.base import BaseModel

_PAIRS_AT_ONCE = 32
_MOST_PLACES = 4  # within a fact
_TOKENS_AFTER_A_BEGINNING = 16


def prefill_recovery(base: BaseModel, facts: Sequence[Fact]) -> float:
    """Share of facts that the model completes when the true answer up to the fact is put into its mouth."""
    begun = [base.encoder.answer_ids(fact.prefix)[:-1] for fact in facts]  # without the end of turn
    said = _said_after(base, [fact.pair for fact in facts], begun)
    return sum(fact.is_in(text) for fact, text in zip(facts, said, strict=True)) / len(facts)


def inside_recovery(base: BaseModel, facts: Sequence[Fact]) -> float | None:
    """Share of places inside of facts from where on the model says more of them: a word that wasn't whole before.

    Put into its mouth is the true answer up to a token within the fact: "This is Del", and it says "phine" or "Wexler".
    Asked are at most four places of a fact. To be read beside a retain-only twin, which ends many a word by itself.
    None, where no fact has such a place.
    """
    places = [(fact, *place) for fact in facts for place in even_sample(list(_places_inside(base, fact)), _MOST_PLACES)]
    said = _said_after(base, [fact.pair for fact, _, _ in places], [begun for _, begun, _ in places])
    found = [fact.is_continued(told, text) for (fact, _, told), text in zip(places, said, strict=True)]
    return sum(found) / len(found) if found else None


def _places_inside(base: BaseModel, fact: Fact) -> Iterator[tuple[list[int], str]]:
    """Beginnings of the answer that end within the fact, with words of it left; in tokens, and what they tell of it."""
    answer, start = fact.pair.answer, fact.pair.answer.index(fact.text)
    ids = base.encoder.answer_ids(answer)[:-1]
    texts = base.encoder.decode([ids[:end] for end in range(1, len(ids))])
    for end, text in enumerate(texts, 1):
        inside = start < len(text) < start + len(fact.text) and answer.startswith(text)
        if inside and fact.missing_words(text[start:]):
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


def _continued(base: BaseModel, pairs: Sequence[Pair], begun: Sequence[Sequence[int]], max_tokens: int) -> list[str]:
    """What the model says after answers that are begun with equally many tokens."""
    batch = base.encoder.batch([p.image.decode() for p in pairs], [p.question for p in pairs], begun)
    inputs = {name: value for name, value in batch.inputs.items() if name != "position_ids"}
    plain: dict[str, Any] = {"do_sample": False, "num_beams": 1, "repetition_penalty": 1.0}
    output = base.model.generate(**inputs, max_new_tokens=max_tokens, **plain)
    return base.encoder.decode(output[:, inputs["input_ids"].shape[1] :])
