"""How much a reader has to hold in mind: modules of one folder, lines of one file."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
ROOMS = (
    "api",
    "bench",
    "compare",
    "jobs",
    "local",
    "migrations",
    "terminal",
    "vgid_client",
    "vgid_core",
    "vgid_verify",
    "worker",
)
MOST_MODULES, MOST_LINES = 15, 300


def modules() -> list[Path]:
    return [file for room in ROOMS for file in (ROOT / room).rglob("*.py")]


def test_no_folder_holds_more_modules_than_a_reader() -> None:
    counted = Counter(file.parent.relative_to(ROOT) for file in modules())
    assert {str(folder): count for folder, count in counted.items() if count > MOST_MODULES} == {}
    assert sum(counted.values()) > 200, "the files are found at all"


def test_no_file_is_longer_than_can_be_kept_in_view() -> None:
    lines = {str(file.relative_to(ROOT)): len(file.read_text(encoding="utf-8").splitlines()) for file in modules()}
    assert {file: count for file, count in lines.items() if count > MOST_LINES} == {}
