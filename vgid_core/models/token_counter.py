"""Measures texts in a model's tokens by its processor alone: no weights are read."""

from __future__ import annotations

from typing import Literal

from vgid_core.data.pairs import DataError, EncodedImage, Pair, PairSet
from vgid_core.models.load_errors import not_loadable
from vgid_core.models.support import supported_encoder


class TokenCounter:
    """Lengths in tokens, and control tokens, as `data.check.TextCounter`.

    source: a folder or hub id. Raises ModelNotLoadable if it has no readable processor, and ModelNotSupported as a run
    would.
    """

    unit: Literal["tokens", "characters"] = "tokens"

    def __init__(self, source: str) -> None:
        try:
            self._encoder = supported_encoder(source, "language")
        except (OSError, ValueError, KeyError) as error:
            raise not_loadable(source, error, "it has no processor that can be read") from error
        self._tokenizer = self._encoder.processor.tokenizer

    @property
    def context_length(self) -> int | None:
        """The model's context length in tokens, image tokens included; None if its config has none."""
        return self._encoder.context_length

    def question_length(self, question: str) -> int:
        """Tokens of the question, without template and image."""
        return len(self._tokenizer(question, add_special_tokens=False)["input_ids"])

    def answer_length(self, answer: str) -> int:
        """Tokens of the answer, without the end of turn."""
        return len(self._encoder.answer_ids(answer)) - 1

    def holds_control_token(self, text: str) -> bool:
        """Whether a run would refuse the text."""
        try:
            self._encoder.require_no_control_tokens(PairSet("text", (Pair(EncodedImage(b""), text, text),)))
        except DataError:
            return True
        return False
