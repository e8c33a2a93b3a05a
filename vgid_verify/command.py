"""The command `vgid verify`: checks a signed adapter folder, receipt or check of a server, without any service.

Exit codes: 0 it holds, and all targets are met, or the forgetting arrives · 1 it holds, and the verdict is another one,
or there is none · 2 wrong usage, or a file that can't be read · 5 a signature or a digest is wrong, or something is
missing.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vgid_verify.folder import verify_folder
from vgid_verify.keys import KeyFile, KeyFileError, PemKey, load_keys
from vgid_verify.proof import proves_job, proves_set, read_pairs
from vgid_verify.receipt import ReceiptReport, verify_receipt
from vgid_verify.render import receipt_text, report_text, serving_text
from vgid_verify.report import Check, Report
from vgid_verify.serving import ServingReport, is_serving_check, verify_serving_check

NOT_PASSED, UNREADABLE, DOES_NOT_HOLD = 1, 2, 5


def verify(
    path: Annotated[
        Path,
        typer.Argument(metavar="FOLDER", help="An unpacked adapter; or the file of a receipt or a check."),
    ],
    keys: Annotated[
        Path,
        typer.Option(metavar="FILE", envvar="VGID_KEYS", help="The public keys that you trust: a key file, or a PEM."),
    ],
    salt: Annotated[str | None, typer.Option(metavar="HEX", help="The statement_salt, for the next two.")] = None,
    job: Annotated[str | None, typer.Option(help="Show that the folder's statement is of this job.")] = None,
    pairs: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="NAME=FILE.jsonl", help="Show that a set was exactly this. Repeatable."),
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
            _end_with_receipt(report, as_json)
        proofs = _proofs(report, salt, job, pairs or []) if report.holds else []
    except KeyFileError as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.filename}: {error.strerror}")
    if as_json:
        typer.echo(json.dumps(report.as_json() | {"proofs": [vars(proof) for proof in proofs]}, indent=2))
    else:
        typer.echo(report_text(report, proofs) if isinstance(report, Report) else serving_text(report, proofs))
    if not (report.holds and all(proof.held for proof in proofs)):
        raise typer.Exit(DOES_NOT_HOLD)
    raise typer.Exit(0 if report.passed else NOT_PASSED)


def _verified(path: Path, keys: KeyFile | PemKey) -> Report | ReceiptReport | ServingReport:
    if path.is_file():
        return verify_serving_check(path, keys) if is_serving_check(path) else verify_receipt(path, keys)
    if isinstance(keys, PemKey):
        _refuse("a folder is signed by two keys, and a PEM holds one: pass the service's key file")
    return verify_folder(path, keys)


def _proofs(report: Report | ServingReport, salt: str | None, job: str | None, sets: list[str]) -> list[Check]:
    if salt is None:
        if job is not None or sets:
            _refuse("--job and --set need --salt: the job's view holds it as statement_salt, verify-serving prints it")
        return []
    try:
        key = bytes.fromhex(salt)
    except ValueError:
        _refuse("--salt takes the hex digits of a statement_salt")
    return [*_job_proofs(report, key, job), *(_set_proof(report, key, text) for text in sets)]


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
    return _proof(f"set {name}", proves_set(report, salt, name, found))


def _proof(name: str, held: bool) -> Check:
    return Check(name, held, "" if held else "the statement names another one, or the salt isn't this statement's")


def _end_with_receipt(report: ReceiptReport, as_json: bool) -> NoReturn:
    typer.echo(json.dumps(report.as_json(), indent=2) if as_json else receipt_text(report))
    raise typer.Exit(0 if report.holds else DOES_NOT_HOLD)


def _refuse(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(UNREADABLE)
