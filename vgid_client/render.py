"""Shows jobs and figures on a terminal: tables, and a job's progress."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime

from rich import box
from rich.markup import escape
from rich.table import Table

from terminal import tables
from terminal.progress_bar import ProgressBar, progress_detail
from vgid_client.models import Estimate, HeldJob, Job, JobPage, Metric, MissedTarget, Model, Release, ReplaySet

_STYLES = {"succeeded": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "queued": "default"}
_MOST_PLACES = 5  # of one finding
_MEASURED = {
    "forgotten": "passed: every target holds",
    "targets-not-met": "not passed: what was asked is still known, or others have lost something",
    "nothing-to-forget": "the model doesn't know these people, with or without an adapter",
}
_OUTCOMES = {
    "forgotten": "passed: every target holds",
    "targets-not-met": "not passed: don't serve the adapter as if the people were forgotten",
    "nothing-to-forget": "the model doesn't know these people: there is nothing to forget, and no adapter",
}


def jobs_table(page: JobPage) -> Table:
    """A table with a row per job. On 80 columns, only the client's own id is wrapped."""
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1), pad_edge=False, collapse_padding=True)
    for name in ("job", "state", "created"):
        table.add_column(name, no_wrap=True)
    table.add_column("your id", overflow="fold")
    for job in page.jobs:
        state = f"[{_STYLES.get(job.state, 'default')}]{job.state}[/]{' (taken back)' if job.reverted_at else ''}"
        table.add_row(job.id, state, f"{job.created_at.astimezone():%Y-%m-%d %H:%M}", escape(job.external_id or ""))
    return table


