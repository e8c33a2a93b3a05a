"""`vgid combine` as typed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.vgid_core.cli.conftest import Done, invoke
from tests.vgid_core.lora.test_combine import save
from vgid_core.cli.combine import combine


def test_two_adapters_become_one_and_are_not_overwritten(tmp_path: Path) -> None:
    one, two = save(tmp_path / "one", 2), save(tmp_path / "two", 3, seed=1)
    result = invoke(combine, one, "--with", two, "--out", tmp_path / "both", "--rank", "4")
    assert result.exit_code == 0, result.output
    assert "rank 4" in result.stdout
    assert "lost at most" in result.stdout
    assert "not audited" in result.stdout
    again = invoke(combine, one, "--with", two, "--out", tmp_path / "both")
    assert (again.exit_code, "--overwrite" in again.stderr) == (2, True)
    assert invoke(combine, one, "--with", two, "--out", tmp_path / "both", "--overwrite").exit_code == 0


def test_the_result_is_audited_by_a_run_files_sets(done: Done, tmp_path: Path) -> None:
    place = shutil.copytree(done.place.folder, tmp_path / "place")
    adapter, file = place / done.place.out.name, place / done.place.file.name
    both, own = tmp_path / "both", tmp_path / "own"
    shutil.copytree(adapter, own)
    (own / "manifest.json").unlink()  # as an adapter that doesn't forget
    refused = invoke(combine, adapter, "--with", own, "--out", both, "--audit", file)
    assert (refused.exit_code, "nothing to judge by" in refused.stderr, both.exists()) == (2, True, False)
    audited = file.with_name("audited.toml")
    audited.write_text(file.read_text().replace('audits = "none"', 'audits = "quick"'))
    result = invoke(combine, adapter, "--with", own, "--out", both, "--audit", audited)
    assert result.exit_code in (0, 3), result.output
    assert "not audited" not in result.stdout
    assert (tmp_path / "both" / "combined.json").is_file()


@pytest.mark.parametrize("given", ["--with", "--audit"])
def test_what_isnt_there_is_named(tmp_path: Path, given: str) -> None:
    one = save(tmp_path / "one", 2)
    other = [] if given == "--with" else ["--with", one]
    result = invoke(combine, one, *other, given, tmp_path / "nothing", "--out", tmp_path / "both")
    assert result.exit_code in (1, 2)
    assert "nothing" in result.stderr
    assert not (tmp_path / "both").exists()
