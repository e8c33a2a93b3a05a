"""The client against the real API."""

from __future__ import annotations

import json
import threading
from datetime import UTC, datetime
from inspect import signature
from pathlib import Path
from typing import Unpack, get_type_hints

import pytest
from typer.main import get_command

from api.routes.queries import ListQuery
from api.schemas import EvaluationRequest, SubmitRequest
from api.views.job import JobView
from jobs.settings import Settings
from jobs.signing import keys as signing_keys
from jobs.signing.receipt import sign_receipts
from tests.client.conftest import PAIRS, Service
from tests.client.relay import relay
from vgid_client import (
    Client,
    Conflict,
    InvalidRequest,
    NotFound,
    Pair,
    Unauthorized,
    UnexpectedReply,
    Unreachable,
)
from vgid_client.commands import app
from vgid_client.models import EvaluationFields, Job, ListFilters, RequestFields
from vgid_core.progress import Phase
from vgid_verify import KeyFile, verify_receipt


def test_a_receipt_and_the_keys_that_check_it(
    service: Service, client: Client, settings: Settings, tmp_path: Path
) -> None:
    job = client.submit("tiny", PAIRS)
    client.cancel(job.id)
    with pytest.raises(Conflict, match="isn't signed yet"):
        client.receipt(job.id)
    assert settings.signing_keys is not None
    with service.sessions.begin() as s:
        signing_keys.create(s, settings.signing_keys)
    sign_receipts(service.sessions, settings.signing_keys)
    (tmp_path / "receipt.json").write_text(json.dumps(client.receipt(job.id)))
    keys = KeyFile.model_validate(client.signing_keys())
    assert verify_receipt(tmp_path / "receipt.json", keys).job == job.id


def test_the_client_knows_every_field_of_a_request_and_of_a_job() -> None:
    given = {"model", "forget", "retain", "probes"}  # arguments of their own
    assert set(get_type_hints(RequestFields)) == set(SubmitRequest.model_fields) - given
    assert set(get_type_hints(EvaluationFields)) == set(EvaluationRequest.model_fields) - given - {
        "adapter_of",
        "release",
    }
    assert set(Job.model_fields) == set(JobView.model_fields) - {"links"}  # the client makes its own URLs


def test_a_request_is_accepted_whole(client: Client) -> None:
    job = client.submit(
        "tiny",
        PAIRS,
        probes={"rephrased": PAIRS[:1], "held_out_photos": PAIRS[1:]},
        training={"steps": 7},
        external_id="CASE-1",
        subject_reference="somebody",
        legal_basis="GDPR Art. 17",
        due_at=datetime(2031, 1, 2, tzinfo=UTC),
        priority=-2,
        metadata={"team": "privacy"},
    )
    assert (job.queue_position, job.estimated_start_at) == (1, None)
    assert job.state == "queued"
    assert not job.ended
    again = client.get(job.id)
    assert again.data is not None
    assert (again.data.forget_pairs, again.data.retain_set) == (3, "all")
    assert again.data.probes == {"rephrased": 1, "held_out_photos": 2}
    assert again.config["training"]["steps"] == 7
    assert (again.external_id, again.legal_basis, again.metadata) == ("CASE-1", "GDPR Art. 17", {"team": "privacy"})
    assert again.priority == -2
    assert again.due_at == datetime(2031, 1, 2, tzinfo=UTC)
    assert again.subject_reference_hash not in (None, "somebody")


def test_own_retain_pairs_come_on_top_of_the_retain_set(client: Client) -> None:
    job = client.submit("tiny", PAIRS[:1], retain=PAIRS[1:])
    assert job.data is not None
    assert (job.data.retain_pairs, job.data.retain_set) == (2, "all")


def test_the_same_key_makes_one_job(client: Client) -> None:
    first = client.submit("tiny", PAIRS, idempotency_key="k1")
    assert client.submit("tiny", PAIRS, idempotency_key="k1").id == first.id
    with pytest.raises(InvalidRequest) as refused:
        client.submit("tiny", PAIRS[:2], idempotency_key="k1")
    assert refused.value.status == 422


