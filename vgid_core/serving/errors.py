"""Errors of a check of a server. `exit_code` is the command's. The messages hold no personal data."""

from __future__ import annotations


class EndpointError(Exception):
    """The base class: the server can't be asked."""

    exit_code = 4


class InvalidEndpoint(EndpointError):
    """The URL or the key isn't one."""

    exit_code = 2


class EndpointRefused(EndpointError):
    """The server refuses: an unknown key, or an unknown name."""

    exit_code = 3


class EndpointUnreachable(EndpointError):
    """The server doesn't answer, or not as an OpenAI-compatible server does."""
