"""The commands that send requests and watch their jobs."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from terminal.assignments import assignments, parse_value
from terminal.progress_bar import ProgressBar
from vgid_client import render
from vgid_client.client import Client
from vgid_client.commands.shared import AsJson, JobId, app, client_of, find, out, print_json
from vgid_client.models import EvaluationFields, Job, JobPage, RequestFields
from vgid_client.submission import Pair, read_jsonl


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
    replay_days: Annotated[
        int | None,
        typer.Option(min=0, help="Keep a replay set so long, to stay forgotten; 0 keeps none.", show_default=False),
    ] = None,
    replay_whole: Annotated[
        bool, typer.Option("--replay-whole", help="The replay set holds all pairs, for a rebuild.")
    ] = False,
    repeat: Annotated[bool, typer.Option("--repeat", help="Also if the subject is forgotten already.")] = False,
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
        "replay_days": replay_days,
        "replay_whole": True if replay_whole else None,
        "repeat": True if repeat else None,
    }
    pairs, kept = read_jsonl(forget), read_jsonl(retain) if retain else None
    with client_of(context) as client:
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
    model: Annotated[str | None, typer.Option(help="The model that is measured.", show_default=False)] = None,
    release: Annotated[bool, typer.Option("--release", help="With its current release; else alone.")] = False,
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
    if release and model is None:
        raise typer.BadParameter("--release goes with --model NAME")
    probes: dict[str, list[Pair]] = {n: read_jsonl(file) for n, file in assignments(probe, "--probe").items()}
    fields: EvaluationFields = {
        "retain_set": retain_set,
        "targets": {name: parse_value(text) for name, text in assignments(target, "--target").items()},
        "audits": audits,
        "external_id": external_id,
    }
    pairs, kept = read_jsonl(forget), read_jsonl(retain) if retain else None
    with client_of(context) as client:
        job = client.evaluate(
            model or client.get(adapter_of or "").model,
            pairs,
            adapter_of=adapter_of,
            release=release,
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
    with client_of(context) as client:
        found = find(client, job)
    print_json(found) if as_json else out.print(render.job_table(found))


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
    with client_of(context) as client:
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
    print_json(page) if as_json else _print_page(page)


@app.command(rich_help_panel="Requests")
def follow(context: typer.Context, job: JobId) -> None:
    """Watch a job until it has ended. The exit code is 1 unless it succeeded."""
    with client_of(context) as client:
        _watch(client, find(client, job))


@app.command(rich_help_panel="Requests")
def cancel(context: typer.Context, job: JobId) -> None:
    """Ask for a job to be stopped."""
    with client_of(context) as client:
        found = client.cancel(find(client, job))
    out.print("cancelled" if found.state == "cancelled" else f"{found.state}, being stopped")


@app.command(rich_help_panel="Requests")
def models(context: typer.Context, as_json: AsJson = False) -> None:
    """List the models that can be made to forget."""
    with client_of(context) as client:
        found = client.models()
    if as_json:
        out.print_json(json.dumps([model.model_dump(mode="json") for model in found]))
    else:
        out.print(render.models_table(found))


def _in_utc(moment: datetime | None) -> datetime | None:
    return moment.replace(tzinfo=UTC) if moment else None


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
