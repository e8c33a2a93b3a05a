"""Logs of child processes: private, and bounded over any number of restarts."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from local import log_file
from local.child_process import start_child
from local.log_file import open_log, rotate


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_file, "MOST_BYTES", 100)


def test_over_many_restarts_the_newest_lines_stay_in_order_and_the_oldest_go(tmp_path: Path):
    log = tmp_path / "logs" / "api.log"
    for number in range(40):
        say = f"print('line {number:4}' * 5)"
        assert start_child([sys.executable, "-S", "-c", say], log=log).wait(timeout=30) == 0
    names = [f"api.log.{number}" for number in range(log_file.KEPT, 0, -1)] + ["api.log"]
    assert {path.name for path in log.parent.iterdir()} == set(names)
    numbers = [int(line.split()[-1]) for name in names for line in (log.parent / name).read_text().splitlines()]
    assert numbers == list(range(numbers[0], 40))
    assert sum(path.stat().st_size for path in log.parent.iterdir()) <= (log_file.KEPT + 1) * 100 + 50


def test_a_log_from_before_becomes_private_and_short(tmp_path: Path):
    log = tmp_path / "worker.log"
    log.write_bytes(b"old" * 1000 + b"newest")
    log.chmod(0o644)
    open_log(log).close()
    older = tmp_path / "worker.log.1"
    assert (log.read_bytes(), older.read_bytes()[-6:], older.stat().st_size) == (b"", b"newest", 100)
    assert [path.stat().st_mode & 0o777 for path in (log, older)] == [0o600, 0o600]


def test_a_short_log_and_none_are_left_alone(tmp_path: Path):
    log = tmp_path / "redis.log"
    rotate(log)
    log.write_bytes(b"x" * 100)
    rotate(log)
    assert [path.name for path in tmp_path.iterdir()] == ["redis.log"]
