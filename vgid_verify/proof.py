"""Shows that a set of pairs, or a job, is the one that a statement names.

A statement names both by keyed digests. The salt is the key, and only the client has it, or who checked the server.
Without it nobody can test a guess; with it anybody can, so who hands it on lets that reader test guesses, too.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from vgid_verify.report import Report
from vgid_verify.serving import ServingReport

# Image, question, answer; and, where a line has them, person and fact.
Row = tuple[bytes, str, str] | tuple[bytes, str, str, str | None, str | None]


def keyed_digest(salt: bytes, what: str, value: str) -> str:
    """HMAC-SHA256 of the value under the salt, in hex. `what` keeps digests of different things apart."""
    return hmac.digest(salt, f"{what}\0{value}".encode(), hashlib.sha256).hex()


def pairs_digest(pairs: Iterable[Row]) -> str:
    """sha256, in hex, over the JSON list of (sha256 of the image's bytes, question, answer).

    A pair with a person or a fact adds both.
    """
    rows = [
        [hashlib.sha256(image).hexdigest(), question, answer, *(named if any(named) else ())]
        for image, question, answer, *named in pairs
    ]
    return hashlib.sha256(json.dumps(rows, ensure_ascii=False, separators=(",", ":")).encode()).hexdigest()


def read_pairs(path: Path) -> list[Row]:
    """The pairs of a JSONL file, whose images are paths beside it. Raises OSError, or ValueError naming the line."""
    images: dict[str, bytes] = {}
    pairs: list[Row] = []
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").split("\n"), 1):
        if not line.strip():
            continue
        try:
            record: dict[str, Any] = json.loads(line)
            name, question, answer = record["image"], record["question"], record["answer"]
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"line {number} isn't an object of image, question and answer") from None
        if name not in images:
            images[name] = (path.parent / name).read_bytes()
        pairs.append((images[name], question, answer, record.get("person"), record.get("fact")))
    return pairs


def proves_job(report: Report, salt: bytes, job_id: str) -> bool:
    """Whether the statement is of this job."""
    return hmac.compare_digest(report.job_digest, keyed_digest(salt, "job", job_id))


def proves_set(report: Report | ServingReport, salt: bytes, name: str, pairs: Iterable[Row]) -> bool:
    """Whether the set of that name held exactly these pairs, in this order.

    A run's are forget, retain and its probes; a check of a server has pairs, and maybe control.
    """
    return proves_digest(report, salt, name, pairs_digest(pairs))


def proves_digest(report: Report | ServingReport, salt: bytes, name: str, digest: str) -> bool:
    """The same by the set's digest (`pairs_digest`)."""
    return hmac.compare_digest(report.set_digests.get(name, ""), keyed_digest(salt, f"set/{name}", digest))
