"""The ledger: settings, job states, tables, every query, storage of files, and the one sender to the queue."""
