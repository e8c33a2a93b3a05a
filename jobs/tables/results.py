"""What a job leaves: its history, its figures, its adapter, its evidence; and the keys that sign."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import BigInteger, CheckConstraint, ForeignKey, Index, String, func
from sqlalchemy.orm import Mapped, mapped_column

from jobs.tables.base import Base

EventKind = Literal["state", "phase", "progress", "metrics", "release"]
MetricStage = Literal["before", "after"]


class JobEvent(Base):
    """One event of a job's history. Events of superseded attempts stay. `data` holds no personal data."""

    __tablename__ = "job_events"
    __table_args__ = (
        CheckConstraint("kind IN ('state', 'phase', 'progress', 'metrics', 'release')", name="kind"),
        Index("ix_job_events_history", "job_id", "id"),
    )

    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"))
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    kind: Mapped[EventKind] = mapped_column(String(16))
    data: Mapped[dict[str, Any]]


class JobMetric(Base):
    """One measured number of the latest attempt. `pairs` says over how many pairs."""

    __tablename__ = "job_metrics"
    __table_args__ = (CheckConstraint("stage IN ('before', 'after')", name="stage"),)

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    stage: Mapped[MetricStage] = mapped_column(String(16), primary_key=True)
    split: Mapped[str] = mapped_column(primary_key=True)
    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[float]
    pairs: Mapped[int]


class Artifact(Base):
    """A job's result: a zip, addressed by its sha256. `files` lists {name, sha256, size} of its members."""

    __tablename__ = "artifacts"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    size_bytes: Mapped[int] = mapped_column(BigInteger)
    files: Mapped[list[dict[str, Any]]]
    manifest: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class JobEvidence(Base):
    """What a job's audits found, the verdict among it, as evidence.json holds it. A job without audits has none."""

    __tablename__ = "job_evidence"

    job_id: Mapped[UUID] = mapped_column(ForeignKey("jobs.id"), primary_key=True)
    document: Mapped[dict[str, Any]]


class SigningKey(Base):
    """A signing key's public halves and times. Rows stay, because old signatures are still checked.

    id: sha256 of the statement key. statement_key: Ed25519 in hex. folder_key: ECDSA P-256 in PEM. Retired: signs no
    more. Revoked: nothing that it signed counts.
    """

    __tablename__ = "signing_keys"

    id: Mapped[str] = mapped_column(String(64), primary_key=True)
    statement_key: Mapped[str]
    folder_key: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    retired_at: Mapped[datetime | None]
    revoked_at: Mapped[datetime | None]
