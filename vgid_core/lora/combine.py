"""Two adapters of one base as one adapter: their updates added, exactly, or cut to a rank.

PEFT's `add_weighted_adapter` does the same on a loaded base, by products as large as its weights. Neither is needed
here, and what a cut loses is known.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from vgid_core.data.file_digest import file_digest
from vgid_core.errors import ModelNotLoadable
from vgid_core.lora.load import ADAPTER_WEIGHTS, MANIFEST

COMBINED = "combined.json"
_A, _B = ".lora_A.weight", ".lora_B.weight"


@dataclass(frozen=True)
class Combined:
    """What was made. lost: the largest share of a module's update that the cut has taken, by Frobenius norm."""

    rank: int
    lost: float


@dataclass(frozen=True)
class _Adapter:
    """One adapter. factors: by module, A (rank x in) and B (out x rank), B with the scale in it."""

    config: LoraConfig
    factors: Mapping[str, tuple[Tensor, Tensor]]
    dtype: torch.dtype


def combine(adapters: Sequence[Path], out: Path, rank: int | None = None) -> Combined:
    """Writes the sum of the adapters in these folders into the folder `out`, for plain PEFT.

    rank: the largest that it may have; None for the sum of theirs, which loses nothing. Raises ModelNotLoadable for a
    folder that holds no LoRA that can be added (another kind, ranks by module, trained biases, other shapes), and for
    two adapters that forget.
    """
    found = [_read(folder) for folder in adapters]
    if out.resolve() in {folder.resolve() for folder in adapters}:
        raise ModelNotLoadable(f"'{out.name}' is one of the adapters: write to another folder")
    _require_one_of_a_line(adapters)
    whole = sum(adapter.config.r for adapter in found)
    used = whole if rank is None else min(rank, whole)
    weights: dict[str, Tensor] = {}
    lost = 0.0
    for module in sorted({name for adapter in found for name in adapter.factors}):
        a, b = _joined(module, found)
        if used < whole:
            a, b, share = _cut(a, b, used)
            lost = max(lost, share)
        weights[module + _A], weights[module + _B] = (_as_saved(each, found[0].dtype) for each in (a, b))
    out.mkdir(parents=True, exist_ok=True)
    save_file(weights, out / ADAPTER_WEIGHTS, metadata={"format": "pt"})
    _config(found, used).save_pretrained(str(out))
    _write_origin(adapters, found, used, lost, out)
    return Combined(used, lost)


def _read(folder: Path) -> _Adapter:
    try:
        config = LoraConfig.from_pretrained(str(folder))
        tensors = load_file(folder / ADAPTER_WEIGHTS)
    except (OSError, ValueError, TypeError, KeyError, SafetensorError) as error:
        raise ModelNotLoadable(f"'{folder.name}' is no adapter that can be read") from error
    _require_plain(config, tensors, folder.name)
    scale = config.lora_alpha / (sqrt(config.r) if config.use_rslora else config.r)
    modules = {name.removesuffix(_A) for name in tensors if name.endswith(_A)}
    factors = {name: (tensors[name + _A].float(), scale * tensors[name + _B].float()) for name in modules}
    return _Adapter(config, factors, next(iter(tensors.values())).dtype)


def _require_plain(config: LoraConfig, tensors: Mapping[str, Tensor], name: str) -> None:
    special = {
        "another kind than LoRA": config.peft_type != "LORA",
        "DoRA": config.use_dora,
        "trained biases": config.bias != "none" or config.lora_bias,
        "modules saved whole": bool(config.modules_to_save),
        "ranks or alphas by module": bool(config.rank_pattern or config.alpha_pattern),
        "weights kept the other way round": config.fan_in_fan_out,
        "weights that aren't LoRA's": any(not key.endswith((_A, _B)) for key in tensors) or not tensors,
        "matrices of another rank than its settings": any(
            tensors[key].shape[0] != config.r or key.removesuffix(_A) + _B not in tensors
            for key in tensors
            if key.endswith(_A)
        ),
        "values that aren't finite": any(not bool(each.isfinite().all()) for each in tensors.values()),
    }
    for what, found in special.items():
        if found:
            raise ModelNotLoadable(f"'{name}' can't be combined: it has {what}")


def _require_one_of_a_line(folders: Sequence[Path]) -> None:
    """Raises ModelNotLoadable if two adapters forget: a line's current one holds everybody, and two are too much."""
    made = [folder.name for folder in folders if (folder / MANIFEST).is_file() or (folder / COMBINED).is_file()]
    if len(made) > 1:
        raise ModelNotLoadable(f"'{made[1]}' forgets, too: a line's current release holds everybody; take that alone")


def _joined(module: str, adapters: Sequence[_Adapter]) -> tuple[Tensor, Tensor]:
    """A and B of the module's whole update, with zeros for an adapter that doesn't have the module."""
    given = [adapter.factors[module] for adapter in adapters if module in adapter.factors]
    width, height = given[0][0].shape[1], given[0][1].shape[0]
    if any(a.shape[1] != width or b.shape[0] != height for a, b in given):
        raise ModelNotLoadable(f"the adapters are for different bases: {module} has other shapes")
    parts = [
        adapter.factors.get(module, (torch.zeros(adapter.config.r, width), torch.zeros(height, adapter.config.r)))
        for adapter in adapters
    ]
    return torch.cat([a for a, _ in parts]), torch.cat([b for _, b in parts], dim=1)


def _cut(a: Tensor, b: Tensor, rank: int) -> tuple[Tensor, Tensor, float]:
    """The best A and B of this rank, and the share that they lack. The product itself is never made."""
    left, left_rest = torch.linalg.qr(b)
    right, right_rest = torch.linalg.qr(a.T)
    u, values, v = torch.linalg.svd(left_rest @ right_rest.T)
    total = float(values.norm())
    lost = float(values[rank:].norm()) / total if total else 0.0
    count = min(rank, len(values))
    roots = values[:count].sqrt()
    new_a, new_b = roots[:, None] * (v[:count] @ right.T), (left @ u[:, :count]) * roots
    padding = rank - count
    return (
        torch.cat([new_a, torch.zeros(padding, a.shape[1])]),
        torch.cat([new_b, torch.zeros(b.shape[0], padding)], dim=1),
        lost,
    )


def _as_saved(tensor: Tensor, dtype: torch.dtype) -> Tensor:
    return tensor.to(dtype).contiguous()


def _config(adapters: Sequence[_Adapter], rank: int) -> LoraConfig:
    first = adapters[0]
    modules = sorted({name.removeprefix("base_model.model.") for each in adapters for name in each.factors})
    return LoraConfig(
        r=rank,
        lora_alpha=rank,
        target_modules=modules,
        base_model_name_or_path=first.config.base_model_name_or_path,
        task_type=first.config.task_type,
        bias="none",
        inference_mode=True,
    )


def _write_origin(folders: Sequence[Path], adapters: Sequence[_Adapter], rank: int, lost: float, out: Path) -> None:
    """What it was made of. No verdict holds for it: it must be audited."""
    origin: dict[str, Any] = {
        "format": "vgid-combined/1",
        "adapters": [
            {"sha256": file_digest(folder / ADAPTER_WEIGHTS), "rank": adapter.config.r}
            for folder, adapter in zip(folders, adapters, strict=True)
        ],
        "rank": rank,
        "lost": lost,
    }
    (out / COMBINED).write_text(json.dumps(origin, indent=2) + "\n", encoding="utf-8")
