"""What one client may use. The operator sets it with `vgid keys limits`; a client's row holds what differs."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

MAX_PRIORITY = 10
MAX_REPLAY_DAYS = 3650
_COUNT = 1_000_000_000  # above any real limit, and far below what Postgres's integer holds
_VOLUME = 1_000_000_000_000_000


class ClientLimits(BaseModel):
    """The limits of one client. The defaults suit one office."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, hide_input_in_errors=True)

    requests_per_minute: int = Field(default=600, ge=1, le=_COUNT, description="requests of any kind in a minute")
    upload_bytes_per_hour: int = Field(
        default=2 * 1024**3, ge=0, le=_VOLUME, description="bytes of forget requests in an hour"
    )
    pixels_per_hour: int = Field(
        default=20_000_000_000, ge=0, le=_VOLUME, description="pixels of images that are decoded in an hour"
    )
    processor_seconds_per_hour: int = Field(
        default=600, ge=0, le=_COUNT, description="processor time of checks of its requests in an hour, in seconds"
    )
    uploads_at_once: int = Field(
        default=8, ge=0, le=_COUNT, description="requests with pairs that arrive or are checked at a time"
    )
    queued_jobs: int = Field(default=100, ge=0, le=_COUNT, description="jobs that wait at a time")
    running_jobs: int = Field(default=2, ge=0, le=_COUNT, description="jobs that run at a time; 0 holds them all back")
    run_seconds: int = Field(
        default=86_400, ge=60, le=_COUNT, description="how long an attempt at one of its jobs may take, in seconds"
    )
    queued_pairs: int = Field(default=50_000, ge=0, le=_COUNT, description="pairs of all waiting jobs together")
    queued_steps: int = Field(
        default=500_000,
        ge=0,
        le=_COUNT,
        description="training steps of all waiting jobs together, at the default batch sizes",
    )
    urgent_jobs_per_day: int = Field(
        default=20, ge=0, le=_COUNT, description="jobs that go by their deadline in a day; the others take turns"
    )
    max_priority: int = Field(
        default=0, ge=-MAX_PRIORITY, le=MAX_PRIORITY, description="highest priority that its requests may ask for"
    )

    replay_days: int = Field(
        default=0,
        ge=0,
        le=MAX_REPLAY_DAYS,
        description="how long a replay set of each request is kept where it doesn't say; 0 keeps none",
    )
    max_replay_days: int = Field(
        default=MAX_REPLAY_DAYS, ge=0, le=MAX_REPLAY_DAYS, description="how long a replay set may be kept at most"
    )
    replay_pairs: int = Field(default=20_000, ge=0, le=_COUNT, description="pairs that its replay sets hold together")

    def differing(self) -> dict[str, int]:
        """The limits that aren't the defaults, as a client's row holds them."""
        return self.model_dump(exclude_defaults=True)
