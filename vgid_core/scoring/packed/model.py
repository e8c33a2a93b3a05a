"""Runs the model on packed rows: lays examples out, inserts cached image features, returns hidden states."""

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
from vgid_core.scoring.packed.last_layer import compute_only_at
from vgid_core.scoring.packed.rows import PackedRow, Row, pack, sparse_mask

# Row lengths on CUDA are multiples of this, so that compiled layers see few shapes.
_ROW_MULTIPLE = 512
# On CPU attention within a group is dense. In a group longer than this and than two prefixes, it costs more than
# computing the prefix once more.
MAX_DENSE_GROUP = 384


Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class Layout:
    """Examples as one packed row, as student or teacher reads them.

    packed, features: on the model's device; one entry of features a group. predicts: for each example, the indices into
    the row of the tokens that predict its answer, on the host.
    """

    packed: PackedRow
    features: list[Tensor]
    predicts: list[Tensor]


class PackedModel:
    """Computes hidden states of a base model, with its adapter on or off, at answer tokens of packed rows.

    It requires of a family, and `choose_scorer` checks by computation: `config.image_token_id`; a processor whose text
    depends on the image's size alone; `get_image_features`; a forward that takes `mm_encoder_outputs`, `position_ids`
    and a mask for each pair of tokens; `get_rope_index` if positions aren't consecutive; logits that are the last
    hidden state times one matrix.

    Rows are laid out on the host and copied at once: on an accelerator each of the hundreds of small steps would wait.
    """

    def __init__(self, base: BaseModel, compiler: Compiler | None = None) -> None:
        """compiler: applied to each decoder layer's forward. Layers share their code, so it compiles few times."""
        self._base = base
        self._inner: Any = base.model.base_model
        self._vision = VisionFeatures(base)
        self._decoder: Any = base.model.get_decoder()
        if _has_windows(self._decoder.config):
            raise ModelNotSupported("packed rows don't support sliding-window attention")
        self._compiled = [compiler(layer.forward) for layer in self._decoder.layers] if compiler else []
        self._flex = prefers_flex_attention(base.device)
        self._image_token = self._inner.config.image_token_id
        self._layout_only = False
        scheme = getattr(type(self._inner), "get_rope_index", None)
        self._position_inputs = set(signature(scheme).parameters) - {"input_ids", "attention_mask"} if scheme else set()
        # transformers 5.24 renamed the argument in most families.
        arguments = signature(self._inner.forward).parameters
        self._cache_argument = "cache" if "cache" in arguments else "past_key_values"

    def states(self, examples: Sequence[DistillExample], side: Side, cacheable: bool = False) -> Tensor:
        """Last hidden states that predict answer tokens, [answer tokens, hidden], in the examples' order.

        cacheable: the caller caches the result, so that it must be computed even within `layout_only`.
        """
        layout = self.lay_out(examples, side)
        indices = torch.cat(layout.predicts).to(self._base.device)
        if self._layout_only and not cacheable:
            return self.head.new_zeros(len(indices), self.head.shape[1])
        if self._compiled:
            return self.hidden(layout, compiled=True)[indices]
        with compute_only_at(self._decoder.layers[-1], indices):
            return self.hidden(layout, queried=indices)[indices]

    def layer_states(self, examples: Sequence[DistillExample], side: Side, layer: int) -> Tensor:
        """As `states`, after decoder layer `layer` (0-based) instead of the last."""
        layout = self.lay_out(examples, side)
        indices = torch.cat(layout.predicts).to(self._base.device)
        if self._layout_only:
            return self.head.new_zeros(len(indices), self.head.shape[1])
        with layer_outputs(self._base, layer) as outputs:
            self.hidden(layout)
        return outputs[0][0, indices]

    @contextmanager
    def layout_only(self) -> Iterator[None]:
        """Within the context, `states` returns zeros unless they are cacheable: it fills caches, skips other passes."""
        self._layout_only = True
        try:
            yield
        finally:
            self._layout_only = False

    def lay_out(self, examples: Sequence[DistillExample], side: Side) -> Layout:
        """Lays the examples out in one row; those with the same image share its prefix."""
        rows = [self._row(example, side) for example in examples]
        images = [example.image(side) for example in examples]
        groups = self._groups(images, rows)
        split = [[rows[index] for index in members] for members in groups]
        packed = pack(split, multiple=_ROW_MULTIPLE if self._flex else 1)
        predicts: list[Tensor] = [packed.ids[:0]] * len(examples)
        for members, group_predicts in zip(groups, packed.predicts, strict=True):
            for index, indices in zip(members, group_predicts, strict=True):
                predicts[index] = indices
        distinct = {image_key(image): image for image in images}
        computed = dict(zip(distinct, self._vision.features(list(distinct.values())), strict=True))
        features = [computed[image_key(images[members[0]])] for members in groups]
        return Layout(packed.to(self._base.device), features, predicts)

    def _groups(self, images: Sequence[TeacherImage], rows: Sequence[Row]) -> list[list[int]]:
        """Indices of examples that share a prefix: those on one image, split where dense attention would cost more."""
        groups: list[list[int]] = []
        current: dict[int | str, list[int]] = {}
        lengths: dict[int | str, int] = {}
        for index, (image, row) in enumerate(zip(images, rows, strict=True)):
            key, own = image_key(image), len(row.ids) - row.image_end
            if key not in current or (not self._flex and lengths[key] + own > max(MAX_DENSE_GROUP, 2 * row.image_end)):
                groups.append([])
                current[key], lengths[key] = groups[-1], row.image_end
            current[key].append(index)
            lengths[key] += own
        return groups

    def hidden(
        self, layout: Layout, cache: Cache | None = None, compiled: bool = False, queried: Tensor | None = None
    ) -> Tensor:
        """Last hidden states of the row, [length, hidden].

        cache: receives keys and values, for decoding. queried: the indices whose states are needed, if not all.
        """
        packed = layout.packed
        # Instance attributes for this call alone: token-by-token decoding has many shapes and must not be compiled.
        layers = list(zip(self._decoder.layers, self._compiled, strict=True)) if compiled and self._compiled else []
        for layer, forward in layers:
            layer.forward = forward
        try:
            return self.run(
                packed.ids[None],
                packed.positions[:, None],
                sparse_mask(packed) if self._flex else None,
                attention="flex_attention" if self._flex else block_attention.NAME,
                cache=cache,
                mm_encoder_outputs={"image": self._vision.as_output(layout.features)},
                **({} if self._flex else {"groups": self._attention_groups(packed, queried)}),
            )[0]
        finally:
            for layer, _ in layers:
                del layer.forward

    def _attention_groups(self, packed: PackedRow, queried: Tensor | None) -> block_attention.GroupMasks:
        return block_attention.GroupMasks.of(packed, self._base.dtype, len(self._decoder.layers) - 1, queried)

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
        """The number of tokens up to the image's end, which examples on one image share, and of those after it."""
        prompt = self._prompt(example, side)
        return prompt.image_end, len(prompt.ids) + len(self._answer(example, side)) - prompt.image_end

    @property
    def head(self) -> Tensor:
        """The output matrix, [vocabulary, hidden]."""
        weight: Tensor = self._base.model.get_output_embeddings().weight
        return weight

    @property
    def end_ids(self) -> frozenset[int]:
        """Token ids that end a turn."""
        return self._base.encoder.end_ids

    def answer_ids(self, answer: str) -> list[int]:
        """Token ids of the answer with its end of turn."""
        return self._base.encoder.answer_ids(answer)

    def _row(self, example: DistillExample, side: Side) -> Row:
        prompt = self._prompt(example, side)
        ids = torch.cat([prompt.ids, torch.tensor(self._answer(example, side))])
        return Row(ids, self._positions(ids, prompt.extras), len(prompt.ids), prompt.image_end)

    def _answer(self, example: DistillExample, side: Side) -> Sequence[int]:
        return example.prefix(side) or self.answer_ids(example.pair.answer)

    def _prompt(self, example: DistillExample, side: Side) -> Prompt:
        """The example's prompt. It depends on the image's size alone, so it is cached by size and question."""
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
        types = extras["mm_token_type_ids"]
        types = torch.cat([types, types.new_zeros(1, len(ids) - types.shape[1])], dim=1)
        others = {name: value for name, value in extras.items() if name != "mm_token_type_ids"}
        positions, _ = self._inner.get_rope_index(ids[None], mm_token_type_ids=types, **others)
        result: Tensor = positions[:, 0]
        return result


def _has_windows(config: Any) -> bool:
    """Whether any layer has sliding-window attention, which a check on short rows wouldn't reveal."""
    types = getattr(config, "layer_types", None)
    if types is not None:
        return any(kind != "full_attention" for kind in types)
    return bool(getattr(config, "sliding_window", None)) and getattr(config, "use_sliding_window", True)


def prefers_flex_attention(device: torch.device) -> bool:
    """FlexAttention skips empty blocks of the mask, but on CPU it is slow and has no gradients."""
    return device.type == "cuda"


def image_key(image: TeacherImage) -> int | str:
    """A key by which two images are the same: the digest of encoded bytes, else the object's id."""
    return image.digest if isinstance(image, EncodedImage) else id(image)
