"""The API's and the workers' database roles, under which the tests run what runs under them in service."""

from __future__ import annotations

from sqlalchemy import make_url

from jobs.settings import Settings
from migrations.roles import Room

ROLES = {Room.api: "test_api", Room.worker: "test_worker"}


def url_of_role(database_url: str, room: Room) -> str:
    """The database's URL for the room's role."""
    return make_url(database_url).set(username=ROLES[room]).render_as_string(hide_password=False)


def in_role(settings: Settings, room: Room) -> Settings:
    """The settings as the room has them."""
    return settings.model_copy(update={"database_url": url_of_role(settings.database_url, room)})
