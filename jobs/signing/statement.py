"""An adapter's statements: what was measured, what was concluded, how it was made. They and the folder are signed.

A release's folder has one statement instead, which tells of no single request.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from jobs.signing.keys import PrivateKey
from vgid_verify import keyed_digest
from vgid_verify.keys import folder_key_digest
from vgid_verify.names import (
    ADAPTER_WEIGHTS,
    BASE_DIGEST,
    BUNDLE,
    EVERY_REQUEST_PASSED,
    EVIDENCE,
    FOLDER_KEY,
    FOLDER_SIGNATURE,
    HARDWARE,
    KEYED_DIGEST,
    LIMITS,
    MEASURED,
    OF_OTHERS,
    PROVENANCE,
    RELEASE,
    REQUESTS,
    SET_PREFIX,
    SIGNATURE_FILES,
    SIGNED_AT,
    TEST_RESULT,
    TIMESTAMP,
    VERIFICATION_RESULT,
)
from vgid_verify.signing import sign_statement

_BUILD_TYPE = "urn:vgid:unlearn:1"
_WORKER = "urn:vgid:worker"
# What fails where a run reached no verdict. "Passed with warnings" would be read as passed.
_NO_VERDICT = "verdict-reached"

Stamp = Callable[[bytes], bytes | None]


@dataclass(frozen=True)
class StatementInputs:
    """What a statement is made of.

    folder: the adapter's, complete but for the signatures. manifest: as in the folder, with keyed digests
    (`keyed_manifest`). evidence: the run's figures and verdict (`vgid-evidence/1`), None where it reached none.
    started_at, signed_at: by the database's clock. salt: what the client gets and nobody else.
    """

    folder: Path
    manifest: Mapping[str, Any] = field(repr=False)
    evidence: Mapping[str, Any] | None = field(repr=False)
    job_id: UUID
    started_at: datetime
    signed_at: datetime
    salt: bytes = field(repr=False)


def keyed_manifest(manifest: Mapping[str, Any], salt: bytes) -> dict[str, Any]:
    """The manifest with a keyed digest for each set's plain one, which would let anybody test guesses of the set.

    All sets, because the retain set and the photos lack what the forget set holds. Of other requests there is no digest
    at all, since the salt is with this job's client.
    """
    data = {
        name: {"sets": entry["sets"]}
        if name in OF_OTHERS
        else {
            **{key: value for key, value in entry.items() if key != "digest"},
            KEYED_DIGEST: _keyed(salt, name, entry),
        }
        for name, entry in manifest["data"].items()
    }
    return {**manifest, "data": data}


def sign_folder(inputs: StatementInputs, key: PrivateKey, stamp: Stamp) -> None:
    """Writes the statements, a time stamp if `stamp` gives one, and the folder's signature into the folder."""
    subjects = _subjects(inputs.folder)
    predicates = {
        TEST_RESULT: _test_result(inputs, subjects),
        VERIFICATION_RESULT: _verification_result(inputs),
        PROVENANCE: _provenance(inputs),
    }
    _sign(inputs.folder, subjects, predicates, inputs.signed_at, key, stamp)


def sign_release(folder: Path, manifest: Mapping[str, Any], signed_at: datetime, key: PrivateKey, stamp: Stamp) -> None:
    """Signs the folder of a release as `sign_folder` does a job's, with one statement: which adapter it is, of which
    base, and that every request that it holds has passed. It tells nothing of any of them.

    manifest: the folder's own.
    """
    subjects, base = _subjects(folder), manifest["base_model"]
    made = {
        "adapter": {"sha256": subjects[ADAPTER_WEIGHTS]},
        "base": {"name": base["name"], "digest": {BASE_DIGEST: base["digest"]}},
        "properties": [EVERY_REQUEST_PASSED],
    }
    _sign(folder, subjects, {RELEASE: made}, signed_at, key, stamp)


def _subjects(folder: Path) -> dict[str, str]:
    """The sha256 of each file that is to be signed."""
    return {file.name: _sha256(file) for file in folder.iterdir() if file.name not in SIGNATURE_FILES}


def _sign(
    folder: Path,
    subjects: Mapping[str, str],
    predicates: Mapping[str, dict[str, Any]],
    signed_at: datetime,
    key: PrivateKey,
    stamp: Stamp,
) -> None:
    common = {SIGNED_AT: signed_at.isoformat(), FOLDER_KEY: _folder_key(key)}
    envelopes = [sign_statement(subjects, kind, made | common, key.statements) for kind, made in predicates.items()]
    bundle = "".join(json.dumps(envelope) + "\n" for envelope in envelopes).encode()
    (folder / BUNDLE).write_bytes(bundle)
    stamped = stamp(bundle)
    if stamped is not None:
        (folder / TIMESTAMP).write_bytes(stamped)
    _sign_with_model_signing(folder, key)


