"""Greedy answers and the likelihood of the expected answers in one pass over packed rows.

Why: an evaluation needs both. How: the expected answer serves as the draft of speculative decoding (arXiv 2211.17192).
One pass scores it and yields the model's greedy choice at each token. If all choices agree with the draft, the draft is
the greedy answer. Else the answer continues token by token after the first disagreement, over the keys and values of
that pass. The answers are those of plain greedy generation.
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
from vgid_core.scoring.packed.model import Layout, PackedModel, image_key
from vgid_core.scoring.scorer import ScoredAnswer

# Packed tokens of one pass: 8 GiB of keys and values at LLaVA-1.5-7B's shapes in bf16.
MAX_PASS_TOKENS = 16_384


@torch.no_grad()
def score_answers(
    model: PackedModel, examples: Sequence[DistillExample], max_tokens: int, lockstep: bool = False
) -> list[ScoredAnswer]:
    """Greedy answers of at most `max_tokens` tokens and the likelihood of the expected answers, in the given order.

    Halves a pass that exceeds the accelerator's memory. Raises OutOfMemoryError if one example exceeds it; also for any
    pass with `lockstep`, in which processes share a base and none can retry alone.
    """
    found: dict[int, ScoredAnswer] = {}
    pending = list(_batches(model, examples))
    while pending:
        batch = pending.pop()
        try:
            results = _score_batch(model, [examples[index] for index in batch], max_tokens)
        except torch.OutOfMemoryError:
            if len(batch) == 1 or lockstep:
                raise
            pending += [batch[: len(batch) // 2], batch[len(batch) // 2 :]]
        else:
            found.update(zip(batch, results, strict=True))
    return [found[index] for index in range(len(examples))]


@torch.no_grad()
def decode_teacher_forced(model: PackedModel, examples: Sequence[DistillExample], steps: int) -> Iterator[Tensor]:
    """Feeds the expected answers token by token; yields the logits [answers, vocabulary] after each token.

    Stops after `steps` tokens, or at the end of the shortest answer. It takes the path of `score_answers` after a
    disagreement, with known results.
    """
    layout, cache = model.lay_out(examples, "student"), DynamicCache()
    model.hidden(layout, cache)
    continuation = Continuation(model, layout, cache, [int(indices[0]) for indices in layout.predicts])
    drafts = [model.answer_ids(example.pair.answer) for example in examples]
    for index in range(min(steps, min(map(len, drafts)) - 1)):
        yield continuation.step([draft[index] for draft in drafts])


def _batches(model: PackedModel, examples: Sequence[DistillExample]) -> Iterator[list[int]]:
    """Indices of examples in batches of at most MAX_PASS_TOKENS tokens, those on one image together."""
    groups: dict[int | str, list[int]] = {}
    for index, example in enumerate(examples):
        groups.setdefault(image_key(example.pair.image), []).append(index)
    batch: list[int] = []
    used = 0
    for members in groups.values():
        lengths = [model.length(examples[index], "student") for index in members]
        tokens = max(shared for shared, _ in lengths) + sum(own for _, own in lengths)
        if batch and used + tokens > MAX_PASS_TOKENS:
            yield batch
            batch, used = [], 0
        batch += members
        used += tokens
    yield batch


def _score_batch(model: PackedModel, examples: Sequence[DistillExample], max_tokens: int) -> list[ScoredAnswer]:
    layout, cache = model.lay_out(examples, "student"), DynamicCache()
    hidden = model.hidden(layout, cache)
    drafts = [model.answer_ids(example.pair.answer) for example in examples]
    scores, choices = _verify_drafts(model, hidden[torch.cat(layout.predicts).to(hidden.device)], drafts)
    answers, last = [], []
    for draft, choice, indices in zip(drafts, choices, layout.predicts, strict=True):
        accepted = next((k for k, (own, drafted) in enumerate(zip(choice, draft, strict=True)) if own != drafted), None)
        answers.append((draft if accepted is None else [*draft[:accepted], choice[accepted]])[:max_tokens])
        last.append(int(indices[-1 if accepted is None else accepted]))
    _finish_answers(model, layout, cache, answers, last, max_tokens)
    return [ScoredAnswer(*pair) for pair in zip(answers, scores, strict=True)]


def _verify_drafts(
    model: PackedModel, states: Tensor, drafts: Sequence[list[int]]
) -> tuple[list[Tensor], list[list[int]]]:
    """For each draft, the log-probabilities of its tokens and the model's greedy choice in place of each."""
    targets = torch.tensor([token for draft in drafts for token in draft], device=states.device)
    scores, choices = [], []
    for chunk, ids in zip(torch.split(states, HEAD_CHUNK), torch.split(targets, HEAD_CHUNK), strict=True):
        logits = chunk @ model.head.T
        scores.append(token_log_probability(logits, ids))
        choices.append(logits.argmax(-1))
    lengths = [len(draft) for draft in drafts]
    by_answer = torch.split(torch.cat(choices).cpu(), lengths)
    return list(torch.split(torch.cat(scores).cpu(), lengths)), [choice.tolist() for choice in by_answer]


