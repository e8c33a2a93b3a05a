"""The kit of a job: what is kept, and its end."""

from __future__ import annotations

import logging
from uuid import UUID

from starlette.responses import Response

from api.openapi import problem_responses
from api.problems import NotFound, ReceiptUnavailable, Unauthenticated
from api.routing import Router
from api.services import Caller, CallerDep
from api.views.job import SignedEnvelope
from api.views.release import KitView
from jobs.lines import kits
from jobs.tables import Kit

log = logging.getLogger(__name__)

router = Router(prefix="/unlearn-jobs/{job_id:uuid}/kit", tags=["kits"])


@router.get(
    "", operation_id="get_kit", summary="What is kept of a job", responses=problem_responses(Unauthenticated, NotFound)
)
def get_kit(caller: CallerDep, job_id: UUID) -> KitView:
    """How much is kept, and until when. Nobody can read the kit itself out of the service."""
    return KitView.model_validate(_kit(caller, job_id))


@router.delete(
    "",
    operation_id="delete_kit",
    summary="End what is kept of a job",
    status_code=204,
    responses=problem_responses(Unauthenticated, NotFound),
)
def delete_kit(caller: CallerDep, job_id: UUID) -> Response:
    """Destroys the kit's key at once, and deletes its file. Later releases can't be checked for its people any more.

    Asking again changes nothing.
    """
    _kit(caller, job_id)
    services = caller.services
    with services.sessions.begin() as s:
        kits.end_kit(s, job_id)
    try:
        kits.delete_kit_file(services.sessions, services.blobs, job_id)
    except OSError as error:  # its key is gone already; the reaper deletes the file once it can
        log.warning("an ended kit can't be deleted yet", exc_info=error)
    return Response(None, 204)


@router.get(
    "/receipt",
    operation_id="get_kit_receipt",
    summary="The signed receipt of a kit's deletion",
    responses=problem_responses(Unauthenticated, NotFound, ReceiptUnavailable),
)
def get_kit_receipt(caller: CallerDep, job_id: UUID) -> SignedEnvelope:
    """When the kit's key was destroyed and its file deleted, signed."""
    found = _kit(caller, job_id).receipt
    if found is None:
        raise ReceiptUnavailable("The kit isn't deleted yet, or its deletion isn't signed yet.")
    return SignedEnvelope.model_validate(found)


def _kit(caller: Caller, job_id: UUID) -> Kit:
    with caller.session() as (s, key):
        found = kits.kit_of(s, key.client_id, job_id)
    if found is None:
        raise NotFound("There is no such job, or nothing is kept of it.")
    return found
