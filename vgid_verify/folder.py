"""Verifies an adapter folder: its statements' signatures, every file's digest, and the folder's own signature."""

from __future__ import annotations

import hashlib
import json
import tempfile
from base64 import b64decode, b64encode
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path

from cryptography.x509 import load_pem_x509_certificate
from rfc3161_client import VerificationError, VerifierBuilder, decode_timestamp_response

from vgid_verify.envelopes import Signed, Unverified, open_envelope
from vgid_verify.keys import KeyFile, KeyFileError, PublicKey, folder_key_digest
from vgid_verify.names import (
    BUNDLE,
    FOLDER_KEY,
    FOLDER_SIGNATURE,
    PREDICATES,
    PROVENANCE,
    RELEASE,
    SIGNATURE_FILES,
    TEST_RESULT,
    TIMESTAMP,
    VERIFICATION_RESULT,
)
from vgid_verify.report import Check, Report, report_of
from vgid_verify.text import moment, printable

# As Model Signing writes them: whoever reads the bundle passes over other fields, and over another order.
_FIELDS = [
    ["mediaType", "verificationMaterial", "dsseEnvelope"], ["payload", "payloadType", "signatures"], ["sig", "keyid"]
]  # fmt: skip
_KINDS = {
    TEST_RESULT: "test result", VERIFICATION_RESULT: "verification result", PROVENANCE: "provenance", RELEASE: "release"
}  # fmt: skip


def verify_folder(folder: Path, keys: KeyFile) -> Report:
    """Checks all of it, offline. What doesn't hold becomes a check that says so; nothing is raised for it.

    Raises OSError for a folder that can't be read, KeyFileError for timestamp_roots that can't.
    """
    try:
        signed = _statements(folder, keys)
    except Unverified as error:
        return Report((Check("statements", held=False, detail=str(error)),))
    first = signed.get(RELEASE) or signed[TEST_RESULT]
    checks = [Check("statements", held=True, detail=f"{', '.join(_KINDS[kind] for kind in signed)}; {first.about}")]
    checks += _file_checks(folder, first.subjects)
    known = {*first.subjects, *SIGNATURE_FILES, *(name for name, _ in _files_of(folder))}
    checks.append(_folder_check(folder, keys.key(first.key.keyid), known, first.predicate.get(FOLDER_KEY)))
    stamp, stamped_at = _stamp_check(folder, keys)
    checks += stamp
    if not all(check.held for check in checks):
        return Report(tuple(checks), first.key.keyid)
    predicates = {kind: one.predicate for kind, one in signed.items()}
    return report_of(tuple(checks), first.key.keyid, first.signed_at, stamped_at, predicates)


def _statements(folder: Path, keys: KeyFile) -> dict[str, Signed]:
    """The folder's statements by predicate type, which agree on key, time and subjects. Raises Unverified."""
    bundle = folder / BUNDLE
    if not bundle.is_file():
        raise Unverified(f"{BUNDLE} is missing: the folder says nothing that could be checked")
    try:
        lines = bundle.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError:
        raise Unverified(f"{BUNDLE} was changed: it isn't text") from None
    try:
        found = [open_envelope(line, keys) for line in lines]
    except Unverified as error:
        raise Unverified(f"{BUNDLE}: {error}") from None
    if sorted(one.predicate_type for one in found) not in (sorted(PREDICATES), [RELEASE]):
        each = ", ".join(_KINDS[kind] for kind in PREDICATES)
        raise Unverified(f"{BUNDLE} doesn't hold one statement of each kind: {each}; nor one of a release alone")
    common = (found[0].key, found[0].signed_at, found[0].subjects)
    if any((one.key, one.signed_at, one.subjects) != common for one in found):
        raise Unverified(f"{BUNDLE} holds statements of different signings")
    return {kind: one for kind in _KINDS for one in found if one.predicate_type == kind}


def _file_checks(folder: Path, subjects: dict[str, str]) -> list[Check]:
    """One check for each file that isn't as it was signed, or one for all."""
    present = dict(_files_of(folder))
    faults = [Check("files", held=False, detail=f"{name} is missing") for name in sorted(subjects.keys() - present)]
    faults += [
        Check("files", held=False, detail=f"{printable(name)} was added: no statement names it")
        for name in sorted(present.keys() - subjects.keys() - SIGNATURE_FILES)
    ]
    for name in sorted(subjects.keys() & present.keys()):
        path = present[name]
        if path.is_symlink() or not path.is_file():
            faults.append(Check("files", held=False, detail=f"{name} isn't a plain file"))
        elif _sha256(path) != subjects[name]:
            faults.append(Check("files", held=False, detail=f"{name} was changed: its sha256 is another one"))
    return faults or [Check("files", held=True, detail=", ".join(sorted(subjects)))]


