"""A model's line: its releases, and the replay sets of those whom they hold."""
