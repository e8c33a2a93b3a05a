"""What a model's texts may not hold, and how long they may be, from its files alone: neither weights nor torch."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from tokenizers import Tokenizer

_TOKENIZER = "tokenizer.json"
# Files that name control tokens beside the tokenizer's own list.
_NAMING_FILES = ("tokenizer_config.json", "special_tokens_map.json", "processor_config.json")


@dataclass
class TextLimits:
    """One model's, as a `check.TextCounter`.

    context: its context length in tokens, image tokens included; None if its config has none.
    """

    control: frozenset[str]
    context: int | None
    tokenizer: Tokenizer
    unit: Literal["tokens", "characters"] = "tokens"

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Reads a model's folder. None if it has no fast tokenizer's file: then only a run can tell."""
        file = folder / _TOKENIZER
        if not file.is_file():
            return None
        added = json.loads(file.read_text(encoding="utf-8")).get("added_tokens", [])
        control = {token["content"] for token in added if token["special"]}
        for name in _NAMING_FILES:
            control |= set(_named_tokens(_read_json(folder / name)))
        config = _read_json(folder / "config.json")
        text_config = config.get("text_config") or config
        return cls(frozenset(control), text_config.get("max_position_embeddings"), Tokenizer.from_file(str(file)))

    def holds_control_token(self, text: str) -> bool:
        """Whether the text holds one of the model's control tokens, such as <image>. A run would refuse it."""
        return any(token in text for token in self.control)

    @property
    def context_length(self) -> int | None:
        """As `check.TextCounter`."""
        return self.context

    def question_length(self, question: str) -> int:
        """Tokens of the question, without template and image."""
        return self._length(question)

    def answer_length(self, answer: str) -> int:
        """Tokens of the answer, without the end of turn."""
        return self._length(answer)

    def is_too_long(self, *texts: str) -> bool:
        """Whether the texts alone have more tokens than the context. A run also counts template and image."""
        if self.context is None or sum(len(text.encode()) for text in texts) <= self.context:
            return False  # no token is shorter than a byte
        encoded = self.tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
        return sum(len(each.ids) for each in encoded) > self.context

    def _length(self, text: str) -> int:
        return len(self.tokenizer.encode(text, add_special_tokens=False).ids)


def _read_json(file: Path) -> Mapping[str, Any]:
    return json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}


def _named_tokens(names: Mapping[str, Any]) -> Iterator[str]:
    """The tokens under keys such as `eos_token` or `additional_special_tokens`, as text or as {"content": text}."""
    for key, value in names.items():
        if not key.endswith(("_token", "_special_tokens")):
            continue
        for each in value if isinstance(value, list) else value.values() if _is_group(value) else [value]:
            text = each.get("content") if isinstance(each, dict) else each
            if isinstance(text, str) and text:
                yield text


def _is_group(value: Any) -> bool:
    """Whether the value is several tokens by name."""
    return isinstance(value, dict) and "content" not in value
