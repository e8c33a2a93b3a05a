"""The replay set of a job: what is kept, and its end."""

from __future__ import annotations

import logging
from uuid import UUID

from starlette.responses import Response

from api.openapi import problem_responses
from api.problems import NotFound, ReceiptUnavailable, Unauthenticated
from api.routing import Router
from api.services import Caller, CallerDep
from api.views.job import SignedEnvelope
from api.views.release import ReplaySetView
from jobs.lines import replay_sets
from jobs.tables import ReplaySet

log = logging.getLogger(__name__)

router = Router(prefix="/unlearn-jobs/{job_id:uuid}/replay-set", tags=["replay_sets"])


@router.get(
    "",
    operation_id="get_replay_set",
    summary="What is kept of a job",
    responses=problem_responses(Unauthenticated, NotFound),
)
def get_replay_set(caller: CallerDep, job_id: UUID) -> ReplaySetView:
    """How much is kept, and until when. Nobody can read the replay set itself out of the service."""
    return ReplaySetView.model_validate(_replay_set(caller, job_id))


@router.delete(
    "",
    operation_id="delete_replay_set",
    summary="End what is kept of a job",
    status_code=204,
    responses=problem_responses(Unauthenticated, NotFound),
)
def delete_replay_set(caller: CallerDep, job_id: UUID) -> Response:
    """Destroys the replay set's key at once, and deletes its file.

    Later releases can't be checked for its people any more.

    Asking again changes nothing.
    """
    _replay_set(caller, job_id)
    services = caller.services
    with services.sessions.begin() as s:
        replay_sets.end_replay_set(s, job_id)
    try:
        replay_sets.delete_replay_set_file(services.sessions, services.blobs, job_id)
    except OSError as error:  # its key is gone already; the reaper deletes the file once it can
        log.warning("an ended replay set can't be deleted yet", exc_info=error)
    return Response(None, 204)


@router.get(
    "/receipt",
    operation_id="get_replay_set_receipt",
    summary="The signed receipt of a replay set's deletion",
    responses=problem_responses(Unauthenticated, NotFound, ReceiptUnavailable),
)
def get_replay_set_receipt(caller: CallerDep, job_id: UUID) -> SignedEnvelope:
    """When the replay set's key was destroyed and its file deleted, signed."""
    found = _replay_set(caller, job_id).receipt
    if found is None:
        raise ReceiptUnavailable("The replay set isn't deleted yet, or its deletion isn't signed yet.")
    return SignedEnvelope.model_validate(found)


def _replay_set(caller: Caller, job_id: UUID) -> ReplaySet:
    with caller.session() as (s, key):
        found = replay_sets.replay_set_of(s, key.client_id, job_id)
    if found is None:
        raise NotFound("There is no such job, or nothing is kept of it.")
    return found
