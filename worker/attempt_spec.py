"""What an attempt's process is to run, sent by the supervisor as one line on its standard input."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID


@dataclass(frozen=True)
class AttemptSpec:
    """The job to run, the token that holds it, and the folder to write into."""

    job_id: UUID
    token: UUID
    folder: Path

    def line(self) -> bytes:
        """The spec as it is sent."""
        return json.dumps([str(self.job_id), str(self.token), str(self.folder)]).encode() + b"\n"

    @classmethod
    def of_line(cls, line: bytes) -> AttemptSpec:
        """The spec that was sent."""
        job_id, token, folder = json.loads(line)
        return cls(UUID(job_id), UUID(token), Path(folder))

    def mark_taken(self) -> None:
        """Says that work begins: from here on, the process's death is the attempt's."""
        self._taken.touch()

    @property
    def taken(self) -> bool:
        """Whether a process has begun to work on it."""
        return self._taken.exists()

    def mark_loaded(self) -> None:
        """Says that the model is where the job needs it."""
        self._loaded.touch()

    @property
    def loaded(self) -> bool:
        """Whether the job has its model."""
        return self._loaded.exists()

    @property
    def _taken(self) -> Path:
        return self.folder / "taken"

    @property
    def _loaded(self) -> Path:
        return self.folder / "loaded"
