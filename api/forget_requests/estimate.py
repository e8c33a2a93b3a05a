"""What a request would be: its data check and its steps. Nothing is stored."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from api.forget_requests.catalog_checks import InCatalog
from api.forget_requests.check_meter import CheckMeter
from api.forget_requests.request_check import CheckedRequest, UncheckedRequest, accept
from api.forget_requests.text_check import limits_of
from jobs.storage.inputs import JobInputs
from vgid_core.data.pairs import DataError, EncodedImage, Pair, PairSet
from vgid_core.data.readers import ReadResult, read

if TYPE_CHECKING:
    from vgid_core.data.leaks import ImageFingerprint

# What is looked at of a registered set: its beginning, up to so many pairs or pixels.
REGISTERED_PAIRS = 1000
REGISTERED_PIXELS = 200_000_000
_KNOWN_PRINTS = 10_000
# Registered images are the operator's and come with every request, so a process looks at each once. By digest.
_registered_prints: dict[str, ImageFingerprint] = {}


@dataclass(frozen=True)
class RequestEstimate:
    """What can be said of a request without the ledger. report: `DataReport.as_json`."""

    checked: CheckedRequest
    report: dict[str, Any]


def estimate_request(unchecked: UncheckedRequest, meter: CheckMeter) -> RequestEstimate:
    """Checks the request as `check_request` does, then its data. Raises a Problem, as that does.

    Each image is decoded once, and as far as its fingerprint takes.
    """
    # here, since these load numpy, which the API's own process does without
    from vgid_core.data.check import check_data
    from vgid_core.data.leaks import ImageFingerprint

    uploaded: dict[str, ImageFingerprint] = {}

    def take(image: EncodedImage) -> None:
        uploaded[image.digest] = ImageFingerprint.read(image)

    def look(image: EncodedImage) -> ImageFingerprint:
        return uploaded.get(image.digest) or _registered_print(image)

    checked, found, inputs = accept(unchecked, meter, take)
    retain, is_whole = _retain(found, inputs)
    report = check_data(
        _uploaded(inputs.forget),
        retain,
        probes=[_uploaded(pairs) for pairs in inputs.probes.values()],
        texts=limits_of(found.entry.path),
        max_new_tokens=found.config.evaluation.max_new_tokens,
        look=look,
    ).as_json()
    if retain is not None and not is_whole:
        report["findings"] = [*report["findings"], _incomplete(len(retain.items))]
    return RequestEstimate(checked, report)


def _registered_print(image: EncodedImage) -> ImageFingerprint:
    from vgid_core.data.leaks import ImageFingerprint

    if image.digest not in _registered_prints:
        if len(_registered_prints) >= _KNOWN_PRINTS:
            _registered_prints.clear()
        _registered_prints[image.digest] = ImageFingerprint.read(image)
    return _registered_prints[image.digest]


def _uploaded(pairs: PairSet) -> ReadResult:
    return ReadResult(pairs.name, tuple(pairs))


def _retain(found: InCatalog, inputs: JobInputs) -> tuple[ReadResult | None, bool]:
    """The request's own retain set, or the beginning of the registered one; and whether that is all."""
    if inputs.retain is not None:
        return _uploaded(inputs.retain), True
    if found.retain_set is None:
        return None, True
    registered = read(str(found.entry.retain_sets[found.retain_set].retain), "retain")
    pairs, is_whole = _beginning(_readable(registered))
    return ReadResult("retain", pairs, registered.left_out), is_whole


def _beginning(pairs: Iterator[Pair]) -> tuple[tuple[Pair, ...], bool]:
    """The pairs within the bounds, at least one; and whether these are all."""
    taken: list[Pair] = []
    images: set[str] = set()
    pixels = 0
    for pair in pairs:
        if pair.image.digest not in images:
            images.add(pair.image.digest)
            with suppress(DataError):
                pixels += math.prod(pair.image.size)
        if taken and (len(taken) == REGISTERED_PAIRS or pixels > REGISTERED_PIXELS):
            return tuple(taken), False
        taken.append(pair)
    return tuple(taken), True


def _incomplete(looked_at: int) -> dict[str, Any]:
    return {
        "level": "warning",
        "kind": "incomplete",
        "message": f"the registered retain set has more than the first {looked_at} pairs: the others weren't looked at",
        "places": [f"retain[{looked_at}]"],
    }


def _readable(result: ReadResult) -> Iterator[Pair]:
    """Without the operator's own mistakes, which aren't the client's to mend."""
    return (item for item in result.items if not isinstance(item, DataError))
