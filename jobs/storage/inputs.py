"""A job's uploaded sets as one encrypted file. They are decrypted in memory only.

Layout before encryption: the header's length (4 bytes, big-endian), the header (JSON), then every distinct image once.
The header holds the images' sizes and, for each set, a list of [image index, question, answer, person, fact].
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from jobs.storage.crypto import decrypt, encrypt
from vgid_core.data.pairs import EncodedImage, Pair, PairSet

_PURPOSE = b"vgid/inputs/1"
_LENGTH = struct.Struct(">I")


@dataclass(frozen=True)
class JobInputs:
    """The uploaded sets. `retain` is None when the job names a registered retain set instead."""

    forget: PairSet
    retain: PairSet | None = None
    probes: Mapping[str, PairSet] = field(default_factory=dict)


def seal(inputs: JobInputs, data_key: bytes) -> bytes:
    """Encrypts `inputs` with the job's data key."""
    images: dict[EncodedImage, int] = {}

    def rows(pairs: PairSet) -> list[list[Any]]:
        return [[images.setdefault(p.image, len(images)), p.question, p.answer, p.person, p.fact] for p in pairs]

    header = {
        "forget": rows(inputs.forget),
        "retain": None if inputs.retain is None else rows(inputs.retain),
        "probes": {name: rows(pairs) for name, pairs in inputs.probes.items()},
        "image_sizes": [len(image.data) for image in images],
    }
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    plain = b"".join([_LENGTH.pack(len(text)), text, *(image.data for image in images)])
    return encrypt(data_key, plain, _PURPOSE)


def open_sealed(sealed: bytes, data_key: bytes) -> JobInputs:
    """Decrypts what `seal` returned. Raises DecryptionError when the bytes were altered or the key is wrong."""
    plain = decrypt(data_key, sealed, _PURPOSE)
    (size,) = _LENGTH.unpack_from(plain)
    start = _LENGTH.size + size
    header = json.loads(plain[_LENGTH.size : start])
    bounds = list(accumulate(header["image_sizes"], initial=start))
    images = [EncodedImage(plain[low:high]) for low, high in pairwise(bounds)]

    def pairs(name: str, rows: list[list[Any]]) -> PairSet:
        return PairSet.of(name, (Pair(images[index], *texts) for index, *texts in rows))

    return JobInputs(
        forget=pairs("forget", header["forget"]),
        retain=None if header["retain"] is None else pairs("retain", header["retain"]),
        probes={name: pairs(name, rows) for name, rows in header["probes"].items()},
    )