def test_without_a_key_each_call_is_a_new_job(client: Client) -> None:
    assert client.submit("tiny", PAIRS).id != client.submit("tiny", PAIRS).id


def test_an_answer_lost_on_the_way_makes_no_second_job(service: Service) -> None:
    with relay(service.port) as broken, Client(broken.url, service.secret) as client:
        broken.cuts = [20]
        job = client.submit("tiny", PAIRS)
        assert [found.id for found in client.list_jobs().jobs] == [job.id]


def test_a_refusal_names_the_field_and_quotes_nothing(client: Client) -> None:
    with pytest.raises(InvalidRequest) as refused:
        client.submit("tiny", [*PAIRS, Pair(b"no image", "Who is Jane Roe?", "Jane.")])
    assert [error.field for error in refused.value.problem.errors] == ["forget[3].image"]
    assert "forget[3].image" in str(refused.value)
    assert "Jane" not in str(refused.value)


def test_an_unknown_model_is_refused(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="model"):
        client.submit("other", PAIRS)


def test_wrong_keys_and_urls(service: Service) -> None:
    with Client(service.url, "vgid_wrong") as unseen_face, pytest.raises(Unauthorized):
        unseen_face.models()
    with pytest.raises(Unauthorized):
        Client(service.url, "schlüssel")
    with pytest.raises(UnexpectedReply):
        Client("127.0.0.1:8000", "key")
    with Client(f"{service.url}/healthz", service.secret) as misled, pytest.raises(NotFound):
        misled.models()


def test_a_closed_port_is_unreachable(service: Service) -> None:
    with relay(service.port) as gone:
        url = gone.url
    with Client(url, "key") as client, pytest.raises(Unreachable, match="refused"):
        client.models()


def test_models_with_their_retain_sets(client: Client) -> None:
    (model,) = client.models()
    assert (model.name, model.title, model.retain_sets) == ("tiny", "Tiny", ("all",))


def test_jobs_come_in_pages(client: Client) -> None:
    ids = [client.submit("tiny", PAIRS[:1], external_id=f"n{n}").id for n in range(3)]
    first = client.list_jobs(limit=2)
    rest = client.list_jobs(limit=2, cursor=first.next_cursor)
    assert [job.id for job in (*first.jobs, *rest.jobs)] == ids[::-1]
    assert rest.next_cursor is None
    assert [job.id for job in client.list_jobs(external_id="n1").jobs] == [ids[1]]
    assert client.list_jobs(state="failed").jobs == ()


def test_every_filter_of_the_service_is_the_clients(client: Client) -> None:
    own = set(signature(client.list_jobs).parameters) - {"filters"} | set(ListFilters.__annotations__)
    assert own == {*ListQuery.model_fields, "subject_reference", "evaluations"}
    options = {parameter.name for parameter in get_command(app).commands["jobs"].params}  # type: ignore[attr-defined]
    assert own == options - {"as_json"}


def test_jobs_are_filtered_sorted_and_counted(client: Client) -> None:
    may, june = datetime(2031, 5, 1, tzinfo=UTC), datetime(2031, 6, 1, tzinfo=UTC)
    soon = client.submit("tiny", PAIRS[:1], due_at=may, metadata={"region": "eu", "team": "a=b"}).id
    late = client.submit("tiny", PAIRS[:1], due_at=june, metadata={"region": "eu"}, subject_reference="Zoë M.").id
    created = client.get(late).created_at

    def found(subject_reference: str | None = None, **filters: Unpack[ListFilters]) -> list[str]:
        return [job.id for job in client.list_jobs(subject_reference=subject_reference, **filters).jobs]

    assert found(metadata={"region": "eu"}) == [late, soon]
    assert found(metadata={"region": "eu", "team": "a=b"}) == found(due_before=june) == [soon]
    assert found(due_after=june) == found(created_after=created) == found(" Zoë M. ") == [late]
    assert found(created_before=created) == [soon]
    page = client.list_jobs(sort="due_at", total=True, limit=1)
    assert ([job.id for job in page.jobs], page.total) == ([soon], 2)
    assert client.list_jobs().total is None


