"""Measures an adapter again, with the user's own pairs, and compares with what the statement says.

The measuring is `vgid evaluate`, run as a program of its own: this module imports none of it. Only figures of sets that
are proven to be the run's own are compared.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vgid_verify.names import BASE_DIGEST, OF_OTHERS
from vgid_verify.proof import proves_digest
from vgid_verify.report import Check, Report

# Hardware rounds in other ways, so that a greedy answer here and there goes on with another word.
TOLERANCE = 0.05
ITEMS = 2
# Of fewer, two would be too many to say anything.
FEWEST = 8
# Sets besides its own that a figure's value is made with, by the beginning of its name; the first that fits counts.
_MADE_WITH = {
    "ranking": ("forget", "retain", "unseen"),
    "membership": ("forget", "unseen"),
    "relearning.out_of_domain": ("forget", "retain"),
    "relearning.general": ("forget", "utility"),
    "prompts.name_on_another_photo": ("forget", "retain", "unseen"),
    "misattributed": ("retain", "registered_retain", "utility", "neighbours"),
    "everyone_else": (),
    "generated": (),
    "": ("forget",),
}


_PAIR_SETS = {"forget", "retain", "registered_retain", "utility", "unseen", "neighbours"}


class CannotMeasure(Exception):
    """The measuring didn't come about. The message says why."""


@dataclass(frozen=True)
class Rerun:
    """What was found here, beside what was signed. not_compared: figures and why. outcome: of the verdict
    here; None without the run's own sets, since a figure without its control is judged otherwise, and for a run
    that has forgotten other requests, too, whose verdict is also about them.
    """

    checks: tuple[Check, ...]
    not_compared: tuple[str, ...]
    outcome: str | None


def rerun(report: Report, folder: Path, run_file: Path, salt: bytes) -> Rerun:
    """Measures by the settings that the statement names, on the model and the sets of the run file.

    Raises CannotMeasure, also where neither model nor forget set is the run's own.
    """
    return compared(report, _measured(report, folder, run_file), salt)


def compared(report: Report, found: Mapping[str, Any], salt: bytes) -> Rerun:
    """Compares what `vgid evaluate --json` printed. Raises CannotMeasure as `rerun` does."""
    if found["measured"]["base_digest"] != _base_digest(report):
        raise CannotMeasure("the run file's model isn't the base that the statement names: its digest is another one")
    own = {name for name, digest in found["set_digests"].items() if proves_digest(report, salt, name, digest)}
    if not report.evidence:
        raise CannotMeasure("the statement has no figures that could be compared: its run had no audits")
    if "forget" not in own:
        raise CannotMeasure("the run file's forget set isn't the run's own, or the salt isn't this job's")
    here = {(row["figure"], row["set"]): row for row in found["figures"]}
    checks, left_out = [], []
    for row in (report.evidence or {}).get("figures", ()):
        name, of = row["figure"], row["set"]
        if of in OF_OTHERS:
            left_out.append(f"{name} on {of}: the pairs are other requests'")
            continue
        missing = sorted({of, *_made_with(name, report)} - own)
        if row["items"] < FEWEST:
            left_out.append(f"{name} on {of}: {row['items']} items are too few to compare")
        elif missing:
            left_out.append(f"{name} on {of}: the run's set {' and '.join(missing)} isn't here")
        elif (name, of) not in here:
            left_out.append(f"{name} on {of}: it wasn't measured here")
        else:
            checks.append(_compare(row, here[name, of]))
    whole = not report.of_others and _PAIR_SETS & report.set_digests.keys() <= own
    outcome = str(found["verdict"]["outcome"]) if whole else None
    return Rerun(tuple(checks), tuple(left_out), outcome)


def _compare(signed: Mapping[str, Any], here: Mapping[str, Any]) -> Check:
    allowed = max(TOLERANCE, ITEMS / signed["items"])
    held = abs(signed["value"] - here["value"]) <= allowed
    detail = f"signed {signed['value']:.3f}, here {here['value']:.3f} (may differ by {allowed:.2f})"
    return Check(f"{signed['figure']} on {signed['set']}", held, detail)


def _made_with(figure: str, report: Report) -> set[str]:
    """The sets that the figure is made with, as far as the run had them."""
    sets = next(sets for beginning, sets in _MADE_WITH.items() if figure.startswith(beginning))
    return set(sets) & report.set_digests.keys()


def _base_digest(report: Report) -> str:
    found = report.provenance.get("buildDefinition", {}).get("resolvedDependencies", [])
    return next((item["digest"][BASE_DIGEST] for item in found if BASE_DIGEST in item["digest"]), "")


def _measured(report: Report, folder: Path, run_file: Path) -> dict[str, Any]:
    program = shutil.which("vgid", path=str(Path(sys.executable).parent)) or shutil.which("vgid")
    if program is None:
        raise CannotMeasure("measuring needs the whole package, with its command `vgid`")
    settings = [part for setting in _settings(report) for part in ("--set", setting)]
    typed = [program, "evaluate", str(run_file), "--adapter", str(folder), "--json", *settings]
    # Its progress is for the user to see. The signer, whose settings are in it, was found to be one that is trusted.
    done = subprocess.run(typed, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    try:
        document: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        raise CannotMeasure("`vgid evaluate` could not measure: see above") from None
    return document


def _settings(report: Report) -> Iterator[str]:
    """The settings on which figures depend, as the statement names them."""
    config = report.provenance.get("buildDefinition", {}).get("externalParameters", {}).get("config", {})
    if "seed" in config:
        yield f"seed={config['seed']}"
    for table in ("evaluation", "verdict"):
        for key, value in sorted(config.get(table, {}).items()):
            yield f"{table}.{key}={value}"
