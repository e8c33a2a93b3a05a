"""Times an honest request on the demo model, with junk requests of another client filed just before it.

    python -m bench.counter.junk_requests [--junk 0 10 100] [--steps 12]

A junk request has one image of noise, and the settings of the honest one. Each count has a service of its own with one
worker. The time runs from the honest request's filing to its end. `--steps` trains less than the demo's settings do,
so that the checks' share of the time is larger. Exits with 3 if a time is over twice that without junk. Writes
bench/results/junk_requests[_<steps>_steps].json.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from bench.parts.bars import exit_if_missed
from bench.parts.machine import save
from bench.serving.local_stack import count_events, key_of_another, make_home, served, until
from local.demo.data import make
from local.postgres import EmbeddedPostgres
from vgid_client import Client, Pair
from vgid_core.data.pairs import EncodedImage

BAR = 2.0  # of the time without junk
SIDE = 64  # of a noise image, in pixels
SECONDS = 1800.0  # after which an honest request counts as never done


@dataclass(frozen=True)
class Row:
    """An honest request behind so many junk ones. Times are in seconds.

    starts: its attempts. junk_done: junk requests that had ended by then.
    """

    junk: int
    filing: float
    seconds: float
    state: str
    outcome: str | None
    starts: int
    junk_done: int


def main() -> None:
    """Measures each count, prints, saves. Exits with the missed bars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--junk", type=int, nargs="+", default=[0, 10, 100])
    parser.add_argument("--steps", type=int, help="else those of the demo's settings")
    arguments = parser.parse_args()
    settings: dict[str, Any] = {"training": {"steps": arguments.steps}} if arguments.steps else {}
    rows = [_measure(junk, settings) for junk in arguments.junk]
    _print(rows)
    name = f"junk_requests_{arguments.steps}_steps" if arguments.steps else "junk_requests"
    record = {"arguments": vars(arguments), "bar": BAR, "rows": [asdict(row) for row in rows]}
    print("written:", save(name, record, seed=0, runs=1))
    alone = rows[0].seconds
    slow = [row for row in rows if row.seconds > BAR * alone]
    exit_if_missed([f"behind {row.junk}: {row.seconds / alone:.2f} times as long" for row in slow])


def _measure(junk: int, settings: dict[str, Any]) -> Row:
    """The honest request behind `junk` others, in a service of its own."""
    with tempfile.TemporaryDirectory() as folder:
        home = make_home(Path(folder) / "home")
        try:
            with (
                served(home) as (stack, honest),
                Client(stack.api_url, key_of_another(stack)) as spammer,
                ThreadPoolExecutor(8) as at_once,
            ):
                begun = time.monotonic()
                filed = list(at_once.map(lambda number: _file(spammer, _noise(number), settings), range(junk)))
                filing = time.monotonic() - begun
                begun = time.monotonic()
                job_id = _file(honest, _honest(), settings)
                until(lambda: honest.get(job_id).finished_at, "the honest request isn't done", SECONDS)
                seconds = time.monotonic() - begun
                job = honest.get(job_id)
                done = sum(spammer.get(each).finished_at is not None for each in filed)
                starts = count_events(stack, job_id, "state", "running")
                return Row(junk, filing, seconds, job.state, job.outcome, starts, done)
        finally:
            EmbeddedPostgres(home.postgres).destroy()


def _file(client: Client, pairs: Sequence[Pair], settings: dict[str, Any]) -> str:
    return client.submit("demo", pairs, **settings).id


def _honest() -> list[Pair]:
    """Everybody whom the demo forgets."""
    return [Pair(pair.image.data, pair.question, pair.answer, person=pair.person) for pair in make().forget]


def _noise(number: int) -> list[Pair]:
    """One question about an image of noise."""
    pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
    image = EncodedImage.of(Image.fromarray(pixels))
    return [Pair(image.data, "Who is this?", "This is Zed Void.")]


def _print(rows: Sequence[Row]) -> None:
    table = Table("junk before it", "filed in", "seconds", "of a lone one's", "starts", "junk done by then", "ended as")
    for row in rows:
        share = f"{row.seconds / rows[0].seconds:.2f}"
        ended = row.outcome or row.state
        seconds = (f"{row.filing:.1f} s", f"{row.seconds:.1f}")
        table.add_row(str(row.junk), *seconds, share, str(row.starts), str(row.junk_done), ended)
    Console().print(table)


if __name__ == "__main__":
    main()
