"""The command `vgid verify`: checks a signed adapter folder, or a deletion receipt, without any service.

Exit codes: 0 it holds, and all targets are met · 1 it holds, and the verdict is another one, or there is none · 2 wrong
usage, a file that can't be read, or nothing could be measured again · 5 a signature or a digest is wrong, something is
missing, or a figure measured again is another one.
"""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from vgid_verify.folder import verify_folder
from vgid_verify.keys import KeyFile, KeyFileError
from vgid_verify.proof import proves_job, proves_set, read_pairs
from vgid_verify.receipt import ReceiptReport, verify_receipt
from vgid_verify.render import receipt_text, report_text
from vgid_verify.report import Check, Report
from vgid_verify.rerun import CannotMeasure, Rerun, rerun

NOT_PASSED, UNREADABLE, DOES_NOT_HOLD = 1, 2, 5


def verify(
    path: Annotated[Path, typer.Argument(metavar="FOLDER", help="An unpacked adapter; or a deletion receipt's file.")],
    keys: Annotated[
        Path,
        typer.Option(metavar="FILE", envvar="VGID_KEYS", help="The public keys that you trust, kept from the service."),
    ],
    salt: Annotated[
        str | None, typer.Option(metavar="HEX", help="The job's statement_salt, for the next three.")
    ] = None,
    job: Annotated[str | None, typer.Option(help="Show that the statement is of this job.")] = None,
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
    """Check a signed adapter folder, or a deletion receipt, offline."""
    try:
        trusted = KeyFile.load(keys)
        if not path.exists():
            _refuse(f"{path}: there is no such file or folder")
        if path.is_file():
            _end_with_receipt(verify_receipt(path, trusted), as_json)
        report = verify_folder(path, trusted)
        if not report.holds:
            _end(report, [], None, as_json)
        key = _key(salt, needed=bool(job or pairs or again))
        proofs = _proofs(report, key, job, pairs or [])
        _end(report, proofs, None if again is None else rerun(report, path, again, key), as_json)
    except (KeyFileError, CannotMeasure) as error:
        _refuse(str(error))
    except OSError as error:
        _refuse(f"{error.filename}: {error.strerror}")


def _end(report: Report, proofs: list[Check], found: Rerun | None, as_json: bool) -> NoReturn:
    if as_json:
        own = {"proofs": [vars(proof) for proof in proofs], "rerun": None if found is None else asdict(found)}
        typer.echo(json.dumps(report.as_json() | own, indent=2))
    else:
        typer.echo(report_text(report, proofs, found))
    checks = (*proofs, *(() if found is None else found.checks))
    if not (report.holds and all(check.held for check in checks)):
        raise typer.Exit(DOES_NOT_HOLD)
    raise typer.Exit(0 if report.passed else NOT_PASSED)


def _key(salt: str | None, needed: bool) -> bytes:
    if salt is None:
        if needed:
            _refuse("--job, --set and --rerun need --salt: the job's view holds it as statement_salt")
        return b""
    try:
        return bytes.fromhex(salt)
    except ValueError:
        _refuse("--salt takes the hex digits of the job's statement_salt")


def _proofs(report: Report, key: bytes, job: str | None, sets: list[str]) -> list[Check]:
    proofs = [] if job is None else [_proof("job", proves_job(report, key, job))]
    for text in sets:
        name, sign, file = text.partition("=")
        if not sign:
            _refuse("--set takes NAME=FILE.jsonl")
        try:
            found = read_pairs(Path(file))
        except ValueError as error:
            _refuse(f"--set {name}: {error}")
        proofs.append(_proof(f"set {name}", proves_set(report, key, name, found)))
    return proofs


def _proof(name: str, held: bool) -> Check:
    return Check(name, held, "" if held else "the statement names another one, or the salt isn't this job's")


def _end_with_receipt(report: ReceiptReport, as_json: bool) -> NoReturn:
    typer.echo(json.dumps(report.as_json(), indent=2) if as_json else receipt_text(report))
    raise typer.Exit(0 if report.holds else DOES_NOT_HOLD)


def _refuse(message: str) -> NoReturn:
    typer.echo(f"error: {message}", err=True)
    raise typer.Exit(UNREADABLE)
