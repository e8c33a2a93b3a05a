"""Checks signed statements offline. It imports nothing of the service, so whoever doubts that can use it.

Whatever signs one does it with `vgid_verify.signing`.
"""

from vgid_verify.folder import verify_folder
from vgid_verify.keys import KeyFile, KeyFileError, PemKey, load_keys
from vgid_verify.proof import keyed_digest, pairs_digest, proves_job, proves_set
from vgid_verify.receipt import ReceiptReport, verify_receipt
from vgid_verify.report import Check, Report
from vgid_verify.serving import ServingCheck, ServingReport, verify_serving_check

__all__ = [
    "Check",
    "KeyFile",
    "KeyFileError",
    "PemKey",
    "ReceiptReport",
    "Report",
    "ServingCheck",
    "ServingReport",
    "keyed_digest",
    "load_keys",
    "pairs_digest",
    "proves_job",
    "proves_set",
    "verify_folder",
    "verify_receipt",
    "verify_serving_check",
]
