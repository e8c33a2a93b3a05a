"""The message that tells an attempt's process which job to run: one line on its standard input."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID


@dataclass(frozen=True)
class AttemptSpec:
    """The job to run, the token that holds it, and the attempt's work folder.

    Marker files in the folder tell the supervisor how far the process is.
    """

    job_id: UUID
    token: UUID
    folder: Path

    def to_line(self) -> bytes:
        """The spec as one line."""
        return json.dumps([str(self.job_id), str(self.token), str(self.folder)]).encode() + b"\n"

    @classmethod
    def from_line(cls, line: bytes) -> AttemptSpec:
        """Reads what `to_line` wrote."""
        job_id, token, folder = json.loads(line)
        return cls(UUID(job_id), UUID(token), Path(folder))

    def mark_started(self) -> None:
        """Records that the process has begun to work on the job. If it dies from here on, the attempt has failed."""
        self._started.touch()

    @property
    def started(self) -> bool:
        """Whether a process has begun to work on the job."""
        return self._started.exists()

    def mark_loaded(self) -> None:
        """Records that the model is on its device."""
        self._loaded.touch()

    @property
    def loaded(self) -> bool:
        """Whether the model is on its device."""
        return self._loaded.exists()

    @property
    def _started(self) -> Path:
        return self.folder / "started"

    @property
    def _loaded(self) -> Path:
        return self.folder / "loaded"
