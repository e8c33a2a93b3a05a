"""Marks: keyed hashes of the photos and the names of those whom a line has forgotten."""

from __future__ import annotations

from jobs.storage.crypto import Keyring
from vgid_core.data.text_normalization import normalized


def photo_mark(keyring: Keyring, digest: str) -> str:
    """The mark of the photo whose bytes have this sha256."""
    return keyring.keyed_hash("mark/photo", digest)


def name_mark(keyring: Keyring, name: str) -> str:
    """The mark of a name, however it is capitalised and spaced."""
    return keyring.keyed_hash("mark/name", normalized(name))
