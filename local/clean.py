"""Deletes what one home keeps outside its folder, as `make clean` needs it: python -m local.clean HOME"""

from __future__ import annotations

import sys
from pathlib import Path

from local.errors import LocalError
from local.home import Home
from local.postgres import EmbeddedPostgres
from local.supervisor import PidFile


def clean(folder: Path) -> None:
    """Ends what a killed stack left and deletes its ledger. Raises LocalError while a stack runs there."""
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
