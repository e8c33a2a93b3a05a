"""Asks a time stamping authority (RFC 3161) to say when bytes existed. It sees their digest alone."""

from __future__ import annotations

import logging
from pathlib import Path

import httpx
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_pem_x509_certificates
from rfc3161_client import HashAlgorithm, TimestampRequestBuilder, decode_timestamp_response
from rfc3161_client.tsp import PKIStatus

log = logging.getLogger(__name__)

_SECONDS = 20.0


def read_roots(path: Path | None) -> tuple[str, ...]:
    """The certificates of a PEM file, each in PEM; none without a file. Raises OSError, and ValueError for no PEM."""
    if path is None:
        return ()
    return tuple(each.public_bytes(Encoding.PEM).decode() for each in load_pem_x509_certificates(path.read_bytes()))


def stamp(url: str | None, data: bytes) -> bytes | None:
    """The authority's answer as DER. None without an authority, or where it gives no stamp now, which is logged."""
    if url is None:
        return None
    request = TimestampRequestBuilder().data(data).hash_algorithm(HashAlgorithm.SHA256).build()
    headers = {"Content-Type": "application/timestamp-query"}
    try:
        reply = httpx.post(url, content=request.as_bytes(), headers=headers, timeout=_SECONDS).raise_for_status()
        answer = decode_timestamp_response(reply.content)
        granted = PKIStatus(answer.status) in (PKIStatus.GRANTED, PKIStatus.GRANTED_WITH_MODS)
    except (httpx.HTTPError, ValueError) as error:
        log.warning("no time stamp: %s", type(error).__name__)
        return None
    if not granted:
        log.warning("no time stamp: the authority refuses")
        return None
    return reply.content
