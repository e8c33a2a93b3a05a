"""A model's line: its releases, and the kits of those whom they hold."""
