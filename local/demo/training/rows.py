"""Encodes training examples as token ids, in the form of a model's chat template."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor
from transformers import PreTrainedTokenizerBase

from local.demo.training.architecture import IMAGE, IMAGE_TOKENS, ChatFormat, token_id
from local.demo.training.examples import Example

IGNORED = -100
_LENGTH_STEP = 8  # a batch's length is rounded up to a multiple of this, so that few shapes occur


@dataclass(frozen=True)
class Row:
    """The tokens of one example: the prompt with the image's placeholders, and the answer with its end token."""

    prompt: list[int]
    reply: list[int]

    def __len__(self) -> int:
        return len(self.prompt) + len(self.reply)


@dataclass(frozen=True)
class Batch:
    """Several rows. tokens: [n, length], padded on the right. labels: answer tokens, IGNORED elsewhere.

    image: the column at which the image's placeholders begin.
    """

    tokens: Tensor
    labels: Tensor
    image: int

    def to(self, device: torch.device) -> Batch:
        """The batch on `device`."""
        return Batch(self.tokens.to(device), self.labels.to(device), self.image)


class RowEncoder:
    """Encodes examples as rows, and rows as batches."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, chat_format: ChatFormat) -> None:
        def ids(text: str) -> list[int]:
            found: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
            return found

        self._words = cache(ids)
        self._chat_format = chat_format
        self._before_image = ids(chat_format.before_image)
        self._start = self._before_image + [token_id(tokenizer, IMAGE)] * IMAGE_TOKENS
        self._end, self._pad = token_id(tokenizer, chat_format.end), token_id(tokenizer, chat_format.pad)

    def row(self, example: Example) -> Row:
        """Encodes one example."""
        asked = f"{self._chat_format.after_image}{example.question}{self._chat_format.before_answer}"
        return Row([*self._start, *self._words(asked)], [*self._words(example.answer), self._end])

    def batch(self, rows: Sequence[Row]) -> Batch:
        """Pads rows to one length."""
        length = round_up(max(map(len, rows)), _LENGTH_STEP)
        tokens = torch.full((len(rows), length), self._pad)
        labels = torch.full((len(rows), length), IGNORED)
        for place, row in enumerate(rows):
            tokens[place, : len(row)] = torch.tensor(row.prompt + row.reply)
            labels[place, len(row.prompt) : len(row)] = torch.tensor(row.reply)
        return Batch(tokens, labels, len(self._before_image))


def round_up(count: int, step: int) -> int:
    """The least multiple of `step` that isn't less than `count`."""
    return -(-count // step) * step
