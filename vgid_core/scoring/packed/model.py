"""The model on packed rows: what it needs from a family, cached image features, hidden states at answer tokens."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from inspect import signature
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers import Cache

from vgid_core.data.examples import DistillExample, Side, TeacherImage
from vgid_core.data.pairs import EncodedImage
from vgid_core.errors import ModelNotSupported
from vgid_core.models.base import BaseModel, Prompt, layer_outputs
from vgid_core.models.vision_features import VisionFeatures
from vgid_core.scoring.packed import attention as block_attention
from vgid_core.scoring.packed.last_layer import computed_at
from vgid_core.scoring.packed.rows import Packed, Row, pack, sparse_mask

# Row lengths on an accelerator are multiples of this, so that compiled layers see few shapes.
_ROW_MULTIPLE = 512
# Elsewhere attention is dense: in a group longer than this and than two prefixes, it costs more than another prefix.
_DENSE_GROUP = 384


Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class Layout:
    """Examples as one packed row, as one side reads them.

    `packed` and `features` (of each group's image) are on the model's device. predicts: for each example, on the host,
    the indices into the row of what predicts its answer.
    """

    packed: Packed
    features: list[Tensor]
    predicts: list[Tensor]


class PackedModel:
    """Hidden states of one base model at answer tokens, with or without the adapter around it.

    What it takes for granted of a family, and nothing else: `config.image_token_id`; a processor whose text depends on
    the image's size alone; `get_image_features`; a forward that takes `mm_encoder_outputs`, a mask for every pair of
    tokens and `position_ids`; `get_rope_index` if positions aren't counted one by one; logits that are the last hidden
    state times one matrix. `paths.choose_scorer` checks by computation that all of it holds.

    A row is laid out on the host and moved at once: hundreds of small steps would each wait for an accelerator.
    """

    def __init__(self, base: BaseModel, compiler: Compiler | None = None) -> None:
        """`compiler` is applied to every decoder layer's forward; they share their code, so it compiles few times."""
        self._base = base
        self._inner: Any = base.model.base_model
        self._vision = VisionFeatures(base)
        self._decoder: Any = base.model.get_decoder()
        if _has_windows(self._decoder.config):
            raise ModelNotSupported("attention within a window isn't laid out in packed rows")
        self._compiled = [compiler(layer.forward) for layer in self._decoder.layers] if compiler else []
        # FlexAttention skips what the mask leaves empty, but is slow and without gradients on CPU.
        self._sparse = base.device.type == "cuda"
        self._image_token = self._inner.config.image_token_id
        self._only_lays_out = False
        scheme = getattr(type(self._inner), "get_rope_index", None)
        self._position_inputs = set(signature(scheme).parameters) - {"input_ids", "attention_mask"} if scheme else set()
        # transformers 5.24 renamed the argument in most families.
        taken = signature(self._inner.forward).parameters
        self._cache_argument = "cache" if "cache" in taken else "past_key_values"

    def states(self, examples: Sequence[DistillExample], side: Side, kept: bool = False) -> Tensor:
        """Hidden states that predict the answers, [answer tokens of all examples in their order, hidden].

        `kept` says that they will be needed again.
        """
        layout = self.lay_out(examples, side)
        places = torch.cat(layout.predicts).to(self._base.device)
        if self._only_lays_out and not kept:
            return self.head.new_zeros(len(places), self.head.shape[1])
        if self._compiled:
            return self.hidden(layout, compiled=True)[places]
        with computed_at(self._decoder.layers[-1], places):
            return self.hidden(layout, asked=places)[places]

    def layer_states(self, examples: Sequence[DistillExample], side: Side, layer: int) -> Tensor:
        """As `states`, after the decoder layer of this number (0-based) instead of the last."""
        layout = self.lay_out(examples, side)
        places = torch.cat(layout.predicts).to(self._base.device)
        if self._only_lays_out:
            return self.head.new_zeros(len(places), self.head.shape[1])
        with layer_outputs(self._base, layer) as outputs:
            self.hidden(layout)
        return outputs[0][0, places]

    @contextmanager
    def laying_out_only(self) -> Iterator[None]:
        """Within, `states` are zeros unless they are kept: what passes leave behind, without the passes."""
        self._only_lays_out = True
        try:
            yield
        finally:
            self._only_lays_out = False

    def lay_out(self, examples: Sequence[DistillExample], side: Side) -> Layout:
        """The examples in one row; those with the same image share its prefix."""
        rows = [self._row(example, side) for example in examples]
        shown = [example.image(side) for example in examples]
        groups = self._groups(shown, rows)
        split = [[rows[index] for index in members] for members in groups]
        packed = pack(split, multiple=_ROW_MULTIPLE if self._sparse else 1)
        predicts: list[Tensor] = [packed.ids[:0]] * len(examples)
        for members, places in zip(groups, packed.predicts, strict=True):
            for index, indices in zip(members, places, strict=True):
                predicts[index] = indices
        images = {identity(image): image for image in shown}
        computed = dict(zip(images, self._vision.features(list(images.values())), strict=True))
        features = [computed[identity(shown[members[0]])] for members in groups]
        return Layout(packed.to(self._base.device), features, predicts)

    def _groups(self, images: Sequence[TeacherImage], rows: Sequence[Row]) -> list[list[int]]:
        """Which examples share a prefix: those on one image, in as many parts as keep dense attention cheap."""
        groups: list[list[int]] = []
        current: dict[int | str, list[int]] = {}
        lengths: dict[int | str, int] = {}
        for index, (shown, row) in enumerate(zip(images, rows, strict=True)):
            image, own = identity(shown), len(row.ids) - row.image_end
            if image not in current or (
                not self._sparse and lengths[image] + own > max(_DENSE_GROUP, 2 * row.image_end)
            ):
                groups.append([])
                current[image], lengths[image] = groups[-1], row.image_end
            current[image].append(index)
            lengths[image] += own
        return groups

    def hidden(
        self, layout: Layout, cache: Cache | None = None, compiled: bool = False, asked: Tensor | None = None
    ) -> Tensor:
        """Last hidden states, [length, hidden]. `cache` takes the keys and values, for answers that go on.

        asked: the places whose states will be looked at, if not all.
        """
        packed = layout.packed
        # As instance attributes, and for this call alone: generation's many shapes must not be compiled.
        layers = list(zip(self._decoder.layers, self._compiled, strict=True)) if compiled and self._compiled else []
        for layer, forward in layers:
            layer.forward = forward
        try:
            return self.run(
                packed.ids[None],
                packed.positions[:, None],
                sparse_mask(packed) if self._sparse else None,
                attention="flex_attention" if self._sparse else block_attention.NAME,
                cache=cache,
                mm_encoder_outputs={"image": self._vision.as_output(layout.features)},
                **({} if self._sparse else {"groups": self._attention_groups(packed, asked)}),
            )[0]
        finally:
            for layer, _ in layers:
                del layer.forward

    def _attention_groups(self, packed: Packed, asked: Tensor | None) -> block_attention.Groups:
        return block_attention.Groups.of(packed, self._base.dtype, len(self._decoder.layers) - 1, asked)

    def run(
        self,
        ids: Tensor,
        positions: Tensor,
        mask: Any,
        attention: str = "sdpa",
        cache: Cache | None = None,
        **inputs: Any,
    ) -> Tensor:
        """Last hidden states [rows, length, hidden] of ids [rows, length] at positions [axes, rows, length]."""
        before = self._decoder.config._attn_implementation
        try:
            self._decoder.config._attn_implementation = attention
            output: Tensor = self._inner(
                input_ids=ids,
                attention_mask=mask,
                position_ids=positions[0] if positions.shape[0] == 1 else positions,
                use_cache=cache is not None,
                **{self._cache_argument: cache},
                **inputs,
            ).last_hidden_state
            return output
        finally:
            self._decoder.config._attn_implementation = before

    def length(self, example: DistillExample, side: Side) -> tuple[int, int]:
        """Tokens up to the image's end, which examples on the same image share at least, and those after it."""
        prompt = self._prompt(example, side)
        return prompt.image_end, len(prompt.ids) + len(self._answer(example, side)) - prompt.image_end

    @property
    def head(self) -> Tensor:
        """The matrix that turns hidden states into logits, [vocabulary, hidden]."""
        weight: Tensor = self._base.model.get_output_embeddings().weight
        return weight

    @property
    def end_ids(self) -> frozenset[int]:
        """Tokens that end a turn."""
        return self._base.encoder.end_ids

    def answer_ids(self, answer: str) -> list[int]:
        """Tokens of the answer, its end of turn among them."""
        return self._base.encoder.answer_ids(answer)

    def _row(self, example: DistillExample, side: Side) -> Row:
        prompt = self._prompt(example, side)
        ids = torch.cat([prompt.ids, torch.tensor(self._answer(example, side))])
        return Row(ids, self._positions(ids, prompt.extras), len(prompt.ids), prompt.image_end)

    def _answer(self, example: DistillExample, side: Side) -> Sequence[int]:
        return example.prefix(side) or self.answer_ids(example.pair.answer)

    def _prompt(self, example: DistillExample, side: Side) -> Prompt:
        """The same for any image of this size."""
        size, question = key = example.image(side).size, example.question(side)
        if key not in self._base.prompts:
            inputs = self._base.encoder.prompts([Image.new("RGB", size)], [question])
            extras = {name: value.cpu() for name, value in inputs.items() if name in self._position_inputs}
            ids = inputs["input_ids"][0].cpu()
            self._base.prompts[key] = Prompt(ids, extras, int((ids == self._image_token).nonzero()[-1]) + 1)
        return self._base.prompts[key]

    def _positions(self, ids: Tensor, extras: dict[str, Tensor]) -> Tensor:
        if not hasattr(self._inner, "get_rope_index"):
            return torch.arange(len(ids))[None]
        kinds = extras["mm_token_type_ids"]
        kinds = torch.cat([kinds, kinds.new_zeros(1, len(ids) - kinds.shape[1])], dim=1)
        given = {name: value for name, value in extras.items() if name != "mm_token_type_ids"}
        positions, _ = self._inner.get_rope_index(ids[None], mm_token_type_ids=kinds, **given)
        result: Tensor = positions[:, 0]
        return result


def _has_windows(config: Any) -> bool:
    """Whether some layer sees only its neighbourhood: in short rows that makes no difference, in long ones it does."""
    kinds = getattr(config, "layer_types", None)
    if kinds is not None:
        return any(kind != "full_attention" for kind in kinds)
    return bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)


def identity(image: TeacherImage) -> int | str:
    """What makes two images one: their encoded bytes, or being the same object."""
    return image.digest if isinstance(image, EncodedImage) else id(image)
