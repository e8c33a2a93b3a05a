"""Builds the demo models: trains the vision tower, then language tower and projector, then measures the result."""
