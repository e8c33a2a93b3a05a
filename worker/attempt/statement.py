"""Signs an adapter folder before it is packed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any
from uuid import UUID

from jobs import claims
from jobs.database import SessionFactory
from jobs.settings import Settings
from jobs.signing.keys import private_key
from jobs.signing.statement import StatementInputs, keyed_manifest, sign_folder
from jobs.signing.timestamp import stamp
from jobs.storage.crypto import Keyring

if TYPE_CHECKING:
    from vgid_core import UnlearnResult

_MANIFEST, _EVIDENCE = "manifest.json", "evidence.json"


def sign_artifact(
    sessions: SessionFactory,
    settings: Settings,
    job_id: UUID,
    token: UUID,
    result: UnlearnResult,
) -> dict[str, Any]:
    """Writes the folder's statements and signatures, and its manifest with keyed digests, which it returns.

    Raises SigningKeyMissing. A job that isn't this attempt's any more is signed all the same: nothing will name it.
    """
    salt = Keyring(settings.secret_key_bytes).statement_salt(job_id)
    manifest = keyed_manifest(result.manifest, salt)
    text = json.dumps(manifest, indent=2, sort_keys=True, ensure_ascii=False)
    (result.folder / _MANIFEST).write_text(text + "\n", encoding="utf-8")
    with sessions.begin() as s:
        key, now = private_key(s, settings.signing_keys)
        job = claims.held_job(s, job_id, token)
    started_at = now if job is None or job.started_at is None else job.started_at
    evidence = result.folder / _EVIDENCE
    inputs = StatementInputs(
        folder=result.folder,
        manifest=manifest,
        evidence=json.loads(evidence.read_bytes()) if evidence.is_file() else None,
        job_id=job_id,
        started_at=started_at,
        signed_at=now,
        salt=salt,
    )
    sign_folder(inputs, key, lambda data: stamp(settings.tsa_url, data))
    return manifest
