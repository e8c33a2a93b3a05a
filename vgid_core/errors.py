"""Errors a run can end with. Each has a stable `code`; the texts hold no personal data."""

from __future__ import annotations


class UnlearnError(Exception):
    """A run that can't go on for a reason the caller can act on."""

    code = "unlearning-failed"


class ModelNotLoadable(UnlearnError):
    """The base model or its processor can't be loaded, or isn't an image-text-to-text model."""

    code = "model-not-loadable"


class ModelNotSupported(UnlearnError):
    """The model's type, processor or layout isn't one this version handles; said before any weights are read."""

    code = "model-not-supported"


class OutOfMemory(UnlearnError):
    """The accelerator's memory doesn't hold the model and a micro-batch."""

    code = "out-of-memory"


class TrainingDiverged(UnlearnError):
    """A loss or gradient stopped being a finite number; no adapter is written."""

    code = "training-diverged"


class AdapterUntrained(UnlearnError):
    """Some LoRA matrices never moved, so the adapter wouldn't do what its manifest says."""

    code = "adapter-untrained"


class RunStopped(UnlearnError):
    """The caller asked the run to end after the step at hand; what was trained so far is in its checkpoint."""

    code = "stopped"


class CheckpointUnusable(UnlearnError):
    """What an interrupted run left belongs to another run, or can't be read."""

    code = "checkpoint-unusable"
