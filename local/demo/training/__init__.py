"""Builds the demo model from nothing: vision tower, then language model and projector, then the measured card."""
