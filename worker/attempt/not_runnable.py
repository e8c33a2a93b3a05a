"""Why an attempt can't run its job."""

from __future__ import annotations


class JobNotRunnable(Exception):
    """No attempt can run the job here. `code` is a slug. The message holds no personal data.

    request: the job that it is about, where several are run together; None if it is about all.
    """

    def __init__(self, code: str, detail: str, request: str | None = None) -> None:
        super().__init__(detail)
        self.code = code
        self.request = request
