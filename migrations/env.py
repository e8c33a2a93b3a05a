"""Alembic's environment, which it runs for every command: connects, and passes the tables for comparison."""

from __future__ import annotations

from typing import Any, Literal

from alembic import context
from sqlalchemy import create_engine, pool, text

from jobs.tables import Base, UtcDateTime
from migrations.runner import LOCK


def _render_item(kind: str, item: Any, _: Any) -> str | Literal[False]:
    """Renders our own column type as SQLAlchemy's. A revision must not import our code, which changes later."""
    return "sa.DateTime(timezone=True)" if kind == "type" and isinstance(item, UtcDateTime) else False


def run() -> None:
    """Runs the command's revisions in one transaction, under a lock: several replicas may start at the same moment."""
    engine = create_engine(context.config.attributes["database_url"], poolclass=pool.NullPool)
    with engine.connect() as connection:
        context.configure(connection=connection, target_metadata=Base.metadata, render_item=_render_item)
        with context.begin_transaction():
            connection.execute(text("SELECT pg_advisory_xact_lock(:lock)"), {"lock": LOCK})
            context.run_migrations()


run()
