"""Encodes pairs as tensors: prompts by the model's own chat template, answers as one aligned block.

A row is `[padding | prompt | answer | padding]`. All prompts of a batch end at one column, and all answers start at the
next. So the answer blocks of a teacher batch and a student batch line up whatever their prompts' lengths, and the
model's `logits_to_keep` yields logits at answer positions alone.
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

from vgid_core.data.pairs import DataError, Pair, PairSet
from vgid_core.errors import ModelNotSupported


@dataclass(frozen=True)
class Batch:
    """A batch of rows ready for the model.

    inputs: keyword arguments of the model's forward. input_ids and attention_mask are [batch, prompt + answer]; other
    inputs with one entry a token have these as their first two dimensions.
    answer_ids: [batch, answer], padded with zeros. answer_mask: [batch, answer], true on answer tokens.
    """

    inputs: dict[str, Tensor]
    answer_ids: Tensor
    answer_mask: Tensor


class PromptEncoder:
    """Turns images, questions and answers into batches with a model's own processor and chat template.

    The model's weights aren't used: only its forward's arguments, its inputs during generation, and its end of turn.
    Floating-point inputs have `dtype`. A processor that builds prompts itself (PaliGemma's, which takes a `suffix`)
    needs no chat template; if it has one, the template is used. Raises ModelNotSupported if any other processor has no
    chat template, or one that takes no image.
    """

    def __init__(self, processor: Any, model: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.processor = processor
        self._tokenizer = processor.tokenizer
        self._model = model
        self._device, self._dtype = device, dtype
        # Without labels, which would have the model compute its own loss.
        self._forward_arguments = set(signature(type(model).forward).parameters) - {"labels"}
        # Families with M-RoPE derive positions from the ids. Others would count padding as positions.
        self._pass_positions = not hasattr(model.base_model, "get_rope_index")
        self._control = set(self._tokenizer.all_special_tokens)
        self._control |= {str(token) for token in self._tokenizer.added_tokens_decoder.values() if token.special}
        self._answers: dict[str, list[int]] = {}
        ends = model.generation_config.eos_token_id
        end_ids = ends if isinstance(ends, list) else [ends] if ends is not None else []
        self.end_ids = frozenset(end_ids) or frozenset([self._tokenizer.eos_token_id])
        self._image_token: str | None = getattr(processor, "image_token", None)
        self._control |= {self._image_token} if self._image_token else set()
        self._processor_builds_prompts = _builds_prompts(processor)
        self._require_image(self.prompt("Question"))
        self._find_answer_boundary(set(end_ids) | {self._tokenizer.eos_token_id})

    def require_usable(self, *sets: PairSet, settings: Mapping[str, str] | None = None) -> None:
        """Raises DataError naming the first text that holds a control token or exceeds the context length."""
        self.require_no_control_tokens(*sets, settings=settings)
        self.require_fits_context(*sets)

    def require_no_control_tokens(self, *sets: PairSet, settings: Mapping[str, str] | None = None) -> None:
        """Raises DataError naming the first text that holds one of the model's control tokens, such as <image>.

        settings: further texts, by the name of their setting.
        """
        for name, text in (settings or {}).items():
            self._refuse_control_tokens(text, name)
        for items in sets:
            for index, pair in enumerate(items):
                self._refuse_control_tokens(pair.question, f"{items.name}[{index}].question")
                self._refuse_control_tokens(pair.answer, f"{items.name}[{index}].answer")
                self._refuse_control_tokens(pair.person or "", f"{items.name}[{index}].person")  # audits ask by it

    def require_fits_context(self, *sets: PairSet) -> None:
        """Raises DataError naming the first question or answer that ends beyond the model's context length.

        Counts the pair's texts, the chat template, and as many image tokens as the first pair's photo has.
        """
        context, first = self.context_length, next((pair for items in sets for pair in items), None)
        if context is None or first is None:
            return
        image_tokens = self._image_tokens(first)
        for items in sets:
            for index, pair in enumerate(items):
                question, whole = self._lengths(pair, image_tokens)
                if question > context:
                    self._refuse_length(question, f"{items.name}[{index}].question")
                if whole > context:
                    self._refuse_length(whole, f"{items.name}[{index}].answer")

    def fit_context(self, pairs: Sequence[Pair]) -> list[bool]:
        """Whether each pair fits, as `require_fits_context` counts."""
        context = self.context_length
        if context is None or not pairs:
            return [True] * len(pairs)
        image_tokens = self._image_tokens(pairs[0])
        return [self._lengths(pair, image_tokens)[1] <= context for pair in pairs]

    def _image_tokens(self, pair: Pair) -> int:
        """How many tokens the pair's photo takes."""
        prompt = self.prompts([pair.image.decode()], [pair.question])["input_ids"].shape[1]
        return prompt - len(self._tokenize(self.prompt(pair.question)))

    def _lengths(self, pair: Pair, image_tokens: int) -> tuple[int, int]:
        """Tokens to the end of the question, and to that of the answer."""
        question = image_tokens + len(self._tokenize(self.prompt(pair.question)))
        return question, question + len(self.answer_ids(pair.answer))

    @property
    def context_length(self) -> int | None:
        """The model's context length in tokens, image tokens included; None if its config has none."""
        found: int | None = getattr(self._model.config.get_text_config(), "max_position_embeddings", None)
        return found

    def prompt(self, question: str) -> str:
        """The prompt's text for one image and `question`, up to the start of the assistant's turn."""
        return self._render(question, answer=None)

    def prompts(self, images: Sequence[Image.Image], questions: Sequence[str]) -> dict[str, Tensor]:
        """Left-padded model inputs for generation: input_ids [batch, prompt] and others, on the model's device.

        Raises DataError if a question holds one of the model's control tokens.
        """
        for index, question in enumerate(questions):
            self._refuse_control_tokens(question, f"[{index}].question")
        texts = [self.prompt(question) for question in questions]
        # A template that writes the BOS token itself would get a second one.
        no_second_bos = {"add_special_tokens": False} if self._starts_with_bos(texts[0]) else {}
        encoded = self.processor(
            text=texts,
            images=[[image] for image in images],
            padding=True,
            padding_side="left",
            return_tensors="pt",
            **no_second_bos,
        )
        return {name: self._to_device(value) for name, value in encoded.items() if name in self._forward_arguments}

    @property
    def takes_text_alone(self) -> bool:
        """Whether it writes prompts without an image: not where the processor itself builds the prompts, nor where the
        chat template fails without an image, or puts its token into every prompt.
        """
        if self._processor_builds_prompts:
            return False
        try:
            prompt = self._render("Question", answer=None, image=False)
        except ModelNotSupported:
            return False
        return self._image_token is None or self._image_token not in prompt

    def text_prompts(self, questions: Sequence[str]) -> dict[str, Tensor]:
        """As `prompts`, of questions without images. Raises DataError as `prompts` does."""
        for index, question in enumerate(questions):
            self._refuse_control_tokens(question, f"[{index}].question")
        texts = [self._render(question, answer=None, image=False) for question in questions]
        encoded = self._tokenizer(
            texts,
            padding=True,
            padding_side="left",
            add_special_tokens=not self._starts_with_bos(texts[0]),
            return_tensors="pt",
        )
        return {name: self._to_device(value) for name, value in encoded.items() if name in self._forward_arguments}

    def batch(
        self, images: Sequence[Image.Image], questions: Sequence[str], answers: Sequence[str | Sequence[int]]
    ) -> Batch:
        """Prompts with their answers appended, for teacher forcing. An answer is a text, or its token ids.

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
        inputs = self._extend(inputs, length)
        for name, block in {"input_ids": answer_ids, "attention_mask": answer_mask}.items():
            inputs[name] = torch.cat([inputs[name], block.to(inputs[name].dtype)], dim=1)
        if self._pass_positions:
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(-1) - 1).clamp(min=0)
        return Batch(inputs, answer_ids, answer_mask)

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of the answer as it follows the prompt, then the end of turn."""
        if answer not in self._answers:
            self._refuse_control_tokens(answer, "answer")
            whole = self._tokenize(self._example_prompt + self._separator + answer)
            head = self._tokenize(self._example_prompt)
            # A token merged across the boundary can't be generated, so it can't be a target either.
            ids = whole[len(head) :] if whole[: len(head)] == head else self._tokenize(answer)
            self._answers[answer] = [*ids, self._end_id]
        return self._answers[answer]

    @property
    def vocabulary(self) -> int:
        """The tokenizer's vocabulary size; a model can have more logits."""
        return len(self._tokenizer)

    def decode(self, ids: Tensor | Sequence[Sequence[int]]) -> list[str]:
        """Texts of token ids [batch, length], stripped and without control tokens."""
        texts: list[str] = self._tokenizer.batch_decode(ids, skip_special_tokens=True)
        return [text.strip() for text in texts]

    def _to_device(self, value: Tensor) -> Tensor:
        return value.to(self._device, self._dtype if value.is_floating_point() else None)

    def _starts_with_bos(self, text: str) -> bool:
        return self._tokenizer.bos_token is not None and text.startswith(self._tokenizer.bos_token)

    def _extend(self, inputs: dict[str, Tensor], length: int) -> dict[str, Tensor]:
        """The prompt's inputs, extended by `length` tokens as the model extends them in generation.

        What the model adds for the first generated token (token types, cross-attention masks) repeats for the others.
        input_ids and attention_mask stay unchanged.
        """
        grown = self._model._update_model_kwargs_for_generation({}, dict(inputs), is_encoder_decoder=False)
        for name, value in inputs.items():
            width = value.shape[1] if value.ndim > 1 else 0
            if name != "attention_mask" and grown[name].shape != value.shape:
                added = grown[name][:, width:]
                grown[name] = torch.cat([value, *[added] * length], dim=1)
        return {**grown, "attention_mask": inputs["attention_mask"]}

    def _find_answer_boundary(self, end_ids: set[int]) -> None:
        """Finds, on an example, what the template writes between prompt and answer, and which token ends the turn."""
        self._example_prompt = self._separator = tail = ""
        if not self._processor_builds_prompts:
            self._example_prompt = self._render("Question", answer=None)
            rest = self._render("Question", answer="Answer").removeprefix(self._example_prompt)
            separator, found, after = rest.partition("Answer")
            if found and not separator.strip():
                self._separator, tail = separator, after
        ends = [token for token in self._tokenize(tail) if token in end_ids]
        self._end_id: int = ends[0] if ends else self._tokenizer.eos_token_id

    def _require_image(self, prompt: str) -> None:
        if self._image_token is None or prompt.count(self._image_token) != 1:
            raise ModelNotSupported("the chat template doesn't put one image token into the prompt of one image")

    def _render(self, question: str, answer: str | None, image: bool = True) -> str:
        if self._processor_builds_prompts:
            return f"{self._image_token}{question}"
        content = [*([{"type": "image"}] if image else []), {"type": "text", "text": question}]
        conversation: list[dict[str, Any]] = [{"role": "user", "content": content}]
        if answer is not None:
            conversation.append({"role": "assistant", "content": [{"type": "text", "text": answer}]})
        try:
            text: str = self.processor.apply_chat_template(conversation, add_generation_prompt=answer is None)
        except (ValueError, AttributeError, TypeError, TemplateError) as error:
            raise ModelNotSupported("the chat template can't write a question about an image") from error
        return text

    def _tokenize(self, text: str) -> list[int]:
        ids: list[int] = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        return ids

    def _refuse_length(self, length: int, field: str) -> None:
        raise DataError(f"ends at token {length} with all before it, and the model takes {self.context_length}", field)

    def _refuse_control_tokens(self, text: str, field: str) -> None:
        if any(token in text for token in self._control):
            raise DataError("holds one of the model's control tokens", field)


def _builds_prompts(processor: Any) -> bool:
    """Whether the processor builds prompts without a chat template. Raises ModelNotSupported if it can do neither."""
    if getattr(processor, "chat_template", None) is not None:
        return False
    if "suffix" in signature(type(processor).__call__).parameters:
        return True
    raise ModelNotSupported(
        "the processor has no chat template; set `processor.chat_template` to the one that the model was trained with, "
        "and save the processor beside the model"
    )
