"""What an interrupted run leaves behind, so that the next one goes on from there to the very same adapter.

One safetensors file holds the adapter's float32 masters and the optimiser's moments, and in its header a JSON text:
the step, the schedule, and what the run was. Random states aren't in it: batches and a method's own draws are made
again from the seed, step by step, which takes no training. No image and no text of the data is in it.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
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

_FORMAT = "vgid-checkpoint/3"
_FILE = "checkpoint.safetensors"
# Around a name of chance. Nothing else may match: the folder can be one in which somebody keeps files of their own.
_HALF_WRITTEN = (f"{_FILE}.", ".partial")


@dataclass(frozen=True)
class Checkpoint:
    """Where a run stood after `step` steps. `tensors` are `MasterAdamW.state`; `schedule` that of the learning rate.

    checks: what `early_stop.Watch` has seen so far.
    """

    step: int
    micro_batch_size: int
    schedule: Mapping[str, Any]
    checks: Sequence[Mapping[str, Any]]
    tensors: Mapping[str, Tensor] = field(repr=False)


class Checkpoints:
    """The checkpoint of one run in a folder of its own, replaced at once or not at all.

    `identity` says what the run is, by name; a checkpoint with another one is refused. `seconds` is how long a run goes
    on before its next checkpoint; with 0, each step leaves one. `stop` says after a step whether the run is to end with
    it (RunStopped) once it is written down.
    """

    def __init__(
        self, folder: Path, identity: Mapping[str, str], seconds: float, stop: Callable[[], bool] | None = None
    ) -> None:
        """Makes the folder, for this account alone, if it isn't there."""
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder = folder
        self._identity = dict(identity)
        self._seconds = seconds
        self._stop = stop
        self._last = time.monotonic()

    def require_own(self) -> None:
        """Raises CheckpointUnusable when what is there is another run's or damaged."""
        self._read(with_tensors=False)

    def load(self) -> Checkpoint | None:
        """The last one, if there is any. Raises as `require_own` does."""
        return self._read(with_tensors=True)

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

    def asked_to_stop(self) -> bool:
        """Whether the run is to end with the step that was just done."""
        return self._stop is not None and self._stop()

    @property
    def due(self) -> bool:
        """Whether enough time has passed for another one."""
        return time.monotonic() - self._last >= self._seconds

    def save(self, checkpoint: Checkpoint) -> None:
        """Replaces the last one. A disk that refuses it costs the run nothing but a line in the log.

        A folder that somebody deleted meanwhile is made again: a run may last longer than a temporary folder does.
        """
        self._last = time.monotonic()
        progress = {name: value for name, value in vars(checkpoint).items() if name != "tensors"}
        state = {"format": _FORMAT, "identity": self._identity, "progress": progress}
        tensors = {name: tensor.contiguous() for name, tensor in checkpoint.tensors.items()}
        try:
            # Without its parents: they would be open to others, and aren't this run's.
            self._folder.mkdir(mode=0o700, exist_ok=True)
            _delete_half_written(self._folder)
            prefix, suffix = _HALF_WRITTEN
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
            told = [name for name in names if not any(name.startswith(f"{table}.") for table in names)]
            raise CheckpointUnusable(f"the checkpoint is another run's, which differs in {', '.join(told)}")


def delete_checkpoint(folder: Path) -> None:
    """Leaves nothing of a run in the folder, and no empty folder. Files of others stay, and with them the folder."""
    _delete_half_written(folder)
    (folder / _FILE).unlink(missing_ok=True)
    with suppress(OSError):  # somebody else's files are in it
        folder.rmdir()


def _delete_half_written(folder: Path) -> None:
    for file in folder.glob("*".join(_HALF_WRITTEN)):
        file.unlink(missing_ok=True)


def checkpoint_file(folder: Path) -> Path:
    """Where a run that leaves its checkpoints in `folder` writes them."""
    return folder / _FILE


def is_left(folder: Path) -> bool:
    """Whether a run has left a checkpoint in the folder."""
    return checkpoint_file(folder).is_file()


def identity(base: BaseModel, digests: Mapping[str, str], config: UnlearnConfig) -> dict[str, str]:
    """What must be the same for a run to go on: base, each set and each setting by digests, and how it is run.

    The latter is the precision and the kind of device, which the configuration may leave open ("auto"), and vgid's
    version, since another one may compute something else from the same settings.
    """
    how = {"dtype": str(base.dtype), "device": base.device.type, "vgid": version("vgid")}
    data = {f"data.{name}": digest for name, digest in digests.items()}
    return {"base": base.digest, **how, **data, **dict(_by_key("config", config.model_dump(mode="json")))}


def _by_key(key: str, value: Any) -> Iterator[tuple[str, str]]:
    """A digest of each setting by its dotted key. That of a table is of its name, if it has one, as a method does.

    So where a table is another one, or none, its own key differs, whatever differs inside.
    """
    is_table = isinstance(value, Mapping)
    own = {"name": value.get("name")} if is_table else value
    yield key, hashlib.sha256(json.dumps(own, sort_keys=True).encode()).hexdigest()
    for name, inside in value.items() if is_table else ():
        if name != "name":
            yield from _by_key(f"{key}.{name}", inside)


def _flush(path: Path) -> None:
    """Has the disk keep what was written, also where the power fails."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
