"""Runs the downloaded adapter in a process that imports nothing of this project."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from pathlib import Path

from local.errors import LocalError
from vgid_core.data.pairs import PairSet

_SCRIPT = Path(__file__).parent / "plain_peft.py"
_SECONDS = 120


def unpack(archive: Path, folder: Path) -> Path:
    """Unpacks the adapter's zip into `folder`, and returns the folder."""
    with zipfile.ZipFile(archive) as opened:
        opened.extractall(folder)
    return folder


def answer_in_isolation(base: Path, adapter: Path, pairs: PairSet, folder: Path) -> list[str]:
    """Answers the pairs' questions with plain PEFT in an isolated interpreter. Raises LocalError when that fails.

    The questions and images are written into `folder`, from which the interpreter reads them.
    """
    pairs.write_jsonl(folder / f"{pairs.name}.jsonl")
    lines = (folder / f"{pairs.name}.jsonl").read_text(encoding="utf-8").split("\n")
    items = [json.loads(line) for line in lines if line]
    questions = folder / "questions.json"
    asked = [{"image": str(folder / item["image"]), "question": item["question"]} for item in items]
    questions.write_text(json.dumps(asked, ensure_ascii=False), encoding="utf-8")
    # -I: neither an environment variable nor the current folder can add imports.
    command = [sys.executable, "-I", str(_SCRIPT), str(base), str(adapter), str(questions)]
    # The command is this interpreter and our own script.
    done = subprocess.run(  # noqa: S603
        command, cwd=folder, capture_output=True, text=True, timeout=_SECONDS
    )
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or ["no reason given"]
        raise LocalError(f"plain PEFT couldn't use the adapter: {last[0]}")
    answers: list[str] = json.loads(done.stdout)
    return answers
