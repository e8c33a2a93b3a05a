"""All families of docs/reference/models.md: how to build a tiny one, and which scorer it takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from tests.vgid_core.families import gemma3, idefics3, internvl, llava_next, mllama, paligemma, qwen3_vl, smolvlm
from tests.vgid_core.support.tiny import SENTENCES, save_tiny_model
from tests.vgid_core.support.tiny_qwen import save_tiny_qwen
from tests.vgid_core.support.two_families import photo
from vgid_core import Pair, UnlearnConfig

# By the name that transformers gives the type.
FAMILIES: dict[str, Callable[[Path], Path]] = {
    "llava": save_tiny_model,
    "llava_next": llava_next.save_tiny,
    "qwen2_5_vl": save_tiny_qwen,
    "qwen3_vl": qwen3_vl.save_tiny,
    "gemma3": gemma3.save_tiny,
    "idefics3": idefics3.save_tiny,
    "smolvlm": smolvlm.save_tiny,
    "internvl": internvl.save_tiny,
    "paligemma": paligemma.save_tiny,
    "mllama": mllama.save_tiny,
}
DOCUMENTED = Path(__file__).parents[3] / "docs" / "reference" / "models.md"
CONFIG = UnlearnConfig.model_validate(
    {
        "device": "cpu",
        "method": {"name": "vgid", "noise_draws": 1},  # the same disturbed images at every step: losses compare
        "training": {
            "steps": 6,
            "forget_batch_size": 4,
            "retain_batch_size": 2,
            "learning_rate": 1e-2,
            "warmup_steps": 0,
        },
        "lora": {"rank": 16, "alpha": 16},
        "evaluation": {"max_new_tokens": 6, "audits": "none"},
    }
)


def documented_scorers() -> dict[str, str]:
    """From the table in the docs: scorer by type."""
    rows = re.findall(r"^\| [^|]+ \| `(\w+)` \| (\w+) \|", DOCUMENTED.read_text(encoding="utf-8"), re.MULTILINE)
    return dict(rows)


PACKED = [kind for kind, scorer in documented_scorers().items() if scorer == "packed"]


def pairs_of(first: int, count: int) -> list[Pair]:
    """Two questions a photo, photos of three sizes, answers of four lengths."""
    return [Pair(photo(first + i // 2), SENTENCES[i % 3], SENTENCES[4 + i % 4]) for i in range(count)]
