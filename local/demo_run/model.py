"""The demo's own copy of the model, which answers questions before and after it gets the adapter."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel

from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import PairSet
from vgid_core.evaluation.evaluate import generate_answers
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base

# On the CPU in float32, like the isolated process, so that all answers come from the same arithmetic.
_CONFIG = UnlearnConfig(device="cpu", dtype="float32")


class DemoModel:
    """The model in `folder`, first as it was shipped, then with an adapter."""

    def __init__(self, folder: Path) -> None:
        self._base: BaseModel = load_base(str(folder), _CONFIG)

    def load_adapter(self, adapter: Path) -> None:
        """Adds the adapter in this folder to the model."""
        PeftModel.from_pretrained(self._base.model, str(adapter)).eval()  # PEFT changes the model in place

    def answers(self, pairs: PairSet) -> list[str]:
        """The greedy answer to each pair's question about its image."""
        return generate_answers(self._base, pairs, _CONFIG.evaluation)