def _finish_answers(
    model: PackedModel, layout: Layout, cache: DynamicCache, answers: list[list[int]], last: list[int], max_tokens: int
) -> None:
    """Extends each unfinished answer, in place, to its end of turn or to `max_tokens`.

    last: for each answer, the index into the row of the last token before the ones to generate.
    """

    def unfinished(index: int) -> bool:
        return answers[index][-1] not in model.end_ids and len(answers[index]) < max_tokens

    open_answers = [index for index in range(len(answers)) if unfinished(index)]
    if not open_answers:
        return
    continuation = Continuation(model, layout, cache, [last[index] for index in open_answers])
    while any(unfinished(index) for index in open_answers):
        logits = continuation.step([answers[index][-1] for index in open_answers])
        for index, token in zip(open_answers, logits.argmax(-1).tolist(), strict=True):
            if unfinished(index):
                answers[index].append(token)


class Continuation:
    """Decodes several answers of a packed row token by token over its cache.

    Each group becomes a row of a batch, so no answer attends across groups. A row has one slot for each answer that it
    continues; rows with fewer answers than the others have unused slots, which attend to themselves alone.
    """

    def __init__(self, model: PackedModel, layout: Layout, cache: DynamicCache, last: Sequence[int]) -> None:
        """last: for each answer, the index into the packed row of the last token that it continues."""
        self._model, self._cache, self._steps = model, cache, 0
        packed = layout.packed
        device = packed.ids.device
        at = torch.tensor(last, device=device)
        groups, self._row = torch.unique(packed.group[at], return_inverse=True)
        indices = _span_indices([packed.spans[group] for group in groups.tolist()]).to(device)
        self._slot = _running_count(self._row)
        self._next_positions = packed.positions[:, at] + 1
        # [rows, slots, longest group]: the tokens of the group that each slot attends to.
        self._attends = torch.zeros(
            len(groups), int(self._slot.max()) + 1, indices.shape[1], dtype=torch.bool, device=device
        )
        own = indices[self._row]
        self._attends[self._row, self._slot] = packed.attends(at[:, None], own.clamp(min=0)) & (own >= 0)
        layers: list[Any] = list(cache.layers)
        for layer in layers:
            layer.keys, layer.values = (_gather_rows(cached, indices) for cached in (layer.keys, layer.values))

    def step(self, tokens: Sequence[int]) -> Tensor:
        """Appends one token to each answer. Returns the next token's logits, [answers, vocabulary]."""
        rows, slots, _ = self._attends.shape
        device = self._attends.device
        ids = torch.zeros(rows, slots, dtype=torch.long, device=device)
        ids[self._row, self._slot] = torch.tensor(tokens, device=device)
        positions = torch.zeros(len(self._next_positions), rows, slots, dtype=torch.long, device=device)
        positions[:, self._row, self._slot] = self._next_positions + self._steps
        self._steps += 1
        own_tokens = torch.eye(slots, dtype=torch.bool, device=device).repeat(1, self._steps)
        mask = torch.cat([self._attends, own_tokens.expand(rows, -1, -1)], dim=2)[:, None]
        hidden = self._model.run(ids, positions, mask, cache=self._cache)
        logits: Tensor = hidden[self._row, self._slot] @ self._model.head.T
        return logits


def _span_indices(spans: Sequence[tuple[int, int]]) -> Tensor:
    """The indices of each span as a row, padded with -1: [spans, longest]."""
    longest = max(stop - start for start, stop in spans)
    rows = torch.full((len(spans), longest), -1)
    for row, (start, stop) in zip(rows, spans, strict=True):
        row[: stop - start] = torch.arange(start, stop)
    return rows


def _running_count(rows: Tensor) -> Tensor:
    """For each entry, the number of equal entries before it."""
    used: dict[int, int] = {}
    counts = []
    for row in rows.tolist():
        counts.append(used.get(row, 0))
        used[row] = counts[-1] + 1
    return torch.tensor(counts, device=rows.device)


def _gather_rows(cached: Tensor, indices: Tensor) -> Tensor:
    """Gathers keys or values [1, heads, length, width] into [rows, heads, longest, width]."""
    return cached[0][:, indices.clamp(min=0)].transpose(0, 1).contiguous()
