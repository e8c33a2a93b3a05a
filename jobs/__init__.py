"""The ledger: settings, states, tables, every query, blob storage, encryption, the one sender to the queue."""
