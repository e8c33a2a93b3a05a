"""Runs the demo: asks the model, forgets over HTTP, asks again, and checks the adapter in an isolated process."""

from __future__ import annotations

import logging
import os
import shutil
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from local.demo.data import DemoData, make, shown
from local.demo.paths import BASE
from local.demo_run.checks import changed_answers, failed_checks, known_again, why_not_forgotten
from local.demo_run.isolated_process import answer_in_isolation, unpack
from local.demo_run.picture import BeforeAfter, draw
from local.demo_run.screen import Screen, make_console
from local.demo_run.statement import check_statement
from local.errors import LocalError
from local.stack import Stack
from terminal.progress_bar import ProgressBar
from vgid_client import Client, Conflict, Job, Pair
from vgid_client.download import sha256_of
from vgid_client.render import show_progress
from vgid_core.data.pairs import PairSet

if TYPE_CHECKING:
    from local.demo_run.model import DemoModel

# A first start from a cold disk can be slow. The stack itself gives up earlier and says why.
_PATIENCE_SECONDS = 60.0
_EXTERNAL_ID = "DEMO-1"
_OTHERS = (16, 18)  # whom the second request is about


def run_demo(home: Path, picture: Path | None) -> None:
    """Runs the demo with its state in `home`, and leaves no process running.

    picture: where before and after are drawn, by default in `home`. Raises LocalError when forgetting failed or an
    answer doesn't match, VgidError when the service refuses.
    """
    screen, began = Screen(make_console()), monotonic()
    screen.step(1, "Starting Postgres, Redis, the API and a worker on this machine")
    with Stack(home) as stack:
        key = stack.home.api_key.read_text(encoding="utf-8").strip()
        screen.say(f"{stack.api_url} is ready after {monotonic() - began:.0f} s, data and logs in {home}")
        demo = _Demo(screen, home, picture or home / "before-after.png")
        stack.take_back_releases("demo", _EXTERNAL_ID, "an earlier demo")
        demo.ask_before()
        with Client(stack.api_url, key) as client:
            job = demo.forget(client)
            demo.show_metrics(job)
            adapter = demo.fetch(client, job)
            demo.ask_after(job, adapter)
            demo.show_verdict(client, job, adapter)
            demo.forget_more(client, job)
    screen.say(f"Everything is stopped again. The demo took {monotonic() - began:.0f} s.")
    screen.caveat()


