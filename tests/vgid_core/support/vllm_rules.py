"""The names under which vLLM 0.33.0 looks for an adapter's weights, for LLaVA, Qwen2-VL and Qwen2.5-VL.

Facts read from its sources: `lora/utils.py` (what a key is called), `model_executor/models/llava.py`, `clip.py`,
`qwen2_vl.py`, `qwen2_5_vl.py` and `utils.py` (modules, and prefixes, which are applied one after another),
`lora/lora_model.py` (a module's last name must be one of the model's) and `lora/model_manager.py` (a module of any
other full name is left out without an error; so are those of the vision tower and the projector unless
`enable_tower_connector_lora` is set).
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

_WRAPPER = "base_model.model."
_WEIGHT = re.compile(r"(?P<module>.+)\.lora_[AB]\.weight")
# The server fuses some of these; an adapter's weights come under the names of the parts.
_DECODER_LAYER = (
    *(f"self_attn.{part}_proj" for part in "qkvo"),
    *(f"mlp.{part}_proj" for part in ("gate", "up", "down")),
)
_CLIP_LAYER = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.out_proj", "mlp.fc1", "mlp.fc2")
_QWEN2_BLOCK = ("attn.qkv", "attn.proj", "mlp.fc1", "mlp.fc2")
_QWEN2_5_BLOCK = ("attn.qkv", "attn.proj", "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")


@dataclass(frozen=True)
class ServedModel:
    """prefixes: what a name's beginning becomes, one rule after another.

    language, rest: the modules that can have an adapter, of the language tower and of tower and connector, with `*` for
    a layer's number.
    """

    prefixes: tuple[tuple[str, str], ...]
    language: frozenset[str]
    rest: frozenset[str]

    def module_of(self, key: str) -> str:
        """The module that the server looks this key's weight up for. Raises ValueError for a key that it refuses."""
        name = key.removeprefix(_WRAPPER)
        for before, after in self.prefixes:
            if name.startswith(before):
                name = after + name.removeprefix(before)
        found = _WEIGHT.fullmatch(name)
        if found is None:
            raise ValueError(f"{key} is no weight of an adapter")
        return re.sub(r"\b(layers|blocks)\.\d+\.", r"\1.*.", found["module"])

    def refused(self, keys: Iterable[str]) -> set[str]:
        """Keys for which the server refuses the whole adapter: no module of the model has such a last name."""
        known = {module.rpartition(".")[2] for module in self.language | self.rest}
        return {key for key in keys if self.module_of(key).rpartition(".")[2] not in known}

    def applied(self, keys: Iterable[str], whole: bool = False) -> set[str]:
        """Keys that change what the server computes. whole: with `enable_tower_connector_lora`."""
        known = self.language | self.rest if whole else self.language
        return {key for key in keys if self.module_of(key) in known}


_LANGUAGE = frozenset(f"language_model.model.layers.*.{module}" for module in _DECODER_LAYER)

LLAVA = ServedModel(
    prefixes=(
        ("model.language_model.", "language_model.model."),
        ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."),
        ("lm_head.", "language_model.lm_head."),
    ),
    language=_LANGUAGE,
    rest=frozenset(
        [f"vision_tower.vision_model.encoder.layers.*.{module}" for module in _CLIP_LAYER]
        + ["multi_modal_projector.linear_1", "multi_modal_projector.linear_2"]
    ),
)
_QWEN_PREFIXES = (
    ("model.language_model.", "language_model.model."),
    ("model.visual.", "visual."),
    ("lm_head.", "language_model.lm_head."),
    ("model.", "language_model.model."),
)
_MERGER = ("visual.merger.mlp.0", "visual.merger.mlp.2")
QWEN2_VL = ServedModel(
    _QWEN_PREFIXES,
    language=_LANGUAGE,
    rest=frozenset([*(f"visual.blocks.*.{module}" for module in _QWEN2_BLOCK), *_MERGER]),
)
QWEN2_5_VL = ServedModel(
    _QWEN_PREFIXES,
    language=_LANGUAGE,
    rest=frozenset([*(f"visual.blocks.*.{module}" for module in _QWEN2_5_BLOCK), *_MERGER]),
)
