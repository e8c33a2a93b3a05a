"""A hub without a network: what is asked of it is copied from folders into a cache of huggingface_hub's layout."""

from __future__ import annotations

import fnmatch
import hashlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from huggingface_hub.errors import EntryNotFoundError
from transformers.utils import hub


class FakeHub:
    """Models by id. `fetched` are the files that were downloaded, `asked` all that were asked for, in their order."""

    def __init__(self, models: Mapping[str, Path], cache: Path) -> None:
        self._models, self._cache = models, cache
        self.fetched: list[str] = []
        self.asked: list[str] = []

    def hf_hub_download(self, source: str, filename: str, **_: Any) -> str:
        """One file into the cache, as huggingface_hub's function of that name does it."""
        self.asked.append(filename)
        revision = hashlib.sha1(source.encode()).hexdigest()
        home = self._cache / f"models--{source.replace('/', '--')}"
        (home / "refs").mkdir(parents=True, exist_ok=True)
        (home / "refs" / "main").write_text(revision)
        if not (self._models[source] / filename).is_file():
            raise EntryNotFoundError(filename)
        target = home / "snapshots" / revision / filename
        if not target.exists():
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(self._models[source] / filename, target)
            self.fetched.append(filename)
        return str(target)

    def snapshot_download(self, source: str, allow_patterns: list[str], **_: Any) -> None:
        """Several files, as huggingface_hub's function of that name does it."""
        for file in sorted(self._models[source].iterdir()):
            if any(fnmatch.fnmatch(file.name, pattern) for pattern in allow_patterns):
                self.hf_hub_download(source, file.name)


def fake_hub(models: Mapping[str, Path], cache: Path, monkeypatch: pytest.MonkeyPatch) -> FakeHub:
    """In the place of the real one for as long as `monkeypatch` holds."""
    found = FakeHub(models, cache)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)  # whatever isn't asked by the two below
    monkeypatch.setattr(hub, "hf_hub_download", found.hf_hub_download)
    monkeypatch.setattr(hub, "snapshot_download", found.snapshot_download)
    return found
