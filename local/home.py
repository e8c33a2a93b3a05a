"""The home: the folder in which one local stack keeps everything. Its owner alone can read it."""

from __future__ import annotations

import base64
import fcntl
import os
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from local.errors import LocalError


class Home:
    """The paths below one home folder, and the secrets that are made there once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder.expanduser().resolve()

    @classmethod
    def from_environment(cls) -> Home:
        """The home that VGID_HOME names, else ~/.vgid."""
        return cls(Path(os.environ.get("VGID_HOME", "~/.vgid")))

    @property
    def logs(self) -> Path:
        """The folder of every process's log."""
        return self.folder / "logs"

    @property
    def blobs(self) -> Path:
        """The folder of encrypted inputs and of artifacts."""
        return self.folder / "blobs"

    @property
    def postgres(self) -> Path:
        """The folder of the ledger's Postgres."""
        return self.folder / "postgres"

    @property
    def catalog(self) -> Path:
        """The file that lists the models. It may be edited by hand."""
        return self.folder / "catalog.toml"

    @property
    def api_key(self) -> Path:
        """The file that holds the key of the client `local`."""
        return self.folder / "api-key"

    @property
    def environment(self) -> Path:
        """The file with the running stack's settings, for a shell to source."""
        return self.folder / "environment"

    @property
    def signing_keys(self) -> Path:
        """The folder of the signing keys' private halves."""
        return self.folder / "signing-keys"

    @property
    def public_keys(self) -> Path:
        """The file of the signing keys' public halves, by which `vgid verify` checks."""
        return self.folder / "vgid-keys.json"

    @property
    def pid_file(self) -> Path:
        """The file that lists the stack's processes."""
        return self.folder / "pids"

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Makes the folder and locks it until the block ends. Raises LocalError when another stack has locked it.

        The kernel frees the lock with the process, however that ends.
        """
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        with (self.folder / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = lock.read().strip() or "unknown"
                raise LocalError(f"a stack runs in {self.folder} already (process {holder}); stop it first") from None
            lock.truncate(0)
            lock.write(f"{os.getpid()}\n")
            lock.flush()
            yield

    def secret_key(self) -> str:
        """The installation's secret key: base64 of 32 random bytes. The first call makes it."""
        path = self.folder / "secret-key"
        if not path.exists():
            write_private(path, base64.b64encode(secrets.token_bytes(32)).decode() + "\n")
        return path.read_text().strip()

    def write_environment(self, variables: Mapping[str, str]) -> None:
        """Writes the file `environment`, as lines that a POSIX shell can source."""
        write_private(self.environment, "".join(f"export {name}='{value}'\n" for name, value in variables.items()))


def write_private(path: Path, text: str) -> None:
    """Writes a file that its owner alone can read. After a crash it is whole or unchanged."""
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    temporary.replace(path)
