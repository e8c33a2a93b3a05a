"""One machine with nothing installed: embedded Postgres and Redis, child processes, demo model and data."""
