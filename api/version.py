"""The version of the HTTP interface: the service's own, in the OpenAPI document and in a header of every answer."""

from __future__ import annotations

from importlib.metadata import version

API_VERSION = version("vgid")
VERSION_HEADER = "API-Version"
