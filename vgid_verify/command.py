"""The command `vgid verify`: checks a signed adapter folder, receipt or check of a server, without any service.

Exit codes: 0 it holds, and all targets are met, or the forgetting arrives · 1 it holds, and the verdict is another one,
or there is none · 2 wrong usage, a file that can't be read, or nothing could be measured again · 5 a signature or a
digest is wrong, something is missing, or a figure measured again is another one.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn
from zipfile import is_zipfile

import typer

from vgid_verify.folder import verify_folder
from vgid_verify.keys import ONE_KEY_IS_NOT_ENOUGH, KeyFile, KeyFileError, PemKey, load_keys
from vgid_verify.proof import proves_job, proves_set, read_pairs
from vgid_verify.receipt import ReceiptReport, verify_receipt
from vgid_verify.render import receipt_text, report_text, serving_text
from vgid_verify.report import Check, Report
from vgid_verify.rerun import CannotMeasure, Rerun, rerun
from vgid_verify.serving import ServingReport, is_serving_check, verify_serving_check

NOT_PASSED, UNREADABLE, DOES_NOT_HOLD = 1, 2, 5


def verify(
    path: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="An unpacked adapter or release; or the file of a receipt or a check."),
    ],
    keys: Annotated[
        Path,
        typer.Option(metavar="FILE", envvar="VGID_KEYS", help="The public keys that you trust: a key file, or a PEM."),
    ],
    salt: Annotated[str | None, typer.Option(metavar="HEX", help="The statement_salt, for the next three.")] = None,
    job: Annotated[str | None, typer.Option(help="Show that the folder's statement is of this job.")] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=FILE.jsonl", help="Show that a set was exactly this. Repeatable."),
    ] = None,
    again: Annotated[
        Path | None,
        typer.Option("--rerun", metavar="RUN.toml", help="Measure it again on this model and these sets, and compare."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON.")] = False,
) -> None:
    """Check a signed adapter folder, deletion receipt or check of a server, offline."""
    try:
        trusted = load_keys(keys)
        if not path.exists():
            _refuse(f"{path}: there is no such file or folder")
        report = _verified(path, trusted)
        if isinstance(report, ReceiptReport):
            if job or pairs or again:
                _refuse("--job, --set and --rerun are for folders: a receipt names its job itself")
            _end_with_receipt(report, as_json)
        if not report.holds:
            _end(report, [], None, as_json)
        if isinstance(report, Report) and report.release is not None and (job or pairs or again):
            _refuse("--job, --set and --rerun are for a job's folder: a release's statement names no job and no set")
        key = _key(salt, needed=bool(job or pairs or again))
        proofs = [*_job_proofs(report, key, job), *(_set_proof(report, key, text) for text in pairs or [])]
        _end(report, proofs, None if again is None else _rerun(report, path, again, key), as_json)
    except (KeyFileError, CannotMeasure) as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.filename}: {error.strerror}")


def _end(report: Report | ServingReport, proofs: list[Check], found: Rerun | None, as_json: bool) -> NoReturn:
    if as_json:
        own = {"proofs": [vars(proof) for proof in proofs], "rerun": None if found is None else asdict(found)}
        typer.echo(json.dumps(report.as_json() | own, indent=2))
    else:
        typer.echo(report_text(report, proofs, found) if isinstance(report, Report) else serving_text(report, proofs))
    checks = (*proofs, *(() if found is None else found.checks))
    if found is not None and not found.checks:
        raise typer.Exit(UNREADABLE)
    if not (report.holds and all(check.held for check in checks)):
        raise typer.Exit(DOES_NOT_HOLD)
    raise typer.Exit(0 if report.passed else NOT_PASSED)


def _verified(path: Path, keys: KeyFile | PemKey) -> Report | ReceiptReport | ServingReport:
    if path.is_file() and is_zipfile(path):
        _refuse(f"{path} is a zip: unpack it, and name the folder")
    if path.is_file():
        return verify_serving_check(path, keys) if is_serving_check(path) else verify_receipt(path, keys)
    if isinstance(keys, PemKey):
        _refuse(ONE_KEY_IS_NOT_ENOUGH)
    return verify_folder(path, keys)


def _rerun(report: Report | ServingReport, folder: Path, run_file: Path, key: bytes) -> Rerun:
    if isinstance(report, ServingReport):
        _refuse("--rerun is for folders: ask the server again with `vgid verify-serving`")
    return rerun(report, folder, run_file, key)


def _key(salt: str | None, needed: bool) -> bytes:
    if salt is None:
        if needed:
            _refuse(
                "--job, --set and --rerun need --salt: the job's view, or verify-serving, says it as statement_salt"
            )
        return b""
    try:
        return bytes.fromhex(salt)
    except ValueError:
        _refuse("--salt takes the hex digits of a statement_salt")


def _job_proofs(report: Report | ServingReport, salt: bytes, job: str | None) -> list[Check]:
    if job is None:
        return []
    if isinstance(report, ServingReport):
        _refuse("--job is for folders: the check of a server names no job")
    return [_proof("job", proves_job(report, salt, job))]


def _set_proof(report: Report | ServingReport, salt: bytes, text: str) -> Check:
    name, sign, file = text.partition("=")
    if not sign:
        _refuse("--set takes NAME=FILE.jsonl")
    try:
        found = read_pairs(Path(file))
    except ValueError as error:
        _refuse(f"--set {name}: {error}")
    if name not in report.set_digests:
        _refuse(f"--set {name}: the statement names no such set; it names {', '.join(sorted(report.set_digests))}")
    return _proof(f"set {name}", proves_set(report, salt, name, found))


def _proof(name: str, held: bool) -> Check:
    return Check(name, held, "" if held else "the statement names another one, or the salt isn't this statement's")


def _end_with_receipt(report: ReceiptReport, as_json: bool) -> NoReturn:
    typer.echo(json.dumps(report.as_json(), indent=2) if as_json else receipt_text(report))
    raise typer.Exit(0 if report.holds else DOES_NOT_HOLD)


def _refuse(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(UNREADABLE)
