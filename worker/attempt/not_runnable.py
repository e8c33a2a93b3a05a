"""Why an attempt can't run its job."""

from __future__ import annotations


class JobNotRunnable(Exception):
    """No attempt can run the job here. `code` is a slug. The message holds no personal data."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code
