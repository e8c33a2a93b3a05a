"""The client of the HTTP service: `Client` for programs, the command `vgid` for people.

Of this project it imports `terminal`, in its commands alone, and `vgid_verify` once a release is to be checked.
"""

from vgid_client.client import Client
from vgid_client.errors import (
    ApiError,
    Conflict,
    DataFileError,
    IntegrityError,
    InvalidRequest,
    NotFound,
    QuotaExceeded,
    ServiceFailure,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
    UnverifiedRelease,
    VgidError,
)
from vgid_client.models import Artifact, Estimate, Event, Finding, Job, JobPage, Metric, Model
from vgid_client.submission import Pair, read_jsonl

__all__ = [
    "ApiError",
    "Artifact",
    "Client",
    "Conflict",
    "DataFileError",
    "Estimate",
    "Event",
    "Finding",
    "IntegrityError",
    "InvalidRequest",
    "Job",
    "JobPage",
    "Metric",
    "Model",
    "NotFound",
    "Pair",
    "QuotaExceeded",
    "ServiceFailure",
    "Unauthorized",
    "UnexpectedReply",
    "Unreachable",
    "UnverifiedRelease",
    "VgidError",
    "read_jsonl",
]
