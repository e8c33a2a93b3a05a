"""Checks signed statements offline. It imports nothing of the service, so whoever doubts that can use it."""

from vgid_verify.folder import verify_folder
from vgid_verify.keys import KeyFile, KeyFileError
from vgid_verify.proof import keyed_digest, pairs_digest, proves_job, proves_set
from vgid_verify.receipt import ReceiptReport, verify_receipt
from vgid_verify.report import Check, Report

__all__ = [
    "Check",
    "KeyFile",
    "KeyFileError",
    "ReceiptReport",
    "Report",
    "keyed_digest",
    "pairs_digest",
    "proves_job",
    "proves_set",
    "verify_folder",
    "verify_receipt",
]
