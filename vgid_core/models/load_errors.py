"""Messages for models that can't be loaded, by the type of the error."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from huggingface_hub.errors import (
    GatedRepoError,
    HFValidationError,
    LocalEntryNotFoundError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
)

from vgid_core.errors import ModelNotLoadable
from vgid_core.models.name import name_of

# The first match counts: a GatedRepoError is a RepositoryNotFoundError, too.
_REASONS: dict[type[Exception] | tuple[type[Exception], ...], str] = {
    GatedRepoError: "its owners let only those have it who ask on the hub and log in (hf auth login)",
    RepositoryNotFoundError: "there is no such folder here, and the hub has no such model, or not for this account",
    (LocalEntryNotFoundError, OfflineModeIsEnabled): "there is no such folder here and no copy from the hub, "
    "and the hub couldn't be reached",
    HFValidationError: "there is no such folder here",
}


def not_loadable(source: str, error: Exception, otherwise: str | None = None) -> ModelNotLoadable:
    """The error to raise when reading `source`, a folder or hub id, failed with `error`. Repeats no library's text.

    otherwise: the reason for an unknown type of error, by default the type's name.
    """
    if Path(source).is_dir() and not (Path(source) / "config.json").is_file():
        return ModelNotLoadable(f"'{name_of(source)}' can't be loaded: the folder holds no config.json")
    kinds = list(_causes(error))
    reasons = (why for kind, why in _REASONS.items() if any(isinstance(cause, kind) for cause in kinds))
    return ModelNotLoadable(f"'{name_of(source)}' can't be loaded: {next(reasons, otherwise or type(error).__name__)}")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """The error and its causes: transformers wraps the hub library's errors in an OSError."""
    while error is not None:
        yield error
        error = error.__cause__
