"""Does ahead of a job what depends on its model alone: imports and reading the weights into host memory."""

from __future__ import annotations

import logging
from time import monotonic
from typing import TYPE_CHECKING

from jobs.catalog import Catalog
from jobs.settings import Settings
from worker.describe import describe

if TYPE_CHECKING:
    from vgid_core import HostModel

log = logging.getLogger(__name__)


def preload(settings: Settings, model: str) -> HostModel | None:
    """Imports what a job needs and reads the catalog's `model` into host memory.

    Returns None where that fails. The job will meet the same error and report it.
    """
    started = monotonic()
    try:
        import vgid_core.run  # noqa: F401  # torch, transformers and peft with it
        from vgid_core import read_base

        entry = Catalog.load(settings.catalog).model(model)
        base = None if entry is None else read_base(entry.path, entry.config)
    except Exception as error:
        log.warning("not ready for '%s': %s", model, describe(error))
        return None
    log.info("ready for '%s' after %.1f s", model, monotonic() - started)
    return base
