"""The commands that talk to the service: send a forget request, watch its job, download the adapter."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from terminal.assignments import assignments, parse_value
from terminal.console import stderr_console
from terminal.progress_bar import ProgressBar
from vgid_client import render
from vgid_client.client import Client
from vgid_client.errors import DataFileError, NotFound
from vgid_client.models import EvaluationFields, Job, JobPage, RequestFields
from vgid_client.submission import Pair, read_jsonl

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


def _client(context: typer.Context) -> Client:
    opened: Callable[[], Client] = context.obj
    return opened()


@app.command(rich_help_panel="Requests")
def submit(
    context: typer.Context,
    forget: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="Lines of image, question, answer.")],
    model: Annotated[str, typer.Option(help="One of `vgid models`.")],
    retain: Annotated[Path | None, typer.Option(help="What must stay, as JSONL.")] = None,
    retain_set: Annotated[str | None, typer.Option(help="A retain set registered for the model.")] = None,
    probe: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help="Only evaluated. Repeatable.")] = None,
    training: Annotated[list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="E.g. steps=40.")] = None,
    target: Annotated[
        list[str] | None, typer.Option(metavar="NAME=VALUE", help="A stricter target of the verdict, e.g. said=0.05.")
    ] = None,
    audits: Annotated[str | None, typer.Option(help="A higher level of audits: quick, standard or full.")] = None,
    external_id: Annotated[str | None, typer.Option(help="Your own number for the request.")] = None,
    subject_reference: Annotated[str | None, typer.Option(help="Whose data; only a keyed hash is stored.")] = None,
    legal_basis: Annotated[str | None, typer.Option(help="E.g. 'GDPR Art. 17'.")] = None,
    due_at: Annotated[datetime | None, typer.Option(help="Deadline, in UTC.")] = None,
    priority: Annotated[int | None, typer.Option(min=-10, max=10, help="Higher ones of yours go first.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Sending twice with one key makes one job.")] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what it would be; store nothing.")] = False,
    watch: Annotated[bool, typer.Option("--follow", help="Stay until it has ended.")] = False,
) -> None:
    """Send a forget request."""
    probes: dict[str, list[Pair]] = {n: read_jsonl(file) for n, file in assignments(probe, "--probe").items()}
    fields: RequestFields = {
        "retain_set": retain_set,
        "training": {name: parse_value(text) for name, text in assignments(training, "--set").items()},
        "targets": {name: parse_value(text) for name, text in assignments(target, "--target").items()},
        "audits": audits,
        "external_id": external_id,
        "subject_reference": subject_reference,
        "legal_basis": legal_basis,
        "due_at": _in_utc(due_at),
        "priority": priority,
        "metadata": assignments(metadata, "--metadata"),
    }
    pairs, kept = read_jsonl(forget), read_jsonl(retain) if retain else None
    with _client(context) as client:
        if dry_run:
            out.print(render.estimate_table(client.estimate(model, pairs, retain=kept, probes=probes, **fields)))
            return
        job = client.submit(model, pairs, retain=kept, probes=probes, idempotency_key=idempotency_key, **fields)
        if watch:
            _watch(client, job)
        else:
            out.print(job.id, soft_wrap=True)


@app.command(rich_help_panel="Requests")
def check(
    context: typer.Context,
    forget: Annotated[Path, typer.Argument(metavar="FILE.jsonl", help="What must not be known, as for `submit`.")],
    adapter_of: Annotated[
        str | None, typer.Option(metavar="JOB", help="The job whose adapter is measured.", show_default=False)
    ] = None,
    model: Annotated[str | None, typer.Option(help="The model that is measured alone.", show_default=False)] = None,
    retain: Annotated[Path | None, typer.Option(help="What must stay, as JSONL.")] = None,
    retain_set: Annotated[str | None, typer.Option(help="A retain set registered for the model.")] = None,
    probe: Annotated[list[str] | None, typer.Option(metavar="NAME=FILE", help="Measured, too. Repeatable.")] = None,
    target: Annotated[list[str] | None, typer.Option(metavar="NAME=VALUE", help="A stricter target.")] = None,
    audits: Annotated[str | None, typer.Option(help="A higher level of audits: quick, standard or full.")] = None,
    external_id: Annotated[str | None, typer.Option(help="Your own number for the request.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="Sending twice with one key makes one job.")] = None,
    watch: Annotated[bool, typer.Option("--follow", help="Stay until it has ended, and show what was found.")] = False,
) -> None:
    """Measure what an adapter, or a model alone, knows. With --follow, the exit code is 1 unless every target holds."""
    if (adapter_of is None) == (model is None):
        raise typer.BadParameter("pass either --adapter-of JOB or --model NAME")
    probes: dict[str, list[Pair]] = {n: read_jsonl(file) for n, file in assignments(probe, "--probe").items()}
    fields: EvaluationFields = {
        "retain_set": retain_set,
        "targets": {name: parse_value(text) for name, text in assignments(target, "--target").items()},
        "audits": audits,
        "external_id": external_id,
    }
    pairs, kept = read_jsonl(forget), read_jsonl(retain) if retain else None
    with _client(context) as client:
        job = client.evaluate(
            model or client.get(adapter_of or "").model,
            pairs,
            adapter_of=adapter_of,
            retain=kept,
            probes=probes,
            idempotency_key=idempotency_key,
            **fields,
        )
        if not watch:
            out.print(job.id, soft_wrap=True)
            return
        _watch(client, job)
        found = client.get(job)
    out.print(render.job_table(found))
    if found.outcome != "forgotten":
        raise typer.Exit(1)


@app.command(rich_help_panel="Requests")
def status(context: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """Show a job or an evaluation."""
    with _client(context) as client:
        found = _find(client, job)
    _print_json(found) if as_json else out.print(render.job_table(found))


@app.command(rich_help_panel="Requests")
def jobs(
    context: typer.Context,
    state: Annotated[str | None, typer.Option(help="Only those in this state.")] = None,
    model: Annotated[str | None, typer.Option(help="Only those of this model.")] = None,
    external_id: Annotated[str | None, typer.Option(help="Only those with this number of yours.")] = None,
    subject_reference: Annotated[str | None, typer.Option(help="Only those about this person.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="Repeatable: all must hold.")] = None,
    created_after: Annotated[datetime | None, typer.Option(help="At this moment or later, in UTC.")] = None,
    created_before: Annotated[datetime | None, typer.Option(help="Before this moment, in UTC.")] = None,
    due_after: Annotated[datetime | None, typer.Option(help="Due at this moment or later, in UTC.")] = None,
    due_before: Annotated[datetime | None, typer.Option(help="Due before this moment, in UTC.")] = None,
    sort: Annotated[
        str, typer.Option(help="created_at or due_at; with - in front the last comes first.")
    ] = "-created_at",
    total: Annotated[bool, typer.Option("--total", help="Count all that match.")] = False,
    cursor: Annotated[str | None, typer.Option(help="Where the page before ended.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100, help="Jobs a page.")] = 20,
    evaluations: Annotated[bool, typer.Option("--evaluations", help="List these instead.")] = False,
    as_json: AsJson = False,
) -> None:
    """List your jobs, newest first."""
    with _client(context) as client:
        page = client.list_jobs(
            evaluations=evaluations,
            state=state,
            model=model,
            external_id=external_id,
            subject_reference=subject_reference,
            metadata=assignments(metadata, "--metadata"),
            created_after=_in_utc(created_after),
            created_before=_in_utc(created_before),
            due_after=_in_utc(due_after),
            due_before=_in_utc(due_before),
            sort=sort,
            total=total,
            cursor=cursor,
            limit=limit,
        )
    _print_json(page) if as_json else _print_page(page)


@app.command(rich_help_panel="Requests")
def follow(context: typer.Context, job: JobId) -> None:
    """Watch a job until it has ended. The exit code is 1 unless it succeeded."""
    with _client(context) as client:
        _watch(client, _find(client, job))


@app.command(rich_help_panel="Requests")
def cancel(context: typer.Context, job: JobId) -> None:
    """Ask for a job to be stopped."""
    with _client(context) as client:
        found = client.cancel(_find(client, job))
    out.print("cancelled" if found.state == "cancelled" else f"{found.state}, being stopped")


@app.command(rich_help_panel="Requests")
def metrics(context: typer.Context, job: JobId, as_json: AsJson = False) -> None:
    """Show what was measured before and after forgetting."""
    with _client(context) as client:
        rows = client.metrics(_find(client, job))
    if as_json:
        out.print_json(json.dumps([row.model_dump(mode="json") for row in rows]))
    else:
        out.print(render.metrics_table(rows) if rows else "nothing measured yet")


@app.command(rich_help_panel="Requests")
def report(
    context: typer.Context,
    job: JobId,
    to: Annotated[Path | None, typer.Option(help="Where to; default ./<job>.html.")] = None,
) -> None:
    """Save the evidence as a page to read and print."""
    with _client(context) as client:
        path = to or Path(f"{job}.html")
        path.write_text(client.report(job), encoding="utf-8")
    out.print(str(path), soft_wrap=True)


@app.command(rich_help_panel="Requests")
def evidence(context: typer.Context, job: JobId) -> None:
    """Print everything that the audits found, and the verdict, as JSON."""
    with _client(context) as client:
        out.print_json(json.dumps(client.evidence(_find(client, job))))


@app.command(rich_help_panel="Requests")
def download(
    context: typer.Context,
    job: JobId,
    to: Annotated[Path | None, typer.Option(help="Where to; default ./<job>.zip.")] = None,
) -> None:
    """Download the adapter, resume an earlier download, and check the sha256."""
    with _client(context) as client:
        found = client.get(job)
        path = client.download(found, to or Path(f"{found.id}.zip"))
    out.print(f"{path}  sha256 {found.artifact.sha256 if found.artifact else ''}", soft_wrap=True)
    if found.outcome != "forgotten":
        why = "its verdict hasn't passed" if found.outcome else "nothing was judged"
        stderr_console().print(f"[bold red]Don't serve it as if the people were forgotten:[/bold red] {why}.")


@app.command(rich_help_panel="Requests")
def receipt(
    context: typer.Context,
    job: JobId,
    to: Annotated[Path | None, typer.Option(help="Where to; default ./<job>.receipt.json.")] = None,
) -> None:
    """Fetch the signed receipt of what of a job was deleted when; `vgid verify` checks it."""
    with _client(context) as client:
        found = client.receipt(_find(client, job))
    _write_json(found, to or Path(f"{job}.receipt.json"))


@app.command(rich_help_panel="Requests")
def signing_keys(
    context: typer.Context,
    to: Annotated[Path, typer.Option(help="Where to.")] = Path("vgid-keys.json"),
) -> None:
    """Fetch the service's public keys, for `vgid verify --keys`."""
    with _client(context) as client:
        found = client.signing_keys()
    _write_json(found, to)


