"""The commands that talk to the service: send requests, watch their jobs, fetch what they leave."""

from vgid_client.commands import releases, requests, results
from vgid_client.commands.shared import app

__all__ = ["app", "releases", "requests", "results"]
