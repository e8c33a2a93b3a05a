"""Bounds on what clients and connections may use: connections, quotas over time, turns at work that is dear."""
