"""Training examples as token ids, in the order of a model's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from local.demo.training.architecture import IMAGE, IMAGE_TOKENS, Dialogue, token_id
from local.demo.training.examples import Example

IGNORED = -100
_LENGTH = 8  # rows are as long as a multiple of this, so that few shapes occur


@dataclass(frozen=True)
class Row:
    """The tokens of one example: its prompt, the image's placeholders among them, and its answer to the end of turn."""

    prompt: list[int]
    reply: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.reply)


@dataclass(frozen=True)
class Batch:
    """tokens: [n, length], padded on the right. labels: answer tokens, IGNORED elsewhere. image: where it begins."""

    tokens: Tensor
    labels: Tensor
    image: int

    def to(self, device: torch.device) -> Batch:
        """The same on `device`."""
        return Batch(self.tokens.to(device), self.labels.to(device), self.image)


class RowEncoder:
    """Examples as rows, and rows as batches."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, dialogue: Dialogue) -> None:
        def ids(text: str) -> list[int]:
            found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
            return found

        self._words = cache(ids)
        self._dialogue = dialogue
        self._before_image = ids(dialogue.before_image)
        self._start = self._before_image + [token_id(tokenizer, IMAGE)] * IMAGE_TOKENS
        self._end, self._pad = token_id(tokenizer, dialogue.end), token_id(tokenizer, dialogue.pad)

    def row(self, example: Example) -> Row:
        """One example."""
        asked = f"{self._dialogue.after_image}{example.question}{self._dialogue.before_answer}"
        return Row([*self._start, *self._words(asked)], [*self._words(example.answer), self._end])

    def batch(self, rows: Sequence[Row]) -> Batch:
        """Rows side by side."""
        length = rounded_up(max(map(len, rows)), _LENGTH)
        tokens = torch.full((len(rows), length), self._pad)
        labels = torch.full((len(rows), length), IGNORED)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = torch.tensor(row.prompt + row.reply)
            labels[place, len(row.prompt) : len(row)] = torch.tensor(row.reply)
        return Batch(tokens, labels, len(self._before_image))


def rounded_up(count: int, step: int) -> int:
    """The least multiple of `step` that isn't less."""
    return -(-count // step) * step
