"""Run by Alembic for every command: connects, and hands the tables over for comparison."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import create_engine, pool, text

from jobs.tables import Base, UtcDateTime

_LOCK = 0x76676964_64646C  # "vgidddl"


def _rendered(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Keeps revisions free of our code, which changes while they must not."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def run() -> None:
    """Runs the command's revisions in one transaction, alone: several replicas may start at the same moment."""
    engine = create_engine(context.config.attributes["database_url"], poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, render_item=_rendered)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
            context.run_migrations()


run()
