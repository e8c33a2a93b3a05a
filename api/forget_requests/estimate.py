"""What a request would be: its data check and its steps. Nothing is stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Any

from api.forget_requests.catalog_checks import InCatalog
from api.forget_requests.request_check import CheckedRequest, UncheckedRequest, accept
from api.forget_requests.text_check import limits_of
from jobs.storage.inputs import JobInputs
from vgid_core.data.pairs import DataError, Pair, PairSet
from vgid_core.data.readers import ReadResult, read

REGISTERED_PAIRS = 1000  # of a registered set that are looked at
_INCOMPLETE = {
    "level": "warning",
    "kind": "incomplete",
    "message": f"the registered retain set has more than {REGISTERED_PAIRS} pairs: the others weren't looked at",
    "places": [f"retain[{REGISTERED_PAIRS}]"],
}


@dataclass(frozen=True)
class RequestEstimate:
    """What can be said of a request without the ledger. report: `DataReport.as_json`."""

    checked: CheckedRequest
    report: dict[str, Any]


def estimate_request(unchecked: UncheckedRequest) -> RequestEstimate:
    """Checks the request as `check_request` does, then its data. Raises a Problem, as that does."""
    from vgid_core.data.check import check_data  # here, since it loads numpy, which the API's own process does without

    checked, found, inputs = accept(unchecked)
    retain, incomplete = _retain(found, inputs)
    report = check_data(
        _uploaded(inputs.forget),
        retain,
        probes=[_uploaded(pairs) for pairs in inputs.probes.values()],
        texts=limits_of(found.entry.path),
        max_new_tokens=found.config.evaluation.max_new_tokens,
    ).as_json()
    if incomplete:
        report["findings"] = [*report["findings"], _INCOMPLETE]
    return RequestEstimate(checked, report)


def _uploaded(pairs: PairSet) -> ReadResult:
    return ReadResult(pairs.name, tuple(pairs))


def _retain(found: InCatalog, inputs: JobInputs) -> tuple[ReadResult | None, bool]:
    """The request's own retain set, or the beginning of the registered one; and whether that has more pairs."""
    if inputs.retain is not None:
        return _uploaded(inputs.retain), False
    if found.retain_set is None:
        return None, False
    registered = read(str(found.entry.retain_sets[found.retain_set].retain), "retain")
    pairs = tuple(islice(_readable(registered), REGISTERED_PAIRS + 1))
    beginning = ReadResult("retain", pairs[:REGISTERED_PAIRS], registered.left_out)
    return beginning, len(pairs) > REGISTERED_PAIRS


def _readable(result: ReadResult) -> Iterator[Pair]:
    """Without the operator's own mistakes, which aren't the client's to mend."""
    return (item for item in result.items if not isinstance(item, DataError))
