"""A forget request, from the bytes of its body to a committed job."""