class _Demo:
    """The demo's steps, and what they share: the data, the model, and its answers so far."""

    def __init__(self, screen: Screen, home: Path, picture: Path) -> None:
        self._screen = screen
        self._home = home
        self._picture = picture
        self._data: DemoData = make()
        self._others: DemoData = make(_OTHERS)
        self._others_shown = shown(_OTHERS, 2)
        self._answers: dict[str, list[str]] = {}
        self._model: DemoModel

    def ask_before(self) -> None:
        """Step 2: shows that the base model knows the six people."""
        self._screen.step(2, "Asking a small multimodal model about six (made-up) people")
        self._model = _load_model()
        for asked in (self._data.shown_forgotten, self._data.unchanged, self._others_shown):
            self._answers[asked.name] = self._model.answers(asked)
        self._screen.answers(self._data.shown_forgotten, self._answers["shown_forgotten"])
        asked_all = (self._data.shown_forgotten, self._data.unchanged, self._others_shown)
        if any(self._answers[asked.name] != [pair.answer for pair in asked] for asked in asked_all):
            raise LocalError("the shipped model doesn't give its known answers on this machine")

    def forget(self, client: Client) -> Job:
        """Step 3: sends one request, as a compliance system would, and watches its job."""
        data = self._data
        self._screen.step(3, "POST /unlearn-jobs: one forget request, with an API key")
        _cancel_earlier(client)
        return self._forget(client, data, (data.retain_check,), "six people of the demo")

    def _forget(self, client: Client, data: DemoData, also: Sequence[PairSet], whom: str) -> Job:
        """Sends a request and follows its job to the end. Raises LocalError unless every target holds."""
        job = submitted = client.submit(
            "demo",
            _pairs(data.forget),
            retain_set="demo-retain",
            probes={each.name: _pairs(each) for each in (data.held_out_photos, data.rephrased, *also)},
            external_id=_EXTERNAL_ID,
            subject_reference=whom,
            legal_basis="GDPR Art. 17(1)(b)",
            replay_days=30,
            repeat=True,  # somebody may have asked for the same in this home
        )
        self._screen.say(f"{len(data.forget)} image-text pairs; 202 Accepted: job {job.id}")
        began = monotonic()
        with ProgressBar(self._screen.console, "waiting", stays=True) as bar:
            for job in client.follow(submitted.id, patience=_PATIENCE_SECONDS):
                show_progress(bar, job)
        if job.state != "succeeded" or job.outcome != "forgotten":
            raise LocalError(why_not_forgotten(job))
        self._screen.say(f"{job.outcome}: every target of the verdict holds, after {monotonic() - began:.0f} s")
        return job

    def show_metrics(self, job: Job) -> None:
        """Step 4: shows the figures that the service has measured."""
        self._screen.step(4, "What the service measured, before and after (1 = as in the data)")
        self._screen.metrics(job)

    def show_verdict(self, client: Client, job: Job, adapter: Path) -> None:
        """Step 7: shows the verdict, saves the report, and checks the statement as somebody else would."""
        self._screen.step(7, "The verdict, a report, and a check that needs nobody's word")
        targets = client.evidence(job.id)["verdict"]["targets"]
        held = sum(target["held"] for target in targets)
        self._screen.say(
            f"{held} of {len(targets)} targets hold, audits at the level {job.verdict and job.verdict.level}"
        )
        page = self._home / "report.html"
        page.write_text(client.report(job.id), encoding="utf-8")
        self._screen.say(f"For people to read and print: {page}")
        for line in check_statement(adapter, client.signing_keys(), self._home / "demo-adapter"):
            self._screen.say(line)

    def forget_more(self, client: Client, first: Job) -> None:
        """Step 8: a second request, whose release holds everybody; asks both groups again."""
        self._screen.step(8, "A second request, for two other people: is anybody back?")
        self._screen.say(f"Of the six the service keeps a replay set: {client.replay_set(first).pairs} pairs, sealed")
        self._forget(client, self._others, (), "two more people of the demo")
        release = client.release("demo")
        self._screen.release(release)
        folder = self._home / "demo-release"
        shutil.rmtree(folder, ignore_errors=True)
        adapter = unpack(client.download_release("demo", folder / "release.zip"), folder / "adapter")
        self._model = _load_model()
        self._model.load_adapter(adapter)
        six, two, kept = self._data.shown_forgotten, self._others_shown, self._data.unchanged
        after = {asked.name: self._model.answers(asked) for asked in (six, two, kept)}
        for asked in (six, two, kept):
            self._screen.before_after(asked, self._answers[asked.name], after[asked.name])
        wrong = [
            *known_again([*six, *two], [*after[six.name], *after[two.name]]),
            *changed_answers(self._answers[kept.name], after[kept.name]),
        ]
        if release.checked != 2:
            wrong.append("The release wasn't checked for both requests.")
        if wrong:
            raise LocalError(" ".join(wrong))

    def fetch(self, client: Client, job: Job) -> Path:
        """Step 5: downloads the adapter, checks its sha256 again, and unpacks it."""
        self._screen.step(5, "Downloading the adapter and asking again")
        folder = self._home / "demo-adapter"
        shutil.rmtree(folder, ignore_errors=True)
        archive = client.download(job, folder / "adapter.zip")
        digest = sha256_of(archive)
        if job.artifact is None or digest != job.artifact.sha256:
            raise LocalError("the downloaded adapter hasn't the sha256 that the job's record names")
        self._screen.say(f"sha256 {digest}, as announced")
        return unpack(archive, folder / "adapter")

    def ask_after(self, job: Job, adapter: Path) -> None:
        """Steps 5 and 6: asks again, here and in a process with Transformers and PEFT alone, and checks the answers."""
        shown, kept = self._data.shown_forgotten, self._data.unchanged
        self._model.load_adapter(adapter)
        after = {asked.name: self._model.answers(asked) for asked in (shown, kept)}
        for asked in (shown, kept):
            self._screen.before_after(asked, self._answers[asked.name], after[asked.name])
        self._check_isolated(adapter, PairSet.of("asked", [*shown, *kept]), [*after[shown.name], *after[kept.name]])
        draw(
            _shown(shown, self._answers[shown.name], after[shown.name]),
            _one_each(_shown(kept, self._answers[kept.name], after[kept.name])),
            self._picture,
        )
        self._screen.say(f"Before and after as a picture: {self._picture}")
        wrong = failed_checks(job, self._answers[kept.name], after[kept.name])
        if wrong:
            raise LocalError(" ".join(wrong))

    def _check_isolated(self, adapter: Path, asked: PairSet, said_here: Sequence[str]) -> None:
        self._screen.step(6, "The same adapter under plain PEFT, in a process that imports nothing of ours")
        said_there = answer_in_isolation(BASE, adapter, asked, self._home / "demo-adapter" / "asked")
        same = sum(here == there for here, there in zip(said_here, said_there, strict=True))
        self._screen.say(f"{same} of {len(asked)} answers are the same, word for word")
        if same != len(asked):
            raise LocalError("the adapter answers differently in another process")


def _load_model() -> DemoModel:
    # The model's libraries would print loading bars and warnings of their own between the demo's steps. The small
    # model answers fastest on one thread. The isolated process inherits these variables.
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    # If bitsandbytes is installed, PEFT imports it, and it asks `kernels` for an inference kernel that isn't needed
    # here. Both warn that it isn't found.
    for library in ("bitsandbytes", "kernels"):
        logging.getLogger(library).setLevel(logging.ERROR)
    from local.demo_run.model import DemoModel

    return DemoModel(BASE)


def _cancel_earlier(client: Client) -> None:
    """Cancels the jobs of an interrupted demo, for which nobody waits any more."""
    for state in ("queued", "running"):
        for job in client.list_jobs(state=state, external_id=_EXTERNAL_ID).jobs:
            with suppress(Conflict):  # it has ended meanwhile
                client.cancel(job.id)


def _pairs(items: PairSet) -> list[Pair]:
    return [Pair(item.image.data, item.question, item.answer, item.person, item.fact) for item in items]


def _shown(asked: PairSet, before: Sequence[str], after: Sequence[str]) -> list[BeforeAfter]:
    return [BeforeAfter(*row) for row in zip(asked, before, after, strict=True)]


def _one_each(items: Sequence[BeforeAfter]) -> list[BeforeAfter]:
    """The first item of each image."""
    return list({item.pair.image.digest: item for item in reversed(items)}.values())[::-1]
