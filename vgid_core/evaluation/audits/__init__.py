"""Audits: each asks in one way whether the forgotten can still be got out of a model, or what else was lost."""
