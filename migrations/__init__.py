"""How the ledger's tables came to be: Alembic revisions, what applies them, and the operator's command."""
