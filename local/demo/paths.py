"""The folders of the shipped checkpoints."""

from __future__ import annotations

from pathlib import Path

CHECKPOINTS = Path(__file__).parent / "checkpoints"
BASE = CHECKPOINTS / "base"  # knows all sixty people
REFERENCE_MODEL = CHECKPOINTS / "retain_only"  # trained in the same way without the six people whom the demo forgets
