"""No bars and hints of other libraries between a command's own lines, and warnings in words."""

from __future__ import annotations

import logging
import warnings

from vgid_core.cli.exit_codes import notices


def set_up_logs() -> None:
    """Call it before what imports torch: some of them speak while they are imported."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_InWords()])
    from transformers.utils import logging as transformers_logging

    # Its own handler says once more, raw, what comes here as a warning.
    logging.getLogger("huggingface_hub").handlers.clear()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]


class _InWords(logging.Handler):
    """A line on standard error for each warning, however often it comes."""

    def __init__(self) -> None:
        super().__init__()
        self._said: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """As `logging.Handler.emit`."""
        text = self.format(record)
        if text in self._said:
            return
        self._said.add(text)
        console = notices()
        console.print(f"[yellow]{record.levelname.lower()}:[/yellow]", end=" ")
        console.print(text, markup=False)
