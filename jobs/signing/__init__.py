"""Signing keys, and what they sign: an adapter's statements and folder, a job's deletion receipt."""