def _test_result(inputs: StatementInputs, subjects: Mapping[str, str]) -> dict[str, Any]:
    evidence = inputs.evidence
    verdict = {} if evidence is None else evidence["verdict"]
    targets = verdict.get("targets", [])
    failed = [_test_name(target) for target in targets if not target["held"]]
    if evidence is None:
        failed = [_NO_VERDICT]
    elif not verdict["passed"] and not failed:
        failed = [verdict["outcome"]]
    configuration = [
        {"name": name, "digest": {"sha256": subjects[name]}}
        for name in ("evidence.json", "manifest.json")
        if name in subjects
    ]
    own = {} if evidence is None else {EVIDENCE: dict(evidence)}
    return own | {
        "result": "FAILED" if failed else "PASSED",
        "configuration": configuration,
        "passedTests": [_test_name(target) for target in targets if target["held"]],
        "warnedTests": list(verdict.get("unmeasured", [])),
        "failedTests": failed,
        MEASURED: inputs.manifest["metrics"],
        LIMITS: [] if evidence is None else list(evidence["limits"]),
    }


def _test_name(target: Mapping[str, Any]) -> str:
    """A target as a test: its figure and, since one figure can be of several sets, its set."""
    return " on ".join(target[key] for key in ("figure", "set") if target.get(key))


def _verification_result(inputs: StatementInputs) -> dict[str, Any]:
    """Simple Verification Result: a property that isn't listed wasn't shown."""
    evidence = inputs.evidence
    passed = evidence is not None and evidence["verdict"]["passed"]
    shown = ["VGID_TARGETS_HELD", f"VGID_LEVEL_{evidence['level'].upper()}"] if passed and evidence is not None else []
    return {
        "verifier": {"id": _WORKER},
        "timeCreated": inputs.signed_at.isoformat(),
        "properties": shown,
    }


def _provenance(inputs: StatementInputs) -> dict[str, Any]:
    manifest = inputs.manifest
    base = manifest["base_model"]
    sets = [
        {
            "name": f"{SET_PREFIX}{name}",
            "digest": {KEYED_DIGEST: entry[KEYED_DIGEST]},
            "annotations": {key: value for key, value in entry.items() if key != KEYED_DIGEST},
        }
        for name, entry in sorted(manifest["data"].items())
        if name not in OF_OTHERS
    ]
    others = {name: manifest["data"][name]["sets"] for name in sorted(OF_OTHERS & manifest["data"].keys())}
    definition = {
        "buildType": _BUILD_TYPE,
        "externalParameters": {"method": manifest["method"], "config": manifest["config"]},
        "internalParameters": {
            name: manifest[name] for name in ("scorer", "steps", "resumed_after", "micro_batch_size")
        }
        | ({REQUESTS: others} if others else {}),
        "resolvedDependencies": [{"name": base["name"], "digest": {BASE_DIGEST: base["digest"]}}, *sets],
    }
    run = {
        "builder": {"id": _WORKER, "version": manifest["versions"]},
        "metadata": {
            "invocationId": f"{KEYED_DIGEST}:{keyed_digest(inputs.salt, 'job', str(inputs.job_id))}",
            "startedOn": inputs.started_at.isoformat(),
            "finishedOn": inputs.signed_at.isoformat(),
        },
        HARDWARE: manifest["hardware"],
    }
    return {"buildDefinition": definition, "runDetails": run}


def _folder_key(key: PrivateKey) -> str:
    """The digest of the public half of the key that signs folders: the statements' own signature vouches for it."""
    private = load_pem_private_key(key.folders.read_bytes(), None)
    pem = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return folder_key_digest(pem.decode())


def _sign_with_model_signing(folder: Path, key: PrivateKey) -> None:
    """Signs every file of the folder, the statements too, as OpenSSF Model Signing does with a bare key."""
    # Imported late: it brings Sigstore's client along.
    from model_signing import hashing, signing

    hashed = hashing.Config().set_ignored_paths(paths=[FOLDER_SIGNATURE], ignore_git_paths=False)
    signer = signing.Config().use_elliptic_key_signer(private_key=key.folders).set_hashing_config(hashed)
    signer.sign(folder, folder / FOLDER_SIGNATURE)


def _keyed(salt: bytes, name: str, entry: Mapping[str, Any]) -> str:
    return keyed_digest(salt, f"set/{name}", entry["digest"])


def _sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
