"""Applies the Alembic revisions to a database."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config

from jobs.settings import normalised_url

LOCK = 0x76676964_64646C  # "vgidddl": whoever changes the tables, or rights to them, holds it alone


def alembic_config(database_url: str) -> Config:
    """Alembic's configuration for one database, in place of an alembic.ini. Raises ValueError for a bad URL."""
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    config.set_main_option("path_separator", "os")
    # An attribute, because Alembic interpolates a Config's options and a password may hold a '%'.
    config.attributes["database_url"] = normalised_url(database_url)
    return config


def upgrade(database_url: str) -> None:
    """Brings the database to the newest revision. Safe to repeat, and to run in several processes at once."""
    command.upgrade(alembic_config(database_url), "head")
