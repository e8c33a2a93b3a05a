"""Replay sets over HTTP: who asks for one, what is seen of it, and its end."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from uuid import UUID

import pytest

from jobs.clients import access
from jobs.clients.limits import ClientLimits
from jobs.lines.releases import NewReplaySet
from jobs.storage.blobs import BlobMissing
from tests.api.service import Service, body, problem
from tests.evidence import FORGOTTEN
from vgid_verify import KeyFile, verify_receipt


def limit(service: Service, name: str, limits: ClientLimits) -> None:
    with service.sessions.begin() as s:
        owner = access.find_client(s, name)
        assert owner is not None
        access.set_limits(s, owner, limits)


@pytest.fixture
def kept(service: Service, tmp_path: Path) -> UUID:
    """A job of which a replay set is kept."""
    replay_set = NewReplaySet(b"wrapped", 5, 30)
    job_id, _ = service.succeeded(tmp_path, evidence=FORGOTTEN, replay_set=replay_set)
    service.blobs.put_replay_set(job_id, b"sealed")
    return job_id


def test_nothing_is_kept_unless_the_request_or_its_client_says_so(service: Service) -> None:
    keeping = service.as_client("keeps replay sets")
    limit(service, "keeps replay sets", ClientLimits(replay_days=365))
    for http, usual in ((service.http, None), (keeping, 365)):
        asked = [body(), body(replay_days=30), body(replay_days=0)]
        assert [http.post("/unlearn-jobs", json=each).json()["replay_days"] for each in asked] == [usual, 30, None]
    assert (
        service.http.post("/unlearn-jobs", json=body(replay_days=30, replay_whole=True)).json()["replay_whole"] is True
    )
    for days in (None, 0):
        whole = body(replay_whole=True) if days is None else body(replay_whole=True, replay_days=days)
        refused = problem(service.http.post("/unlearn-jobs", json=whole), 422, "invalid-request")
        assert [each["field"] for each in refused["errors"]] == ["replay_whole"]
    for wrong in (-1, 3651, "30", 1.5):
        refused = problem(service.http.post("/unlearn-jobs", json=body(replay_days=wrong)), 422, "invalid-request")
        assert refused["errors"][0]["field"] == "replay_days"
    problem(service.http.post("/evaluations", json=body(replay_days=30)), 422, "invalid-request")


def test_a_replay_set_is_kept_no_longer_than_the_operator_lets_the_client(service: Service) -> None:
    http = service.as_client("bounded")
    limit(service, "bounded", ClientLimits(replay_days=365, max_replay_days=30))
    for path in ("/unlearn-jobs", "/unlearn-jobs/estimate"):
        (error,) = problem(http.post(path, json=body(replay_days=31)), 422, "invalid-request")["errors"]
        assert (error["field"], error["detail"]) == ("replay_days", "may be at most 30 for this client")
    asked = [body(), body(replay_days=30), body(replay_days=0)]
    assert [http.post("/unlearn-jobs", json=each).json()["replay_days"] for each in asked] == [30, 30, None]


def test_the_pairs_in_a_clients_replay_sets_are_bounded(service: Service, kept: UUID) -> None:
    limit(service, service.name, ClientLimits(replay_pairs=8))  # five are in its replay set; a request has two
    waiting = service.submit(replay_days=30)
    refused = service.http.post("/unlearn-jobs", json=body(replay_days=30))
    detail = problem(refused, 429, "quota-exceeded")["detail"]
    assert detail.startswith("At most 8 pairs may be kept in replay sets; with this request they would be up to 9.")
    assert service.http.post("/unlearn-jobs", json=body()).status_code == 202, "without a replay set it is taken"
    assert service.as_client("another").post("/unlearn-jobs", json=body(replay_days=30)).status_code == 202

    running = service.claim(waiting)
    problem(service.http.post("/unlearn-jobs", json=body(replay_days=30)), 429, "quota-exceeded")
    service.fail(waiting, running)
    service.submit(replay_days=30)  # the failed job leaves no replay set
    problem(service.http.post("/unlearn-jobs", json=body(replay_days=30)), 429, "quota-exceeded")
    assert service.http.delete(f"/unlearn-jobs/{kept}/replay-set").status_code == 204
    service.submit(replay_days=30)


def test_a_replay_set_is_shown_and_ended_and_receipted(service: Service, kept: UUID, tmp_path: Path) -> None:
    url = f"/unlearn-jobs/{kept}/replay-set"
    shown = service.http.get(url).json()
    assert (shown["pairs"], shown["ended_at"], shown["deleted_at"]) == (5, None, None)
    days = datetime.fromisoformat(shown["expires_at"]) - datetime.fromisoformat(shown["created_at"])
    assert days.days in (29, 30)
    problem(service.http.get(f"{url}/receipt"), 409, "receipt-unavailable")

    assert [service.http.delete(url).status_code for _ in range(2)] == [204, 204]
    with pytest.raises(BlobMissing):
        service.blobs.read_replay_set(kept)
    gone = service.http.get(url).json()
    assert gone["ended_at"] <= gone["deleted_at"]

    service.delete_inputs(kept)
    service.sign_receipts()
    (tmp_path / "receipt.json").write_text(json.dumps(service.http.get(f"{url}/receipt").json()))
    keys = KeyFile.model_validate_json(service.http.get("/.well-known/vgid-keys.json").content)
    report = verify_receipt(tmp_path / "receipt.json", keys)
    assert report.holds
    assert "the replay set" in report.deleted[1]["what"]


def test_nobody_else_sees_or_ends_a_replay_set(service: Service, kept: UUID) -> None:
    other = service.as_client("another")
    url = f"/unlearn-jobs/{kept}/replay-set"
    for answer in (other.get(url), other.delete(url), other.get(f"{url}/receipt")):
        problem(answer, 404, "not-found")
    problem(service.open().delete(url), 401, "unauthenticated")
    assert service.blobs.read_replay_set(kept) == b"sealed"
    problem(service.http.get(f"/unlearn-jobs/{service.submit()}/replay-set"), 404, "not-found")
