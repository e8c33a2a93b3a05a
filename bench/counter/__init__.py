"""Benches of the counter and the queue: hostile and generated requests, claims, the way from commit to claim."""
