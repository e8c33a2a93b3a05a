"""What all commands that talk to the service share: the application, the client, and its options."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any

import typer
from rich.console import Console

from vgid_client.client import Client
from vgid_client.errors import NotFound
from vgid_client.models import Job

app = typer.Typer(
    help="Unlearning as a service: make a multimodal model forget, and measure it.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
out = Console(highlight=False)

JobId = Annotated[str, typer.Argument(metavar="JOB", help="The job's id.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print what the service says as JSON.")]


@app.callback()
def connect(
    context: typer.Context,
    url: Annotated[str, typer.Option(envvar="VGID_API_URL", help="The service's URL.")] = "http://127.0.0.1:8000",
    api_key: Annotated[
        str, typer.Option(envvar="VGID_API_KEY", help="From `vgid keys create`.", show_default=False)
    ] = "",
) -> None:
    """Unlearning as a service: make a multimodal model forget, and measure it."""

    def open_client() -> Client:
        if not api_key:
            raise typer.BadParameter("no API key: set VGID_API_KEY or pass --api-key before the command")
        return Client(url, api_key.strip())

    context.obj = open_client


def client_of(context: typer.Context) -> Client:
    """The client of this call. Raises typer.BadParameter without an API key."""
    opened: Callable[[], Client] = context.obj
    return opened()


def find(client: Client, job_id: str) -> Job:
    """The job with this id, whichever kind it is. Raises NotFound."""
    try:
        return client.get(job_id)
    except NotFound:
        return client.get_evaluation(job_id)


def print_json(reply: Any) -> None:
    """Prints what the service says."""
    out.print_json(reply.model_dump_json())
