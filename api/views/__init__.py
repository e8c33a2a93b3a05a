"""The shapes of what the service answers."""