def estimate_table(estimate: Estimate) -> Table:
    """A table of what a request would be, with a line for each finding."""
    table = Table(box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    start = estimate.estimated_start_at
    for name, value in (
        ("model", estimate.model),
        ("retain set", estimate.retain_set),
        ("pairs", f"{estimate.forget_pairs} to forget, {estimate.retain_pairs or 'registered'} to retain"),
        ("steps", str(estimate.steps)),
        ("takes", None if estimate.expected_seconds is None else f"{estimate.expected_seconds:.0f} s, once it runs"),
        ("place", None if estimate.queue_position is None else str(estimate.queue_position)),
        ("likely start", f"{start.astimezone():%Y-%m-%d %H:%M}" if start else None),
    ):
        if value:
            table.add_row(name, escape(value))
    for finding in estimate.findings:
        places = ", ".join(finding.places[:_MOST_PLACES]) + (", ..." if len(finding.places) > _MOST_PLACES else "")
        table.add_row(finding.level, f"{escape(finding.message)}: {escape(places)}")
    return table


def job_table(job: Job) -> Table:
    """A table of one job's fields, a line each. Empty fields are left out."""
    lines: list[tuple[str, str | None]] = [
        ("job", job.id),
        ("state", job.state + (" (being stopped)" if job.cancel_requested and not job.ended else "")),
        ("phase", None if job.ended else job.phase),
        ("measures", _measured(job)),
        ("progress", f"{job.progress.fraction:.0%}{_steps(job)}"),
        ("model", job.model),
        ("your id", job.external_id),
        ("legal basis", job.legal_basis),
        ("due", f"{job.due_at:%Y-%m-%d}" if job.due_at else None),
        ("priority", str(job.priority) if job.priority else None),
        ("place", str(job.queue_position) if job.queue_position else None),
        ("waits for", "the rebuild of its model's line" if job.waits_for == "rebuild" else job.waits_for),
        ("likely start", f"{job.estimated_start_at.astimezone():%Y-%m-%d %H:%M}" if job.estimated_start_at else None),
        ("attempt", f"{job.attempt} of {job.max_attempts}" if job.attempt else None),
        ("error", _error_text(job)),
        ("verdict", None if job.outcome is None else _outcomes(job).get(job.outcome, job.outcome)),
        ("taken back", f"{job.reverted_at.astimezone():%Y-%m-%d %H:%M}: known again" if job.reverted_at else None),
        *(("missed", f"{each.figure} of {each.set}: {each.meaning}") for each in _missed(job)),
        *(("not measured", claim) for claim in (job.verdict.unmeasured if job.verdict else ())),
        (
            "inputs deleted",
            f"{job.inputs_deleted_at.astimezone():%Y-%m-%d %H:%M:%S}" if job.inputs_deleted_at else None,
        ),
        ("artifact", f"{job.artifact.size_bytes} bytes, sha256 {job.artifact.sha256}" if job.artifact else None),
    ]
    table = Table(box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in lines:
        if value:
            table.add_row(name, value)
    return table


def metrics_table(rows: Iterable[Metric]) -> Table:
    """A table with a row per set and figure: before, after, and over how many pairs."""
    cells = ((row.split, row.name, (row.before, row.after), row.pairs) for row in rows)
    return tables.metrics_table(("before", "after"), cells)


def models_table(models: Iterable[Model]) -> Table:
    """A table with a row per model and its retain sets."""
    table = Table(box=box.SIMPLE_HEAD)
    for name in ("model", "title", "retain sets"):
        table.add_column(name)
    for model in models:
        table.add_row(model.name, model.title or "", ", ".join(model.retain_sets))
    return table


def show_progress(bar: ProgressBar, job: Job) -> None:
    """Shows the job's present state on `bar`; once it has ended, its error."""
    phase = job.state if job.ended else job.phase or job.state
    detail = (_error_text(job) or "") if job.ended else _progress_detail(job)
    bar.show(phase, job.progress.fraction, detail)


def _progress_detail(job: Job) -> str:
    progress, left = job.progress, None
    if progress.estimated_finish_at is not None:
        left = max(0.0, (progress.estimated_finish_at - datetime.now(UTC)).total_seconds())
    return progress_detail(progress.step, progress.total_steps, progress.loss_forget, progress.loss_retain, left)


def _measured(job: Job) -> str | None:
    if job.kind != "evaluate":
        return None
    if job.release_id:
        return "the model's release"
    return f"the adapter of {job.adapter_of}" if job.adapter_of else "the model alone"


def _steps(job: Job) -> str:
    return "" if job.kind == "evaluate" else f", step {job.progress.step} of {job.progress.total_steps}"


def _outcomes(job: Job) -> dict[str, str]:
    return _MEASURED if job.kind == "evaluate" else _OUTCOMES


def _missed(job: Job) -> tuple[MissedTarget, ...]:
    return job.verdict.missed if job.verdict else ()


def _error_text(job: Job) -> str | None:
    return (job.error.detail or job.error.type) if job.error else None


def release_table(release: Release) -> Table:
    """A table of a release: what is to be served, and which jobs of the client it holds."""
    table = Table(box=None, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    table.add_row("release", f"{release.number} of {escape(release.model)}")
    table.add_row("adapter", f"sha256 {release.adapter_sha256}, rank {release.rank}")
    table.add_row("base", f"digest {release.base_digest}")
    if release.requests is not None:
        unchecked = f", {release.unchecked} without a replay set: nobody can say" if release.unchecked else ""
        table.add_row("drift", "not measured" if release.drift is None else f"{release.drift:.3f} of ROUGE-L on others")
        table.add_row("holds", f"{release.requests} requests: {release.checked} still forgotten{unchecked}")
    for held in release.own:
        table.add_row("of yours", f"{held.job_id}  {_still_forgotten(held)}")
    for job_id in release.not_held:
        table.add_row("not held", f"{job_id}  its people are known again: ask again, with --repeat")
    return table


def _still_forgotten(held: HeldJob) -> str:
    if held.still_forgotten is None:
        return f"not re-checked since release {held.checked_in}"
    return "still forgotten" if held.still_forgotten else "known again: ask again, with --repeat"


def replay_set_text(replay_set: ReplaySet) -> str:
    """What is kept of a job, as a sentence."""
    if replay_set.ended_at is None:
        return f"{replay_set.pairs} pairs are kept, sealed, until {replay_set.expires_at.astimezone():%Y-%m-%d}"
    file = "its file is deleted" if replay_set.deleted_at else "its file will be deleted"
    return f"ended at {replay_set.ended_at.astimezone():%Y-%m-%d %H:%M}: its key is destroyed, and {file}"
