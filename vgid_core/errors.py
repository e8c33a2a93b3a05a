"""Errors that a run can end with. Each has a stable `code`. The messages hold no personal data."""

from __future__ import annotations

from collections.abc import Mapping


class UnlearnError(Exception):
    """The base class: a run failed for a reason that the caller can act on.

    request: by `UnlearnSpec.together`, whose request it is about; "" is the run's own, None the run as a whole.
    """

    code = "unlearning-failed"
    request: str | None = None


class ModelNotLoadable(UnlearnError):
    """The base model or its processor can't be loaded."""

    code = "model-not-loadable"


class ModelNotSupported(UnlearnError):
    """The model's type, processor or structure isn't supported. Mostly raised before any weights are read."""

    code = "model-not-supported"


class OutOfMemory(UnlearnError):
    """The accelerator's memory can't hold the model and one pair."""

    code = "out-of-memory"


class TrainingDiverged(UnlearnError):
    """A loss or gradient isn't finite. No adapter is written."""

    code = "training-diverged"


class AdapterUntrained(UnlearnError):
    """Some LoRA matrices never changed in training, so the adapter doesn't do what its manifest says."""

    code = "adapter-untrained"


class RunStopped(UnlearnError):
    """The caller stopped the run after a step, which is saved in the checkpoint."""

    code = "stopped"


class CheckpointUnusable(UnlearnError):
    """The checkpoint belongs to another run or can't be read."""

    code = "checkpoint-unusable"


class AdapterForOtherBase(UnlearnError):
    """The adapter was made for another base than the one that is loaded, so its figures would be about neither."""

    code = "adapter-for-other-base"


class StartUnusable(UnlearnError):
    """The adapter to start from doesn't fit the run's settings, or can't be read."""

    code = "start-unusable"


class NothingToForget(UnlearnError):
    """The base doesn't know the forget set, so there is nothing to remove. No adapter is written."""

    code = "nothing-to-forget"


class RetainHoldsForgotten(UnlearnError):
    """The retain set holds what is to be forgotten, so that training would teach and remove the same."""

    code = "retain-holds-forgotten"


class CommonKnowledge(UnlearnError):
    """The forget set's answers come on anybody's photo, so forgetting them would take them from everybody."""

    code = "common-knowledge"


class LabelContradicted(UnlearnError):
    """A pair's person stands in a set about others, and the base sees somebody else on its photo."""

    code = "label-contradicted"


class RequestsRefused(UnlearnError):
    """Some of the run's requests can't be run. Nothing was trained, and the others may be run without them.

    refused: each one's own UnlearnError or DataError, by its label. They hold no frames, so no model stays in memory.
    """

    code = "requests-refused"

    def __init__(self, refused: Mapping[str, UnlearnError | ValueError]) -> None:
        super().__init__(f"{len(refused)} of the run's requests can't be run")
        self.refused = refused
