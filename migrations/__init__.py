"""The ledger's Alembic revisions, the code that applies them, and the operator's command."""
