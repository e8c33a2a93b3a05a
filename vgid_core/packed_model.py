"""The model on packed rows: what it needs from a family, cached image features, hidden states at answer tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from transformers.modeling_outputs import BaseModelOutputWithPooling

from vgid_core.base_model import BaseModel
from vgid_core.data import EncodedImage
from vgid_core.packing import Packed, Row, allowed, pack, sparse_mask

# Row lengths on an accelerator are multiples of this, so that compiled layers see few shapes.
_ROW_MULTIPLE = 512


Compiler = Callable[[Callable[..., Any]], Callable[..., Any]]


@dataclass(frozen=True)
class Exchange:
    """One image, one question, one answer, as the model gets them. Equal `image` objects share a prefix."""

    image: EncodedImage | Image.Image
    question: str
    answer: str


class PackedModel:
    """Hidden states of one base model at answer tokens, with or without the adapter around it.

    What it takes for granted of a family, and nothing else: `config.image_token_id`; a processor whose text depends on
    the image's size alone; `get_image_features`; a forward that takes `mm_encoder_outputs`, a mask for every pair of
    tokens and `position_ids`; `get_rope_index` if positions aren't counted one by one; logits that are the last hidden
    state times one matrix. `paths.choose_path` checks by computation that all of it holds.
    """

    def __init__(self, base: BaseModel, compiler: Compiler | None = None) -> None:
        """`compiler` is applied to every decoder layer's forward; they share their code, so it compiles few times."""
        self._base = base
        self._inner: Any = base.model.base_model
        self._decoder: Any = base.model.get_decoder()
        self._compiled = [compiler(layer.forward) for layer in self._decoder.layers] if compiler else []
        # FlexAttention skips what the mask leaves empty, but is slow and without gradients on CPU.
        self._sparse = base.device.type == "cuda"
        self._image_token = self._inner.config.image_token_id
        self._layouts: dict[tuple[tuple[int, int], str], tuple[Tensor, dict[str, Tensor]]] = {}
        self._sizes: dict[str, tuple[int, int]] = {}

    def states(self, exchanges: Sequence[Exchange]) -> Tensor:
        """Hidden states that predict the answers, [answer tokens of all exchanges in their order, hidden]."""
        groups: dict[int | str, list[int]] = {}
        for index, exchange in enumerate(exchanges):
            groups.setdefault(_identity(exchange.image), []).append(index)
        pictures = [self._picture(exchanges[members[0]].image) for members in groups.values()]
        rows = [
            [self._row(size, exchanges[i].question, exchanges[i].answer) for i in members]
            for members, (size, _) in zip(groups.values(), pictures, strict=True)
        ]
        packed = pack(rows, one_row=True, multiple=_ROW_MULTIPLE) if self._sparse else pack(rows)
        output = self._forward(packed, [pictures[number][1] for number in packed.image_order])
        where: list[Tensor] = [packed.ids[0, :0]] * len(exchanges)
        for members, places in zip(groups.values(), packed.predicts, strict=True):
            for index, indices in zip(members, places, strict=True):
                where[index] = indices
        states: Tensor = output.last_hidden_state.flatten(0, 1)[torch.cat(where)]
        return states

    def _forward(self, packed: Packed, features: list[Tensor]) -> Any:
        encoded = BaseModelOutputWithPooling(pooler_output=features)  # type: ignore[arg-type]  # lists are what it takes
        attention = self._decoder.config._attn_implementation
        # As instance attributes, and for this call alone: generation's many shapes must not be compiled.
        for layer, forward in zip(self._decoder.layers, self._compiled, strict=False):
            layer.forward = forward
        try:
            self._decoder.config._attn_implementation = "flex_attention" if self._sparse else "sdpa"
            return self._inner(
                input_ids=packed.ids,
                attention_mask=sparse_mask(packed) if self._sparse else allowed(packed),
                position_ids=packed.positions[0] if packed.positions.shape[0] == 1 else packed.positions,
                mm_encoder_outputs={"image": encoded},
                use_cache=False,
            )
        finally:
            self._decoder.config._attn_implementation = attention
            for layer, _ in zip(self._decoder.layers, self._compiled, strict=False):
                del layer.forward

    @property
    def head(self) -> Tensor:
        """The matrix that turns hidden states into logits, [vocabulary, hidden]."""
        weight: Tensor = self._base.model.get_output_embeddings().weight
        return weight

    def answer_length(self, answer: str) -> int:
        """Tokens of the answer, its end of turn among them."""
        return len(self._base.encoder.answer_ids(answer))

    def _picture(self, image: EncodedImage | Image.Image) -> tuple[tuple[int, int], Tensor]:
        """Size (width, height) and features [tokens, hidden] of the image; those of encoded ones are kept."""
        if isinstance(image, Image.Image):
            return image.size, self._features_of(image)
        features = self._base.features.get(image.digest)
        if features is None or image.digest not in self._sizes:
            decoded = image.decode()
            self._sizes[image.digest] = decoded.size
            if features is None:
                features = self._features_of(decoded)
                self._base.features.put(image.digest, features)
        return self._sizes[image.digest], features.to(self._base.device)

    @torch.no_grad()
    def _features_of(self, image: Image.Image) -> Tensor:
        inputs = self._base.encoder.processor.image_processor(images=[image], return_tensors="pt")
        moved = {name: value.to(self._base.device) for name, value in inputs.items()}
        moved["pixel_values"] = moved["pixel_values"].to(self._base.dtype)
        blocks: Sequence[Tensor] = self._inner.get_image_features(**moved).pooler_output
        return torch.cat(list(blocks), dim=0)

    def _row(self, size: tuple[int, int], question: str, answer: str) -> Row:
        prompt, extras = self._layout(size, question)
        answer_ids = torch.tensor(self._base.encoder.answer_ids(answer), device=self._base.device)
        ids = torch.cat([prompt, answer_ids])
        image_end = int((prompt == self._image_token).nonzero()[-1]) + 1
        return Row(ids, self._positions(ids, extras), len(prompt), image_end)

    def _layout(self, size: tuple[int, int], question: str) -> tuple[Tensor, dict[str, Tensor]]:
        """The prompt's tokens and what the positions depend on besides, for any image of this size."""
        key = (size, question)
        if key not in self._layouts:
            inputs = self._base.encoder.prompts([Image.new("RGB", size)], [question])
            extras = {name: value for name, value in inputs.items() if name in ("image_grid_thw", "mm_token_type_ids")}
            self._layouts[key] = inputs["input_ids"][0], extras
        return self._layouts[key]

    def _positions(self, ids: Tensor, extras: dict[str, Tensor]) -> Tensor:
        if not hasattr(self._inner, "get_rope_index"):
            return torch.arange(len(ids), device=ids.device)[None]
        kinds = extras["mm_token_type_ids"]
        kinds = torch.cat([kinds, kinds.new_zeros(1, len(ids) - kinds.shape[1])], dim=1)
        given = {name: value for name, value in extras.items() if name != "mm_token_type_ids"}
        positions, _ = self._inner.get_rope_index(ids[None], mm_token_type_ids=kinds, **given)
        result: Tensor = positions[:, 0]
        return result


def _identity(image: EncodedImage | Image.Image) -> int | str:
    return image.digest if isinstance(image, EncodedImage) else id(image)
