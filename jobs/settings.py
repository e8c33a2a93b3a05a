"""The settings, read from environment variables named VGID_<FIELD> and validated before anything connects."""

from __future__ import annotations

import base64
import binascii
from functools import lru_cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

SECRET_KEY_BYTES = 32
# Everyone who reads this file knows it. It is for a developer's machine and refused in production.
DEVELOPMENT_SECRET_KEY = base64.b64encode(b"vgid development key, not secret").decode()
# 32 random bytes practically always hold more different values. A key with fewer was typed by hand.
_MIN_DIFFERENT_BYTES = 12
_DRIVER = "postgresql+psycopg"


def normalised_url(database_url: str) -> str:
    """`database_url` with the psycopg 3 driver named. Raises ValueError unless it is a Postgres URL."""
    try:
        url = make_url(database_url)
    except ArgumentError:
        raise ValueError("isn't a database URL such as postgresql://user:password@host/name") from None
    if url.drivername not in ("postgres", "postgresql", _DRIVER):
        raise ValueError("must start with postgresql:// (no other database is supported)")
    return url.set(drivername=_DRIVER).render_as_string(hide_password=False)


class Settings(BaseSettings):
    """The settings of one installation. Durations are in seconds.

    Neither the repr nor a validation error shows a secret or a connection URL.
    """

    model_config = SettingsConfigDict(env_prefix="VGID_", extra="ignore", frozen=True, hide_input_in_errors=True)

    environment: Literal["development", "production"] = "production"
    database_url: str = Field(repr=False, description="postgresql://user:password@host/name")
    redis_url: str = Field(repr=False, description="redis://:password@host:6379/0")
    blob_dir: Path = Field(description="folder of encrypted inputs and of artifacts, shared by api and worker")
    catalog: Path = Field(description="TOML file that lists the models")
    secret_key: SecretStr = Field(description="base64 of 32 random bytes: wraps data keys, keys the hashes")
    signing_keys: Path | None = Field(default=None, description="folder of the signing keys; workers need it, alone")
    tsa_url: str | None = Field(
        default=None, pattern=r"^https?://", description="time stamping authority (RFC 3161) that dates statements"
    )
    tsa_roots: Path | None = Field(default=None, description="PEM file of the authority's root certificates")

    min_free_bytes: int = Field(
        default=1024**3, ge=0, description="below so much free space no job starts, and the API isn't ready"
    )
    max_body_bytes: int = Field(default=64 * 1024 * 1024, gt=0)
    max_pairs: int = Field(default=5000, gt=0, description="forget, retain and probes of one job together")
    max_image_bytes: int = Field(default=10 * 1024 * 1024, gt=0)
    max_image_pixels: int = Field(default=40_000_000, gt=0)
    max_request_pixels: int = Field(default=2_000_000_000, gt=0, description="of all images of one request together")
    max_image_seconds: float = Field(default=5, gt=0, description="processor time to decode one image")
    image_formats: tuple[str, ...] = Field(default=("JPEG", "PNG", "WEBP"), min_length=1)
    checks_at_once: int = Field(default=4, gt=0, description="requests; one client gets at most half of them")
    check_processor_seconds: float = Field(default=20, gt=0, description="processor time to check one request")
    check_seconds: float = Field(default=120, gt=0, description="for the check of one request, images and all")
    check_memory_bytes: int = Field(default=2 * 1024**3, gt=0, description="address space of the check's process")

    max_connections: int = Field(default=1000, gt=0, description="open at once, below the limit of open files")
    max_connections_per_peer: int = Field(
        default=100, gt=0, description="of one IPv4 address or /64 of IPv6; behind a proxy all come from the proxy's"
    )
    max_head_bytes: int = Field(
        default=32 * 1024, gt=0, description="a request's line and headers; as many of trailers"
    )
    head_seconds: float = Field(default=10, gt=0, description="for a request's line and headers to arrive")
    min_body_rate: float = Field(default=16 * 1024, ge=0, description="bytes a second at which a body has to arrive")
    database_seconds: float = Field(default=5, gt=0, description="for one answer of the database to the API")
    answer_seconds: float = Field(
        default=15, gt=0, description="for an answer of the API to begin, but to a request with a body of pairs"
    )
    metrics_listen: str | None = Field(
        default=None, pattern=r":[0-9]{1,5}$", description="host:port where Prometheus reads /metrics, without a key"
    )

    lease_seconds: float = Field(default=30, gt=0, description="a claim that isn't renewed for so long is lost")
    heartbeat_seconds: float = Field(default=5, gt=0)
    stall_seconds: float = Field(default=1800, gt=0, description="an attempt without progress for so long is killed")
    loading_seconds: float = Field(
        default=3 * 3600, gt=0, description="the same while the model loads, since a download reports no progress"
    )
    max_attempts: int = Field(default=3, ge=1)
    run_requests: int = Field(
        default=5, ge=1, le=100, description="requests for one model that are run as one, if so many wait"
    )
    gather_seconds: float = Field(
        default=0, ge=0, description="a request that isn't due soon waits for so long for others to be run with"
    )
    result_seconds: float = Field(
        default=12 * 3600, ge=0, description="a finished training waits for so long for storage, or for a signing key"
    )
    reap_seconds: float = Field(default=5, gt=0, description="pause between two rounds of the reaper")
    cancel_grace_seconds: float = Field(default=10, gt=0, description="from SIGTERM to SIGKILL")
    checkpoint_dir: Path | None = Field(
        default=None, description="folder of checkpoints, on a disk that outlives a worker; else among temporary files"
    )
    checkpoint_seconds: float = Field(
        default=60, ge=0, description="pause between two checkpoints, from which another attempt resumes"
    )
    warm: bool = Field(
        default=True, description="keep a spare process per accelerator, with the last job's model in host memory"
    )

    @property
    def secret_key_bytes(self) -> bytes:
        """The secret key, decoded: 32 bytes."""
        return _decode(self.secret_key.get_secret_value())

    @field_validator("database_url")
    @classmethod
    def _postgres_only(cls, value: str) -> str:
        return normalised_url(value)

    @field_validator("redis_url")
    @classmethod
    def _redis_only(cls, value: str) -> str:
        if not value.startswith(("redis://", "rediss://")):
            raise ValueError("must start with redis:// or rediss://")
        return value

    @field_validator("secret_key")
    @classmethod
    def _secret_key_is_long_enough(cls, value: SecretStr) -> SecretStr:
        if len(_decode(value.get_secret_value())) != SECRET_KEY_BYTES:
            raise ValueError(f"must be base64 of exactly {SECRET_KEY_BYTES} bytes")
        return value

    @model_validator(mode="after")
    def _secret_key_is_secret(self) -> Self:
        if self.environment == "production":
            key = self.secret_key_bytes
            if key == _decode(DEVELOPMENT_SECRET_KEY) or len(set(key)) < _MIN_DIFFERENT_BYTES:
                raise ValueError("secret_key isn't secret: make one with `openssl rand -base64 32`")
        return self

    @model_validator(mode="after")
    def _lease_outlives_a_lost_heartbeat(self) -> Self:
        if self.lease_seconds < 2 * self.heartbeat_seconds:
            raise ValueError("lease_seconds must be at least twice heartbeat_seconds")
        return self


@lru_cache(maxsize=1)
def get_settings() -> Settings:
    """Reads the settings once per process. Raises pydantic.ValidationError, which names what is missing or wrong."""
    return Settings()  # type: ignore[call-arg]  # the environment supplies the required fields


def _decode(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"must be base64 of exactly {SECRET_KEY_BYTES} bytes") from None
