"""A request to forget or to evaluate, from the bytes of its body to a committed job."""
