"""Gives tables, columns and recorded names words of the field: replay set, unseen, neighbours, generated, prefilled.

Recorded names are those in settings, limits, verdicts and evidence. Statements, receipts and zips stay as they were
signed: they keep the words of their time.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None

_TABLES = {"kits": "replay_sets"}
_COLUMNS = {
    "jobs": {"kit_days": "replay_days", "kit_whole": "replay_whole"},
}
_CONSTRAINTS = {
    "replay_sets": {
        "pk_kits": "pk_replay_sets",
        "fk_kits_job_id": "fk_replay_sets_job_id",
        "ck_kits_key_until_end": "ck_replay_sets_key_until_end",
        "ck_kits_deleted_after_end": "ck_replay_sets_deleted_after_end",
        "ck_kits_receipt_after_deletion": "ck_replay_sets_receipt_after_deletion",
    },
}
_INDEXES = {
    "ix_kits_expires_at": "ix_replay_sets_expires_at",
    "ix_kits_unfinished": "ix_replay_sets_unfinished",
}
# Whole strings of JSON, keys and values alike.
_STRINGS = {
    "kit_days": "replay_days",
    "max_kit_days": "max_replay_days",
    "kit_pairs": "replay_pairs",
    "elsewhere_pairs": "off_target_pairs",
    "bystander_pairs": "neighbour_pairs",
    "bystanders_fall": "neighbour_drop",
    "bystanders": "neighbours",
    "never_seen": "unseen",
    "strangers": "unseen_faces",
    "people never seen": "unseen people",
    "twin": "reference_model",
    "said": "generated",
    "said.rouge_l": "generated.rouge_l",
    "said.probability": "generated.probability",
    "begun": "prefilled",
    "begun.up_to_fact": "prefill.up_to_fact",
    "begun.into_fact": "prefill.into_fact",
    "served_precision.merged_begun": "served_precision.merged_prefilled",
    "served_precision.8_bit_begun": "served_precision.8_bit_prefilled",
    "served_precision.4_bit_begun": "served_precision.4_bit_prefilled",
    "left": "still_known",
    "each_person.left": "each_person.still_known",
    "ends": "ranking_ends",
    "fall": "utility_drop",
    "everyone_else.fall": "everyone_else.drop",
}
_JSON = (
    ("clients", "limits"),
    ("jobs", "config"),
    ("jobs", "verdict"),
    ("job_events", "data"),
    ("job_evidence", "document"),
)
_TEXTS = (("job_metrics", "split"), ("withheld_pairs", "place"), ("jobs", "error_type"))
_WHOLE_TEXTS = _STRINGS | {"kits-missing": "replay-sets-missing"}


def upgrade() -> None:
    for old, new in _TABLES.items():
        op.rename_table(old, new)
    _rename(forth=True)


def downgrade() -> None:
    _rename(forth=False)
    for old, new in _TABLES.items():
        op.rename_table(new, old)
    _rename_not_null()


def _rename(*, forth: bool) -> None:
    for table, columns in _COLUMNS.items():
        for old, new in _way(columns, forth).items():
            op.alter_column(table, old, new_column_name=new)
    for table, constraints in _CONSTRAINTS.items():
        for old, new in _way(constraints, forth).items():
            op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {old} TO {new}")
    for old, new in _way(_INDEXES, forth).items():
        op.execute(f"ALTER INDEX {old} RENAME TO {new}")
    _rename_not_null()
    for table, column in _JSON:
        for old, new in _way(_STRINGS, forth).items():
            _replace(table, column, f'"{old}"', f'"{new}"')
    for table, column in _TEXTS:
        for old, new in _way(_WHOLE_TEXTS, forth).items():
            statement = sa.text(f"UPDATE {table} SET {column} = :new WHERE {column} = :old")  # noqa: S608
            op.execute(statement.bindparams(old=old, new=new))


def _rename_not_null() -> None:
    """From Postgres 18 on they have names, made of the table's and the column's. Before, there are none here."""
    named = op.get_bind().execute(
        sa.text(
            "SELECT c.conname, t.relname, a.attname FROM pg_constraint c JOIN pg_class t ON t.oid = c.conrelid "
            "JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = c.conkey[1] "
            "WHERE c.contype = 'n' AND t.relnamespace = 'public'::regnamespace AND t.relname <> 'alembic_version'"
        )
    )
    for name, table, column in named.all():
        if name != (usual := f"{table}_{column}_not_null"):
            op.execute(f"ALTER TABLE {table} RENAME CONSTRAINT {name} TO {usual}")


def _way(names: dict[str, str], forth: bool) -> dict[str, str]:
    return names if forth else {new: old for old, new in names.items()}


def _replace(table: str, column: str, old: str, new: str) -> None:
    """In the JSON's text: a quoted string is a whole one there, since a quote within one is escaped."""
    statement = sa.text(
        f"UPDATE {table} SET {column} = replace({column}::text, :old, :new)::jsonb "  # noqa: S608
        f"WHERE strpos({column}::text, :old) > 0"
    )
    op.execute(statement.bindparams(old=old, new=new))
