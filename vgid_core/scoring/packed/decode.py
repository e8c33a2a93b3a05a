"""Greedy answers and the expected answers' likelihood in one pass over packed rows.

The expected answer is a draft: where the model's own choice agrees with it token by token, the pass has shown what the
model says, and nothing needs to be generated. Where it departs, its answer goes on from there over the keys and values
that the pass has left. That is speculative decoding's argument (arXiv 2211.17192) with a draft that costs nothing, and
the answers are those of plain greedy generation.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from transformers import DynamicCache

from vgid_core.data.examples import DistillExample
from vgid_core.losses.fused_linear import HEAD_CHUNK
from vgid_core.losses.token_losses import token_log_probability
from vgid_core.scoring.packed.model import Layout, PackedModel, identity
from vgid_core.scoring.scorer import ScoredAnswer

# Packed tokens in one pass: 8 GiB of keys and values at LLaVA-1.5-7B's shapes in bf16.
_TOKENS_AT_ONCE = 16_384


@torch.no_grad()
def score_answers(
    model: PackedModel, examples: Sequence[DistillExample], most_tokens: int, in_step: bool = False
) -> list[ScoredAnswer]:
    """Greedy answers of at most `most_tokens` tokens, and the likelihood of the expected ones, in the given order.

    What doesn't fit the accelerator's memory at once is done in halves. Raises OutOfMemoryError when one is too much,
    or when processes must make the same passes (`in_step`): none of them can begin anew alone.
    """
    found: dict[int, ScoredAnswer] = {}
    waiting = list(_parts(model, examples))
    while waiting:
        part = waiting.pop()
        try:
            results = _score_part(model, [examples[index] for index in part], most_tokens)
        except torch.OutOfMemoryError:
            if len(part) == 1 or in_step:
                raise
            waiting += [part[: len(part) // 2], part[len(part) // 2 :]]
        else:
            found.update(zip(part, results, strict=True))
    return [found[index] for index in range(len(examples))]


@torch.no_grad()
def go_on_by_rote(model: PackedModel, examples: Sequence[DistillExample], steps: int) -> Iterator[Tensor]:
    """The expected answers, fed token by token: logits [answers, vocabulary] after the first token, the second, ...

    At most `steps` times, and no further than the shortest answer goes. What `score_answers` does after a departure,
    where the outcome is known.
    """
    layout, cache = model.lay_out(examples, "student"), DynamicCache()
    model.hidden(layout, cache)
    continuation = Continuation(model, layout, cache, [int(places[0]) for places in layout.predicts])
    drafts = [model.answer_ids(example.pair.answer) for example in examples]
    for index in range(min(steps, min(map(len, drafts)) - 1)):
        yield continuation.step([draft[index] for draft in drafts])


def _parts(model: PackedModel, examples: Sequence[DistillExample]) -> Iterator[list[int]]:
    """Indices of examples, an image's together, as many as may be held at once."""
    groups: dict[int | str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(identity(example.pair.image), []).append(index)
    part: list[int] = []
    used = 0
    for members in groups.values():
        lengths = [model.length(examples[index], "student") for index in members]
        tokens = max(shared for shared, _ in lengths) + sum(own for _, own in lengths)
        if part and used + tokens > _TOKENS_AT_ONCE:
            yield part
            part, used = [], 0
        part += members
        used += tokens
    yield part


def _score_part(model: PackedModel, examples: Sequence[DistillExample], most_tokens: int) -> list[ScoredAnswer]:
    layout, cache = model.lay_out(examples, "student"), DynamicCache()
    hidden = model.hidden(layout, cache)
    drafts = [model.answer_ids(example.pair.answer) for example in examples]
    scores, choices = _judge(model, hidden[torch.cat(layout.predicts).to(hidden.device)], drafts)
    said, last = [], []
    for draft, choice, places in zip(drafts, choices, layout.predicts, strict=True):
        agreed = next((k for k, (own, drafted) in enumerate(zip(choice, draft, strict=True)) if own != drafted), None)
        said.append((draft if agreed is None else [*draft[:agreed], choice[agreed]])[:most_tokens])
        last.append(int(places[-1 if agreed is None else agreed]))
    _go_on(model, layout, cache, said, last, most_tokens)
    return [ScoredAnswer(*pair) for pair in zip(said, scores, strict=True)]


def _judge(model: PackedModel, states: Tensor, drafts: Sequence[list[int]]) -> tuple[list[Tensor], list[list[int]]]:
    """Log-probabilities of the drafts' tokens, and what the model would have said in place of each."""
    targets = torch.tensor([token for draft in drafts for token in draft], device=states.device)
    scores, choices = [], []
    for part, wanted in zip(torch.split(states, HEAD_CHUNK), torch.split(targets, HEAD_CHUNK), strict=True):
        logits = part @ model.head.T
        scores.append(token_log_probability(logits, wanted))
        choices.append(logits.argmax(-1))
    lengths = [len(draft) for draft in drafts]
    by_answer = torch.split(torch.cat(choices).cpu(), lengths)
    return list(torch.split(torch.cat(scores).cpu(), lengths)), [choice.tolist() for choice in by_answer]


def _go_on(
    model: PackedModel, layout: Layout, cache: DynamicCache, said: list[list[int]], last: list[int], most_tokens: int
) -> None:
    """Appends to every answer that hasn't ended until it does. `last` is the place of the last token it builds on."""

    def open_ended(index: int) -> bool:
        return said[index][-1] not in model.end_ids and len(said[index]) < most_tokens

    unended = [index for index in range(len(said)) if open_ended(index)]
    if not unended:
        return
    continuation = Continuation(model, layout, cache, [last[index] for index in unended])
    while any(open_ended(index) for index in unended):
        logits = continuation.step([said[index][-1] for index in unended])
        for index, token in zip(unended, logits.argmax(-1).tolist(), strict=True):
            if open_ended(index):
                said[index].append(token)


class Continuation:
    """Several answers that go on a token at a time over one cache, each seeing its own prefix and itself alone.

    Groups become rows, so that nobody looks past its own. Every row has as many slots as the one with most answers
    needs; a slot that no answer uses sees only itself.
    """

    def __init__(self, model: PackedModel, layout: Layout, cache: DynamicCache, last: Sequence[int]) -> None:
        """`last`: for each answer, the index into the packed row of the last token that it builds on."""
        self._model, self._cache, self._steps = model, cache, 0
        packed = layout.packed
        device = packed.ids.device
        at = torch.tensor(last, device=device)
        groups, self._row = torch.unique(packed.group[at], return_inverse=True)
        places = _places([packed.spans[group] for group in groups.tolist()]).to(device)
        self._slot = _count_within(self._row)
        self._next = packed.positions[:, at] + 1
        self._seen = torch.zeros(
            len(groups), int(self._slot.max()) + 1, places.shape[1], dtype=torch.bool, device=device
        )
        own = places[self._row]
        self._seen[self._row, self._slot] = packed.sees(at[:, None], own.clamp(min=0)) & (own >= 0)
        layers: list[Any] = list(cache.layers)
        for layer in layers:
            layer.keys, layer.values = (_as_rows(kept, places) for kept in (layer.keys, layer.values))

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Adds one token to each answer. Returns the logits of what follows, [answers, vocabulary]."""
        rows, slots, _ = self._seen.shape
        device = self._seen.device
        ids = torch.zeros(rows, slots, dtype=torch.long, device=device)
        ids[self._row, self._slot] = torch.tensor(tokens, device=device)
        positions = torch.zeros(len(self._next), rows, slots, dtype=torch.long, device=device)
        positions[:, self._row, self._slot] = self._next + self._steps
        self._steps += 1
        itself = torch.eye(slots, dtype=torch.bool, device=device).repeat(1, self._steps)
        mask = torch.cat([self._seen, itself.expand(rows, -1, -1)], dim=2)[:, None]
        hidden = self._model.run(ids, positions, mask, cache=self._cache)
        logits: Tensor = hidden[self._row, self._slot] @ self._model.head.T
        return logits


def _places(spans: Sequence[tuple[int, int]]) -> Tensor:
    """The indices of each span as a row, [spans, longest], -1 where there is none."""
    longest = max(stop - start for start, stop in spans)
    rows = torch.full((len(spans), longest), -1)
    for row, (start, stop) in zip(rows, spans, strict=True):
        row[: stop - start] = torch.arange(start, stop)
    return rows


def _count_within(rows: Tensor) -> Tensor:
    """For each entry, how many before it are in the same row."""
    used: dict[int, int] = {}
    counts = []
    for row in rows.tolist():
        counts.append(used.get(row, 0))
        used[row] = counts[-1] + 1
    return torch.tensor(counts, device=rows.device)


def _as_rows(kept: Tensor, places: Tensor) -> Tensor:
    """Keys or values [1, heads, length, width] as [rows, heads, longest, width]."""
    return kept[0][:, places.clamp(min=0)].transpose(0, 1).contiguous()
