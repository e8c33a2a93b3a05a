"""Clients: their keys, and what each may use."""
