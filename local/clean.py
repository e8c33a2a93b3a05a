"""Deletes what a home keeps outside its folder, for `make clean`: python -m local.clean HOME"""

from __future__ import annotations

import sys
from pathlib import Path

from local.errors import LocalError
from local.home import Home
from local.postgres import EmbeddedPostgres
from local.supervisor import PidFile


def clean(folder: Path) -> None:
    """Ends the processes that a killed stack has left, and deletes its ledger. Raises LocalError while a stack runs."""
    home = Home(folder)
    if not home.folder.is_dir():
        return
    with home.locked():
        PidFile(home.pid_file).end_leftovers()
        EmbeddedPostgres(home.postgres).destroy()


if __name__ == "__main__":
    try:
        clean(Path(sys.argv[1]))
    except LocalError as error:
        sys.exit(str(error))