def _files_of(folder: Path) -> Iterator[tuple[str, Path]]:
    """Everything below the folder but folders that hold something, by its name from there; a link counts as a file."""
    for path in folder.rglob("*"):
        if path.is_symlink() or not path.is_dir() or not any(path.iterdir()):
            yield path.relative_to(folder).as_posix(), path


def _folder_check(folder: Path, key: PublicKey, files: set[str], named: object) -> Check:
    """The OpenSSF Model Signing signature, which covers the statements too.

    files: names that a fault may be of. named: digest of the key that signs folders, as the statements name it.
    """
    # Imported late: it brings Sigstore's client along, which takes longer to load than all checks take.
    from model_signing import hashing, verifying

    name = "folder signature"
    signature = folder / FOLDER_SIGNATURE
    if not signature.is_file():
        return Check(name, held=False, detail=f"{FOLDER_SIGNATURE} is missing")
    if not _is_named(key, named):
        return Check(name, held=False, detail="the key file's key for folders isn't the one that the statements name")
    with tempfile.TemporaryDirectory() as scratch:
        public = Path(scratch) / "public.pem"
        public.write_text(key.folders.keyval["public"], encoding="ascii")
        hashed = hashing.Config().set_ignored_paths(paths=[FOLDER_SIGNATURE], ignore_git_paths=False)
        try:
            verifier = verifying.Config().use_elliptic_key_verifier(public_key=public).set_hashing_config(hashed)
            verifier.verify(folder, signature)
            _require_exact(signature.read_text(encoding="utf-8"))
        except OSError:
            raise
        except Exception as error:  # the library raises many types on a damaged signature
            said = str(error).replace("\\'", "'")  # a list of messages, as Python writes it
            named = ", ".join(sorted(file for file in files if f"'{file}'" in said or f" {file}" in said))
            reason = f"changed, missing or added: {named}" if named else "it was changed, or the key is another one"
            return Check(name, held=False, detail=printable(f"{FOLDER_SIGNATURE} doesn't hold: {reason}"))
    return Check(name, held=True, detail=f"OpenSSF Model Signing, {FOLDER_SIGNATURE}")


def _is_named(key: PublicKey, named: object) -> bool:
    try:
        return folder_key_digest(key.folders.keyval["public"]) == named
    except (KeyError, ValueError):
        return False


def _require_exact(text: str) -> None:
    """Raises ValueError unless this is how the bundle was written, to the byte.

    Readers pass over spaces, and over bits that base64 doesn't need, so a byte could be changed with no other effect.
    """
    bundle = json.loads(text)
    envelope = bundle["dsseEnvelope"]
    encoded = [envelope["payload"], *(signature["sig"] for signature in envelope["signatures"])]
    if json.dumps(bundle, separators=(",", ":"), ensure_ascii=False) != text:
        raise ValueError("spaces")
    if any(b64encode(b64decode(each)).decode() != each for each in encoded):
        raise ValueError("bits")
    if any(signature["keyid"] for signature in envelope["signatures"]):
        raise ValueError("a key id that nobody has signed")
    if [list(bundle), list(envelope), *map(list, envelope["signatures"])] != _FIELDS:
        raise ValueError("fields")


def _stamp_check(folder: Path, keys: KeyFile) -> tuple[list[Check], datetime | None]:
    """The time stamp's check, if there is a time stamp that can be checked, and its time if it holds."""
    path = folder / TIMESTAMP
    if not path.is_file() or not keys.timestamp_roots:
        return [], None
    builder = VerifierBuilder()
    try:
        for pem in keys.timestamp_roots:
            builder = builder.add_root_certificate(load_pem_x509_certificate(pem.encode()))
    except ValueError:
        raise KeyFileError("a certificate among the key file's timestamp_roots can't be read") from None
    try:
        response = decode_timestamp_response(path.read_bytes())
        builder.build().verify_message(response, (folder / BUNDLE).read_bytes())
    except (VerificationError, ValueError):
        return [Check("time stamp", held=False, detail=f"{TIMESTAMP} isn't of these statements")], None
    stamped_at = response.tst_info.gen_time
    return [Check("time stamp", held=True, detail=f"the statements existed at {moment(stamped_at)}")], stamped_at


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
