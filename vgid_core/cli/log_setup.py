"""Logging of commands: plain warnings on standard error, without other libraries' progress bars and hints."""

from __future__ import annotations

import logging
import warnings

from terminal.console import stderr_console


def set_up_logs() -> None:
    """Sets up logging. Call before importing torch and transformers, some of which log on import."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[_StderrHandler()])
    from transformers.utils import logging as transformers_logging

    # Its own handler would print each warning a second time.
    logging.getLogger("huggingface_hub").handlers.clear()
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    transformers_logging.set_verbosity_error()  # type: ignore[no-untyped-call]


class _StderrHandler(logging.Handler):
    """Prints each distinct warning once on standard error."""

    def __init__(self) -> None:
        super().__init__()
        self._printed: set[str] = set()

    def emit(self, record: logging.LogRecord) -> None:
        """As `logging.Handler.emit`."""
        text = self.format(record)
        if text in self._printed:
            return
        self._printed.add(text)
        console = stderr_console()
        console.print(f"[yellow]{record.levelname.lower()}:[/yellow]", end=" ")
        console.print(text, markup=False)
