"""How a model sees the texts of a set, from its processor alone: no weights are read."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from transformers import AutoProcessor

from vgid_core.data import DataError, EncodedImage, Pair, PairSet
from vgid_core.encoding import PromptEncoder
from vgid_core.errors import ModelNotLoadable, ModelNotSupported


class ModelTexts:
    """Lengths in tokens, and the control tokens that a run would refuse.

    Raises ModelNotLoadable without a processor at `source` (a local folder or hub id), ModelNotSupported when it takes
    no image.
    """

    unit: Literal["tokens", "characters"] = "tokens"

    def __init__(self, source: str) -> None:
        try:
            processor: Any = AutoProcessor.from_pretrained(source)  # type: ignore[no-untyped-call]
        except (OSError, ValueError, KeyError) as error:
            raise ModelNotLoadable(f"'{Path(source).name}' has no processor that can be loaded") from error
        if getattr(processor, "tokenizer", None) is None or getattr(processor, "image_processor", None) is None:
            raise ModelNotSupported("the processor lacks a tokenizer or an image processor")
        self._encoder = PromptEncoder(processor, [], torch.device("cpu"), pass_positions=False)
        self._tokenizer = processor.tokenizer

    def question_length(self, question: str) -> int:
        """Tokens of the question alone, without template and image."""
        return len(self._tokenizer(question, add_special_tokens=False)["input_ids"])

    def answer_length(self, answer: str) -> int:
        """Tokens of the answer, without its end of turn."""
        return len(self._encoder.answer_ids(answer)) - 1

    def holds_control_token(self, text: str) -> bool:
        """Whether a run would refuse the text."""
        try:
            self._encoder.require_plain_text(PairSet("text", (Pair(EncodedImage(b""), text, text),)))
        except DataError:
            return True
        return False
