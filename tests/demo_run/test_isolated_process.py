"""The stand-alone script: it imports nothing of this project, and an unusable adapter gives one line."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from pathlib import Path

import pytest

from local.demo.data import make
from local.demo.paths import BASE
from local.demo_run import isolated_process
from local.demo_run.isolated_process import answer_in_isolation
from local.errors import LocalError
from vgid_core.data.pairs import PairSet


def test_the_script_imports_nothing_of_ours() -> None:
    script = Path(isolated_process.__file__).with_name("plain_peft.py")
    imported: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add((node.module or "").split(".")[0])
    assert imported <= {"json", "sys", "typing", "torch", "peft", "PIL", "transformers"}


def test_an_empty_adapter_folder_is_an_error_in_one_line_and_questions_may_hold_any_separator(tmp_path: Path) -> None:
    first = make().shown_forgotten.pairs[0]
    odd = PairSet.of("odd", [replace(first, question="One\u2028two\u2029three\u0085four?")])
    nothing = tmp_path / "adapter"
    nothing.mkdir()
    with pytest.raises(LocalError, match="plain PEFT couldn't use the adapter") as failed:
        answer_in_isolation(BASE, nothing, odd, tmp_path)
    assert "\n" not in str(failed.value)
    (asked,) = json.loads((tmp_path / "questions.json").read_text(encoding="utf-8"))
    assert asked["question"] == odd.pairs[0].question
