"""The demo's own copy of the model: what it says before, and what it says with the adapter that came back."""

from __future__ import annotations

from pathlib import Path

from peft import PeftModel

from vgid_core.config import UnlearnConfig
from vgid_core.data.pairs import PairSet
from vgid_core.evaluation.evaluate import generate_answers
from vgid_core.models.base import BaseModel
from vgid_core.models.load import load_base

# The CPU, so that both answers to compare come from the same arithmetic as the separate process's.
_CONFIG = UnlearnConfig(device="cpu", dtype="float32")


class Respondent:
    """A model that can be asked, first as it was shipped, then with an adapter."""

    def __init__(self, folder: Path) -> None:
        self._base: BaseModel = load_base(str(folder), _CONFIG)

    def put_on(self, adapter: Path) -> None:
        """From here on the model answers with the adapter in this folder."""
        PeftModel.from_pretrained(self._base.model, str(adapter)).eval()  # PEFT puts it into the model in place

    def answers(self, pairs: PairSet) -> list[str]:
        """What it says to each pair's question about its image, greedily."""
        return generate_answers(self._base, pairs, _CONFIG.evaluation)
