"""A chat with one model about an image, with an adapter that can be switched on and off."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rich import box
from rich.table import Table
from rich.text import Text

from vgid_core.cli.loading import load_adapter_with_warning
from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import DataError, EncodedImage, Pair, require_encodable
from vgid_core.models.base import BaseModel, adapter_off
from vgid_core.models.load import load_base
from vgid_core.scoring.padded import generate


@dataclass
class ChatSession:
    """The state of a chat. adapted: the adapter is on. both: answers are given with and without the adapter."""

    base: BaseModel
    max_tokens: int
    has_adapter: bool
    adapted: bool
    both: bool = False
    image: EncodedImage | None = None

    @classmethod
    def load(cls, model: str, adapter: Path | None, config: UnlearnConfig, warn: Callable[[str], None]) -> Self:
        """Loads the model and its adapter, if given, switched on. Raises UnlearnError."""
        base = load_base(model, config)
        if adapter is not None:
            load_adapter_with_warning(base, adapter, warn)
        return cls(base, config.evaluation.max_new_tokens, adapter is not None, adapter is not None)

    @property
    def state(self) -> str:
        """A sentence on who answers."""
        if not self.has_adapter:
            return "there is no adapter: the base answers"
        if self.both:
            return "both answer, without the adapter and with it"
        return f"the adapter is {'on' if self.adapted else 'off'}"

    def answer(self, question: str, adapted: bool | None = None) -> str:
        """The greedy answer about the image. Raises DataError without an image, or for an unusable question."""
        if self.image is None:
            raise DataError("there is none yet: /image FILE, or --image", "image")
        require_encodable(question, "question")
        with_adapter = self.adapted if adapted is None else adapted
        try:
            with nullcontext() if with_adapter else adapter_off(self.base):
                ids = generate(self.base, [Pair(self.image, question, "")], self.max_tokens)
        except DataError as error:
            if error.field.endswith("question"):
                raise DataError("holds one of the model's control tokens", "question") from None
            raise
        # A model's answer can hold control characters of the terminal.
        return "".join(c if c.isprintable() or c == "\n" else " " for c in self.base.encoder.decode(ids)[0])

    def side_by_side(self, questions: Sequence[str]) -> Table:
        """A table of both answers to each question. Raises DataError as `answer` does, and without an adapter."""
        if not self.has_adapter:
            raise DataError("there is none to show both ways: --adapter", "adapter")
        table = Table(box=box.SIMPLE_HEAD)
        for title in ("question", "without the adapter", "with it"):
            table.add_column(title)
        for question in questions:
            table.add_row(Text(question), Text(self.answer(question, False)), Text(self.answer(question, True)))
        return table