def test_what_a_list_cannot_be_asked_for_is_said(client: Client) -> None:
    with pytest.raises(InvalidRequest, match="metadata"):
        client.list_jobs(metadata={"a=b": "c"})
    for reference in ("", "Ilse\nMarwood"):
        with pytest.raises(InvalidRequest, match="one line"):
            client.list_jobs(subject_reference=reference)


def test_an_unknown_job_is_not_found(client: Client) -> None:
    for wrong in ("00000000-0000-4000-8000-000000000000", "../models", "no id"):
        with pytest.raises(NotFound):
            client.get(wrong)


def test_cancelling(service: Service, client: Client) -> None:
    queued = client.submit("tiny", PAIRS)
    assert client.cancel(queued.id).state == "cancelled"
    running = client.submit("tiny", PAIRS)
    token = service.claim(running.id)
    assert client.cancel(running.id).cancel_requested
    service.fail(running.id, token)
    with pytest.raises(Conflict):
        client.cancel(running.id)


def test_metrics_before_and_after(service: Service, client: Client) -> None:
    job = client.submit("tiny", PAIRS)
    assert client.metrics(job.id) == ()
    service.measure(job.id, service.claim(job.id), 1.0, 0.04)
    (row,) = client.metrics(job.id)
    assert (row.split, row.name, row.before, row.after, row.pairs) == ("forget", "rouge_l", 1.0, 0.04, 3)


def test_following_shows_every_phase_until_the_end(service: Service, client: Client) -> None:
    job = client.submit("tiny", PAIRS)
    seen: list[tuple[str, str | None]] = []
    for current in client.follow(job.id):
        seen.append((current.state, current.phase))
        if len(seen) == 1:
            token = service.claim(job.id)
            service.report(job.id, token, Phase.distilling, 0.4)
        if current.phase == Phase.distilling and not current.ended:
            assert current.progress.step == 3
            assert current.progress.estimated_finish_at is not None
            service.fail(job.id, token)
    assert seen[0] == ("queued", None)
    assert ("running", "distilling") in seen
    assert current.error is not None
    assert current.error.type == "adapter-untrained"


def test_following_an_ended_job_ends_at_once(client: Client) -> None:
    job = client.submit("tiny", PAIRS)
    client.cancel(job.id)
    assert [current.state for current in client.follow(job.id)] == ["cancelled"]
    events = list(client.events(job.id))
    assert events[-1].data["state"] == "cancelled"
    assert list(client.events(job.id, after=events[-1].id)) == []


def test_events_survive_cuts_and_come_once_each(service: Service, client: Client) -> None:
    job = client.submit("tiny", PAIRS)
    token = service.claim(job.id)
    service.report(job.id, token, Phase.baseline, 0.1)
    service.measure(job.id, token, 1.0, 0.5)
    service.fail(job.id, token)
    expected = [event.id for event in client.events(job.id)]
    with relay(service.port) as broken, Client(broken.url, service.secret) as shaky:
        broken.cuts = [700, 30, 900]
        assert [event.id for event in shaky.events(job.id)] == expected
        assert not broken.cuts


def test_polling_replaces_streams_that_dont_get_through(service: Service, client: Client) -> None:
    job = client.submit("tiny", PAIRS)
    token = service.claim(job.id)
    with relay(service.port) as blocked, Client(blocked.url, service.secret) as shaky:
        blocked.refuse_streams = True
        seen = []
        for event in shaky.events(job.id):
            seen.append(event.kind)
            if len(seen) == 1:
                service.fail(job.id, token)
        assert seen[-1] == "state"
        assert blocked.streams_refused == 3


def test_waiting_outlives_an_outage_of_the_service(service: Service, client: Client) -> None:
    job = client.submit("tiny", PAIRS)
    with relay(service.port) as shaky, Client(shaky.url, service.secret) as waiting:
        shaky.cuts = [None, 0, 0, 0]
        result: list[str] = []
        thread = threading.Thread(target=lambda: result.append(waiting.wait(job.id).state))
        thread.start()
        client.cancel(job.id)
        thread.join(timeout=30)
        assert result == ["cancelled"]
