"""A small made-up world, a model that knows it, and the data of a forget request about it."""