@app.command(rich_help_panel="Requests")
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models that can be made to forget."""
    with _client(context) as client:
        found = client.models()
    if as_json:
        out.print_json(json.dumps([model.model_dump(mode="json") for model in found]))
    else:
        out.print(render.models_table(found))


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


def _find(client: Client, job_id: str) -> Job:
    """The job with this id, whichever kind it is. Raises NotFound."""
    try:
        return client.get(job_id)
    except NotFound:
        return client.get_evaluation(job_id)


def _watch(client: Client, watched: Job) -> None:
    with ProgressBar(out, "waiting", stays=True) as bar:
        job: Job | None = None
        for job in client.follow(watched):
            render.show_progress(bar, job)
    if job is None or job.state != "succeeded":
        raise typer.Exit(1)


def _print_page(page: JobPage) -> None:
    out.print(render.jobs_table(page))
    if page.total is not None:
        out.print(f"{page.total} in all")
    if page.next_cursor:
        out.print(f"More: --cursor {page.next_cursor}", style="dim", soft_wrap=True)


def _write_json(document: Any, path: Path) -> None:
    try:
        path.write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise DataFileError(f"{path}: {error.strerror}") from None
    out.print(path, soft_wrap=True)


def _print_json(reply: Any) -> None:
    out.print_json(reply.model_dump_json())
