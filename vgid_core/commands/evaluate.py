"""`vgid evaluate`: what a model, an adapter on it and a twin know, side by side."""
