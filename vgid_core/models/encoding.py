"""From pairs to tensors: prompts by the model's own chat template, answers as one aligned block.

A row is `[padding | prompt | answer | padding]`: prompts end at the same column and answers start at the same one.
So the answer block of a teacher batch and of a student batch line up whatever their prompts' lengths, and the
model's own `logits_to_keep` yields logits at answer positions alone.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from jinja2 import TemplateError
from PIL import Image
from torch import Tensor

from vgid_core.data.pairs import DataError, PairSet
from vgid_core.errors import ModelNotSupported


@dataclass(frozen=True)
class Batch:
    """`batch` rows ready for the model.

    inputs: keyword arguments of the model's forward; input_ids and attention_mask are [batch, prompt + answer], and so
    are other inputs that go token by token, in their first two dimensions.
    answer_ids: [batch, answer], padded with zeros. answer_mask: [batch, answer], true on answer tokens.
    """

    inputs: dict[str, Tensor]
    answer_ids: Tensor
    answer_mask: Tensor


class PromptEncoder:
    """Turns images, questions and answers into batches with a model's own processor and chat template.

    Of `model`, its weights don't matter: what its forward takes, how its inputs go on while it answers, and what ends
    its turn. Floating inputs come in `dtype`. A processor that lays out a prompt and its answer by itself (PaliGemma's,
    which takes a `suffix`) needs no chat template; with one, the template's text is its prompt. Raises
    ModelNotSupported when any other has no chat template, or one that takes no image.
    """

    def __init__(self, processor: Any, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.processor = processor
        self._tokenizer = processor.tokenizer
        self._model = model
        self._device, self._dtype = device, dtype
        # Labels are for a loss of the model's own.
        self._taken = set(signature(type(model).forward).parameters) - {"labels"}
        # Families with a position scheme of their own (M-RoPE) derive positions from the ids; the rest need padding
        # left out.
        self._pass_positions = not hasattr(model.base_model, "get_rope_index")
        self._control = set(self._tokenizer.all_special_tokens)
        self._control |= {str(token) for token in self._tokenizer.added_tokens_decoder.values() if token.special}
        self._answers: dict[str, list[int]] = {}
        ends = model.generation_config.eos_token_id
        end_ids = ends if isinstance(ends, list) else [ends] if ends is not None else []
        self.end_ids = frozenset(end_ids) or frozenset([self._tokenizer.eos_token_id])
        self._image_token: str | None = getattr(processor, "image_token", None)
        self._control |= {self._image_token} if self._image_token else set()
        self._framed_by_processor = _frames_prompts(processor)
        self._require_image(self.prompt("Question"))
        self._find_answer_boundary(set(end_ids) | {self._tokenizer.eos_token_id})

    def require_usable(self, *sets: PairSet, settings: Mapping[str, str] | None = None) -> None:
        """Raises DataError naming the first text that can't be put to the model: see the two that follow."""
        self.require_plain_text(*sets, settings=settings)
        self.require_room(*sets)

    def require_plain_text(self, *sets: PairSet, settings: Mapping[str, str] | None = None) -> None:
        """Raises DataError naming the first text that holds one of the model's control tokens, such as <image>.

        `settings`: texts by the names of the settings that they are of.
        """
        for name, text in (settings or {}).items():
            self._refuse_control_tokens(text, name)
        for items in sets:
            for index, pair in enumerate(items):
                self._refuse_control_tokens(pair.question, f"{items.name}[{index}].question")
                self._refuse_control_tokens(pair.answer, f"{items.name}[{index}].answer")

    def require_room(self, *sets: PairSet) -> None:
        """Raises DataError naming the first question or answer that the model's context has no room for.

        Counted are a pair's texts, the chat template's, and as many image tokens as the first pair's photo has.
        """
        context, first = self.context_length, next((pair for items in sets for pair in items), None)
        if context is None or first is None:
            return
        prompt = self.prompts([first.image.decode()], [first.question])["input_ids"].shape[1]
        of_image = prompt - len(self._ids(self.prompt(first.question)))
        for items in sets:
            for index, pair in enumerate(items):
                asked = of_image + len(self._ids(self.prompt(pair.question)))
                if asked > context:
                    self._refuse_length(asked, f"{items.name}[{index}].question")
                if (length := asked + len(self.answer_ids(pair.answer))) > context:
                    self._refuse_length(length, f"{items.name}[{index}].answer")

    @property
    def context_length(self) -> int | None:
        """How many tokens the model is made for, a photo's among them; None where its config doesn't say."""
        found: int | None = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        return found

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
        # A template that writes the first token itself would get it twice.
        once = {"add_special_tokens": False} if self._begins(texts[0]) else {}
        encoded = self.processor(
            text=texts,
            images=[[image] for image in images],
            padding=True,
            padding_side="left",
            return_tensors="pt",
            **once,
        )
        return {name: self._moved(value) for name, value in encoded.items() if name in self._taken}

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
        inputs = self._going_on(inputs, length)
        for name, block in {"input_ids": answer_ids, "attention_mask": answer_mask}.items():
            inputs[name] = torch.cat([inputs[name], block.to(inputs[name].dtype)], dim=1)
        if self._pass_positions:
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        return Batch(inputs, answer_ids, answer_mask)

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

    @property
    def vocabulary(self) -> int:
        """How many tokens there are texts for; a model may have logits for more."""
        return len(self._tokenizer)

    def decode(self, ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Texts of generated tokens [batch, length], control tokens left out, stripped."""
        texts: list[str] = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _moved(self, value: Tensor) -> Tensor:
        return value.to(self._device, self._dtype if value.is_floating_point() else None)

    def _begins(self, text: str) -> bool:
        return self._tokenizer.bos_token is not None and text.startswith(self._tokenizer.bos_token)

    def _going_on(self, inputs: dict[str, Tensor], length: int) -> dict[str, Tensor]:
        """The prompt's inputs with what the model itself would add to them while it says `length` tokens.

        Token types, masks of cross-attention and the like: as for the first token said, so for the rest. Ids and
        attention mask stay as they are.
        """
        grown = self._model._update_model_kwargs_for_generation({}, dict(inputs), is_encoder_decoder=False)
        for name, value in inputs.items():
            width = value.shape[1] if value.ndim > 1 else 0
            if name != "attention_mask" and grown[name].shape != value.shape:
                added = grown[name][:, width:]
                grown[name] = torch.cat([value, *[added] * length], dim=1)
        return {**grown, "attention_mask": inputs["attention_mask"]}

    def _find_answer_boundary(self, end_ids: set[int]) -> None:
        self._lead = self._separator = tail = ""
        if not self._framed_by_processor:
            self._lead = self._render("Question", answer=None)
            rest = self._render("Question", answer="Answer").removeprefix(self._lead)
            separator, found, after = rest.partition("Answer")
            if found and not separator.strip():
                self._separator, tail = separator, after
        ending = [token for token in self._ids(tail) if token in end_ids]
        self._end_id: int = ending[0] if ending else self._tokenizer.eos_token_id

    def _require_image(self, prompt: str) -> None:
        if self._image_token is None or prompt.count(self._image_token) != 1:
            raise ModelNotSupported("the chat template doesn't put one image token into the prompt of one image")

    def _render(self, question: str, answer: str | None) -> str:
        if self._framed_by_processor:
            return f"{self._image_token}{question}"
        content = [{"type": "image"}, {"type": "text", "text": question}]
        conversation: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if answer is not None:
            conversation.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        try:
            text: str = self.processor.apply_chat_template(conversation, add_generation_prompt=answer is None)
        except (ValueError, AttributeError, TypeError, TemplateError) as error:
            raise ModelNotSupported("the chat template can't write a question about an image") from error
        return text

    def _ids(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _refuse_length(self, length: int, field: str) -> None:
        raise DataError(f"ends at token {length} with all before it, and the model takes {self.context_length}", field)

    def _refuse_control_tokens(self, text: str, field: str) -> None:
        if any(token in text for token in self._control):
            raise DataError("holds one of the model's control tokens", field)


def _frames_prompts(processor: Any) -> bool:
    """Whether prompts are the processor's own affair. Raises ModelNotSupported when they are nobody's."""
    if getattr(processor, "chat_template", None) is not None:
        return False
    if "suffix" in signature(type(processor).__call__).parameters:
        return True
    raise ModelNotSupported(
        "the processor has no chat template; set `processor.chat_template` to the one that the model was trained with, "
        "and save the processor beside the model"
    )
