"""Checkpoints, from which an interrupted run resumes to the very same adapter.

A checkpoint is one safetensors file: the adapter's float32 master weights, the optimiser's moments, and a JSON header
with the step, the schedule and the run's identity. It holds no random state, since batches and a method's draws are
replayed from the seed without training. It holds no image and no text of the data.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from vgid_core.config import UnlearnConfig
from vgid_core.errors import CheckpointUnusable
from vgid_core.models.base import BaseModel

log = logging.getLogger(__name__)

_FORMAT = "vgid-checkpoint/4"
_FILE = "checkpoint.safetensors"
# Prefix and suffix of a temporary file's name. No other file may match: users can keep their own files in the folder.
_PARTIAL = (f"{_FILE}.", ".partial")


@dataclass(frozen=True)
class Checkpoint:
    """The state of a run after `step` steps.

    schedule: state of the learning-rate schedule. tensors: `MasterAdamW.state`.
    """

    step: int
    micro_batch_size: int
    schedule: Mapping[str, Any]
    tensors: Mapping[str, Tensor] = field(repr=False)


class Checkpoints:
    """Reads and writes the checkpoint of one run in a folder. Each save replaces the last one atomically.

    identity: digests that name the run; a checkpoint with another identity is refused. seconds: the time between
    checkpoints; with 0 each step saves one. stop: called after each step; if true, the run saves a checkpoint and ends
    with RunStopped. fresh: the folder's checkpoint is that of an earlier attempt of this run, which the first save
    replaces; until then a resumed run begins at that attempt's end.
    """

    def __init__(
        self,
        folder: Path,
        identity: Mapping[str, str],
        seconds: float,
        stop: Callable[[], bool] | None = None,
        fresh: bool = False,
    ) -> None:
        """Creates the folder, readable by this account alone, if it doesn't exist."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._identity = dict(identity)
        self._seconds = seconds
        self._stop = stop
        self._fresh = fresh
        self._last = time.monotonic()

    def require_own(self) -> None:
        """Raises CheckpointUnusable if the folder's checkpoint is damaged or another run's."""
        self._read(with_tensors=False)

    def load(self) -> Checkpoint | None:
        """The last checkpoint, or None. Raises CheckpointUnusable as `require_own` does."""
        return None if self._fresh else self._read(with_tensors=True)

    def _read(self, with_tensors: bool) -> Checkpoint | None:
        path = self._folder / _FILE
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="pt") as stored:
                state = json.loads((stored.metadata() or {})["vgid"])
                self._require_same_run(state)
                names = stored.keys() if with_tensors else []
                return Checkpoint(tensors={name: stored.get_tensor(name) for name in names}, **state["progress"])
        except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
            raise CheckpointUnusable(f"the checkpoint can't be read: {type(error).__name__}") from error

    def stop_requested(self) -> bool:
        """Whether the run is to end after this step."""
        return self._stop is not None and self._stop()

    @property
    def due(self) -> bool:
        """Whether it is time for the next checkpoint."""
        return time.monotonic() - self._last >= self._seconds

    def save(self, checkpoint: Checkpoint) -> None:
        """Replaces the last checkpoint. If the disk fails, logs a warning and lets the run go on.

        Recreates the folder if it was deleted: temporary folders can be cleaned up during a long run.
        """
        self._last = time.monotonic()
        progress = {name: value for name, value in vars(checkpoint).items() if name != "tensors"}
        state = {"format": _FORMAT, "identity": self._identity, "progress": progress}
        tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
        try:
            # Not its parents, which mode= wouldn't protect from other accounts.
            self._folder.mkdir(mode=0o700, exist_ok=True)
            _delete_partial(self._folder)
            prefix, suffix = _PARTIAL
            descriptor, name = tempfile.mkstemp(suffix, prefix, self._folder)
            os.close(descriptor)
            save_file(tensors, name, metadata={"vgid": json.dumps(state)})
            _flush(Path(name))
            os.replace(name, self._folder / _FILE)
            _flush(self._folder)
        except (OSError, SafetensorError) as error:
            log.warning("no checkpoint at step %d: %s", checkpoint.step, type(error).__name__)

    def _require_same_run(self, state: Mapping[str, Any]) -> None:
        if state["format"] != _FORMAT:
            raise CheckpointUnusable("the checkpoint was written by another version of vgid")
        theirs = state["identity"]
        names = sorted(name for name in {*theirs, *self._identity} if theirs.get(name) != self._identity.get(name))
        if names:
            outermost = [name for name in names if not any(name.startswith(f"{table}.") for table in names)]
            raise CheckpointUnusable(f"the checkpoint is another run's, which differs in {', '.join(outermost)}")


def delete_checkpoint(folder: Path) -> None:
    """Deletes the run's files, and the folder if it is then empty."""
    _delete_partial(folder)
    (folder / _FILE).unlink(missing_ok=True)
    with suppress(OSError):  # it holds other files
        folder.rmdir()


def _delete_partial(folder: Path) -> None:
    for file in folder.glob("*".join(_PARTIAL)):
        file.unlink(missing_ok=True)


def checkpoint_file(folder: Path) -> Path:
    """The file of a run's checkpoint in `folder`."""
    return folder / _FILE


def has_checkpoint(folder: Path) -> bool:
    """Whether the folder holds a checkpoint."""
    return checkpoint_file(folder).is_file()


def identity(base: BaseModel, digests: Mapping[str, str], config: UnlearnConfig) -> dict[str, str]:
    """What must be the same for a run to resume: digests of the base, of each set and of each setting; the environment.

    The environment is the precision and the type of device, which settings can leave open ("auto"), and vgid's version.
    """
    environment = {"dtype": str(base.dtype), "device": base.device.type, "vgid": version("vgid")}
    data = {f"data.{name}": digest for name, digest in digests.items()}
    settings = dict(_setting_digests("config", config.model_dump(mode="json")))
    return {"base": base.digest, **environment, **data, **settings}


def _setting_digests(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """Digests of all settings by dotted key. A table's own digest is of its `name`, such as a method's.

    So if a table is replaced or missing, its own key differs, whatever its settings are.
    """
    is_table = isinstance(value, Mapping)
    own = {"name": value.get("name")} if is_table else value
    yield key, hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
    for name, inside in value.items() if is_table else ():
        if name != "name":
            yield from _setting_digests(f"{key}.{name}", inside)


def _flush(path: Path) -> None:
    """Flushes a file or folder to disk, so that it survives a power failure."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
