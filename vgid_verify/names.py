"""The names that signer and verifier share: files, predicate types, fields of our own."""

from __future__ import annotations

# The files of a signed adapter folder that a statement doesn't list among its subjects.
BUNDLE = "statement.intoto.jsonl"
TIMESTAMP = "statement.tsr"
FOLDER_SIGNATURE = "model.sig"
SIGNATURE_FILES = frozenset({BUNDLE, TIMESTAMP, FOLDER_SIGNATURE})

PAYLOAD_TYPE = "application/vnd.in-toto+json"
TEST_RESULT = "https://in-toto.io/attestation/test-result/v0.1"
VERIFICATION_RESULT = "https://in-toto.io/attestation/svr/v0.1"
PROVENANCE = "https://slsa.dev/provenance/v1"
DELETION_RECEIPT = "urn:vgid:deletion-receipt:1"
RELEASE = "urn:vgid:release:1"
# The bundle of a job's adapter holds one statement of each. That of a release holds one alone, RELEASE.
PREDICATES = (TEST_RESULT, VERIFICATION_RESULT, PROVENANCE)

ADAPTER_WEIGHTS = "adapter_model.safetensors"
EVERY_REQUEST_PASSED = "VGID_EVERY_REQUEST_PASSED"  # a property of a release

# Fields that these predicates don't define carry our prefix, as SLSA asks of extensions.
SIGNED_AT = "vgid_signed_at"
EVIDENCE = "vgid_evidence"
MEASURED = "vgid_measured"
LIMITS = "vgid_limits"
FOLDER_KEY = "vgid_folder_key"
HARDWARE = "vgid_hardware"
SERVING_CHECK = "vgid_serving_check"
REQUESTS = "vgid_requests"

# Sets that hold other requests' pairs: of these a statement says how many requests they are of, and nothing else.
OF_OTHERS = frozenset({"together", "replay_sets"})

KEYED_DIGEST = "hmac-sha256"
BASE_DIGEST = "vgid-base"
SET_PREFIX = "set:"
