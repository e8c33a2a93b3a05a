"""Benches about single audits."""
