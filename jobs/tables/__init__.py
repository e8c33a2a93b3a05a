"""The ledger's tables. Each invariant is a constraint here, so that no code path can break it."""

from jobs.tables.base import Base, UtcDateTime
from jobs.tables.clients import ApiKey, Client, Right
from jobs.tables.job import Job
from jobs.tables.releases import Mark, Release, ReleaseJob, ReleaseState, ReplaySet, WithheldPairs
from jobs.tables.results import Artifact, EventKind, JobEvent, JobEvidence, JobMetric, MetricStage, SigningKey

__all__ = [
    "ApiKey",
    "Artifact",
    "Base",
    "Client",
    "EventKind",
    "Job",
    "JobEvent",
    "JobEvidence",
    "JobMetric",
    "Mark",
    "MetricStage",
    "Release",
    "ReleaseJob",
    "ReleaseState",
    "ReplaySet",
    "Right",
    "SigningKey",
    "UtcDateTime",
    "WithheldPairs",
]
