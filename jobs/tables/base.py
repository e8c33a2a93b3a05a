"""What all tables share: names of constraints, types of columns."""

from __future__ import annotations

from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, ClassVar
from uuid import UUID

from sqlalchemy import ARRAY, DateTime, Dialect, Double, Enum, LargeBinary, MetaData, Text, TypeDecorator, Uuid
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.orm import DeclarativeBase

# Migrations address constraints and indexes by name, so names must be the same in every database.
_NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_N_name)s",
    "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}


class UtcDateTime(TypeDecorator[datetime]):
    """A timestamptz that is read as UTC, whatever the server's time zone. It refuses times without a zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """Returns the value unchanged. Raises ValueError when it has no zone."""
        if value is not None and value.tzinfo is None:
            raise ValueError("a time without a zone is ambiguous")
        return value

    def process_result_value(self, value: datetime | None, _dialect: Dialect) -> datetime | None:
        """The value in UTC."""
        return None if value is None else value.astimezone(UTC)


def text_enum(kind: type[StrEnum]) -> Enum:
    """A text column with a check for the values of `kind`. A native enum type is hard to change later."""
    return Enum(
        kind,
        name=kind.__name__.lower(),
        native_enum=False,
        length=16,
        create_constraint=True,
        values_callable=lambda members: [member.value for member in members],
    )


class Base(DeclarativeBase):
    """The base of all tables.

    `eager_defaults` reads values that the database makes back at once, so that an object outlives its session.
    """

    __mapper_args__ = {"eager_defaults": True}  # noqa: RUF012  (SQLAlchemy declares it without ClassVar)

    metadata = MetaData(naming_convention=_NAMES)
    type_annotation_map: ClassVar[dict[Any, Any]] = {
        datetime: UtcDateTime(),
        UUID: Uuid(),
        str: Text(),
        float: Double(),
        bytes: LargeBinary(),
        dict[str, Any]: JSONB(),
        dict[str, int]: JSONB(),
        dict[str, str]: JSONB(),
        list[dict[str, Any]]: JSONB(),
        list[str]: ARRAY(Text()),
    }
