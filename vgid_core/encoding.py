"""From pairs to tensors: prompts by the model's own chat template, answers as one aligned block.

A row is `[padding | prompt | answer | padding]`: prompts end at the same column and answers start at the same one.
So the answer block of a teacher batch and of a student batch line up whatever their prompts' lengths, and the
model's own `logits_to_keep` yields logits at answer positions alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from vgid_core.data import DataError, PairSet
from vgid_core.errors import ModelNotSupported


@dataclass(frozen=True)
class Batch:
    """`batch` rows ready for the model.

    inputs: keyword arguments of the model's forward; input_ids and attention_mask are [batch, prompt + answer].
    answer_ids: [batch, answer], padded with zeros. answer_mask: [batch, answer], true on answer tokens.
    """

    inputs: dict[str, Tensor]
    answer_ids: Tensor
    answer_mask: Tensor


class PromptEncoder:
    """Turns images, questions and answers into batches with a model's own processor and chat template.

    Raises ModelNotSupported when the processor has no chat template that takes an image.
    """

    def __init__(self, processor: Any, end_ids: Sequence[int], device: torch.device, pass_positions: bool) -> None:
        self.processor = processor
        self._tokenizer = processor.tokenizer
        self._device = device
        self._pass_positions = pass_positions
        self._control = set(self._tokenizer.all_special_tokens)
        self._control |= {str(token) for token in self._tokenizer.added_tokens_decoder.values() if token.special}
        self._answers: dict[str, list[int]] = {}
        self.end_ids = frozenset(end_ids) or frozenset([self._tokenizer.eos_token_id])
        self._find_answer_boundary(set(end_ids) | {self._tokenizer.eos_token_id})

    def require_plain_text(self, items: PairSet) -> None:
        """Raises DataError naming the first text that holds one of the model's control tokens, such as <image>."""
        for index, pair in enumerate(items):
            self._refuse_control_tokens(pair.question, f"{items.name}[{index}].question")
            self._refuse_control_tokens(pair.answer, f"{items.name}[{index}].answer")

    def prompt(self, question: str) -> str:
        """The chat template's text for one image and `question`, up to where the assistant speaks."""
        return self._render(question, answer=None)

    def prompts(self, images: Sequence[Image.Image], questions: Sequence[str]) -> dict[str, Tensor]:
        """Left-padded model inputs for generation; input_ids [batch, prompt], on the model's device.

        Raises DataError when a question holds one of the model's control tokens.
        """
        for index, question in enumerate(questions):
            self._refuse_control_tokens(question, f"[{index}].question")
        texts = [self.prompt(question) for question in questions]
        encoded = self.processor(
            text=texts,
            images=[[image] for image in images],
            padding=True,
            padding_side="left",
            return_tensors="pt",
        )
        return {name: value.to(self._device) for name, value in encoded.items()}

    def batch(
        self, images: Sequence[Image.Image], questions: Sequence[str], answers: Sequence[str | Sequence[int]]
    ) -> Batch:
        """Prompts with their answers attached, for teacher forcing: texts, or the very tokens that are to stand there.

        Raises DataError as `prompts` does.
        """
        inputs = self.prompts(images, questions)
        rows = [self.answer_ids(answer) if isinstance(answer, str) else list(answer) for answer in answers]
        count, length = len(rows), max(len(row) for row in rows)
        answer_ids = torch.zeros(count, length, dtype=torch.long)
        answer_mask = torch.zeros(count, length, dtype=torch.bool)
        for index, row in enumerate(rows):
            answer_ids[index, : len(row)] = torch.tensor(row)
            answer_mask[index, : len(row)] = True
        answer_ids, answer_mask = answer_ids.to(self._device), answer_mask.to(self._device)
        shape = inputs["input_ids"].shape
        for name, value in inputs.items():
            if value.shape == shape:
                block = {"input_ids": answer_ids, "attention_mask": answer_mask}.get(name, torch.zeros_like(answer_ids))
                inputs[name] = torch.cat([value, block.to(value.dtype)], dim=1)
        if self._pass_positions:
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        return Batch(inputs, answer_ids, answer_mask)

    def rows(
        self,
        images: Sequence[Image.Image],
        questions: Sequence[str],
        answers: Sequence[str | Sequence[int]],
        length: int | None = None,
    ) -> dict[str, Tensor]:
        """Prompts with their answers from the first column on, then padding up to `length` columns or the longest row.

        Model inputs, input_ids [batch, length] among them. Positions are left to the model, which counts columns.
        Raises DataError as `prompts` does.
        """
        inputs = self.batch(images, questions, answers).inputs
        inputs.pop("position_ids", None)
        mask = inputs["attention_mask"]
        width = int(mask.sum(-1).max()) if length is None else length
        columns = torch.arange(width, device=mask.device) + mask.argmax(-1, keepdim=True)
        real = torch.arange(width, device=mask.device) < mask.sum(-1, keepdim=True)
        shape = mask.shape
        for name, value in inputs.items():
            if value.shape == shape:
                filler = self._tokenizer.pad_token_id if name == "input_ids" else 0
                inputs[name] = value.gather(1, columns.clamp(max=shape[1] - 1)).where(real, filler)
        return inputs

    def answer_ids(self, answer: str) -> list[int]:
        """The tokens the model is meant to say: `answer` as it follows the prompt, then its end of turn."""
        if answer not in self._answers:
            self._refuse_control_tokens(answer, "answer")
            whole = self._ids(self._lead + self._separator + answer)
            head = self._ids(self._lead)
            # A tokenizer that merges across the boundary can't generate that merge, so it is no target either.
            ids = whole[len(head) :] if whole[: len(head)] == head else self._ids(answer)
            self._answers[answer] = [*ids, self._end_id]
        return self._answers[answer]

    def decode(self, ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Texts of generated tokens [batch, length], control tokens left out, stripped."""
        texts: list[str] = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _find_answer_boundary(self, end_ids: set[int]) -> None:
        self._lead = self._render("Question", answer=None)
        spoken = self._render("Question", answer="Answer")
        rest = spoken.removeprefix(self._lead)
        separator, found, tail = rest.partition("Answer")
        if rest == spoken or not found or separator.strip():
            separator, tail = "", ""
        self._separator = separator
        ending = [token for token in self._ids(tail) if token in end_ids]
        self._end_id: int = ending[0] if ending else self._tokenizer.eos_token_id

    def _render(self, question: str, answer: str | None) -> str:
        content = [{"type": "image"}, {"type": "text", "text": question}]
        conversation: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if answer is not None:
            conversation.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        try:
            text: str = self.processor.apply_chat_template(conversation, add_generation_prompt=answer is None)
        except (ValueError, AttributeError) as error:
            raise ModelNotSupported("the processor has no chat template that takes an image") from error
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _refuse_control_tokens(self, text: str, field: str) -> None:
        if any(token in text for token in self._control):
            raise DataError("holds one of the model's control tokens", field)
