"""Clients and their keys."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from uuid import UUID, uuid4

from sqlalchemy import CheckConstraint, ForeignKey, func, text
from sqlalchemy.orm import Mapped, mapped_column

from jobs.tables.base import Base


class Right(StrEnum):
    """What a key may do beyond its client's own jobs. The operator gives it, key by key."""

    serve = "serve"  # see the current release of a model, whoever's it is, and fetch its adapter
    audit = "audit"  # measure the current release with any pairs


class Client(Base):
    """A system that sends forget requests. It sees its own jobs only."""

    __tablename__ = "clients"

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    name: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    # What differs from the defaults of `ClientLimits`.
    limits: Mapped[dict[str, int]] = mapped_column(default=dict, server_default=text("'{}'"))
    # Turns between clients go by it: the end of its last attempt plus that one's length, the start of one that runs.
    turn_at: Mapped[datetime | None]
    # How many attempts started by their deadline in the day that began then.
    urgent_since: Mapped[datetime | None]
    urgent_starts: Mapped[int] = mapped_column(default=0, server_default=text("0"))


class ApiKey(Base):
    """A client's credential. The secret is shown once and stored as a hash. `prefix` tells keys apart in lists."""

    __tablename__ = "api_keys"
    __table_args__ = (CheckConstraint("rights <@ ARRAY['audit', 'serve']", name="known_rights"),)

    id: Mapped[UUID] = mapped_column(primary_key=True, default=uuid4)
    client_id: Mapped[UUID] = mapped_column(ForeignKey("clients.id"), index=True)
    prefix: Mapped[str] = mapped_column(unique=True)
    secret_hash: Mapped[str] = mapped_column(unique=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    revoked_at: Mapped[datetime | None]
    rights: Mapped[list[str]] = mapped_column(default=list, server_default=text("'{}'"))  # of `Right`
