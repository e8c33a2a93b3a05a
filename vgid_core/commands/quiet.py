"""No bars and hints of other libraries between a command's own lines."""

from __future__ import annotations

import warnings


def quiet() -> None:
    """Call it before what imports torch: some of them speak while they are imported."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]
