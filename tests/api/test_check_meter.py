"""What a check has used, told by its notes, however its process ended."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from api.forget_requests.check_meter import CheckMeter, CheckNotes, processor_seconds, seconds_used

PLACE = ("forget", 0, "image")
DECODING = CheckNotes(1, start=0.5, before=3.0, used=0.25, allowed=2.0, whole=False, place=PLACE, pixels=64)


@pytest.mark.parametrize(
    ("notes", "seen", "seconds"),
    [
        (DECODING._replace(allowed=0.0), None, 0.25),  # it has ended, and its process goes on
        (DECODING, None, 0.25 + 2.0 + 0.5),  # its process has ended by itself: by its timer, or for memory
        (DECODING, 4.0, 1.0 + 0.5),  # its process was killed after it was looked at
        (DECODING, 3.1, 0.25 + 0.5),  # Linux counts in hundredths
        (None, None, 1.0),  # its process was killed while it started
    ],
)
def test_whoever_ends_a_process_pays_for_the_next_ones_start(
    notes: CheckNotes | None, seen: float | None, seconds: float
) -> None:
    assert seconds_used(notes, seen) == pytest.approx(seconds)


def test_a_processes_time_is_told_as_it_tells_it_itself() -> None:
    before, told, after = time.process_time(), processor_seconds(os.getpid()), time.process_time()
    assert told is not None
    assert before - 0.1 <= told <= after + 0.1
    assert processor_seconds(2**22 + 1) is None  # above the largest process id


def _decode_for_ever(notes: Path, seconds: float, image_seconds: float) -> None:
    with CheckMeter(notes, seconds, image_seconds) as meter:
        meter.decoding(PLACE, 64)
        while True:
            pass


@pytest.mark.parametrize(("seconds", "image_seconds", "whole"), [(0.1, 5.0, True), (5.0, 0.1, False)])
def test_the_nearer_bound_ends_the_process_and_is_named(
    tmp_path: Path, seconds: float, image_seconds: float, whole: bool
) -> None:
    notes = tmp_path / "notes"
    process = multiprocessing.get_context("spawn").Process(
        target=_decode_for_ever, args=(notes, seconds, image_seconds)
    )
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGPROF
    last = CheckNotes.read(notes)
    assert last is not None
    assert (last.pid, last.place, last.pixels, last.whole) == (process.pid, PLACE, 64, whole)
    assert 0 < last.allowed <= 0.1
    assert CheckNotes.read(tmp_path / "none") is None
