"""API keys, tenants, and reading, listing and cancelling jobs."""

from __future__ import annotations

import errno
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import httpx
import pytest

from jobs.clients import access
from jobs.storage.blobs import FileBlobStore
from jobs.tables import Job
from tests.api.service import Service, body, problem

ROUTES = [
    ("POST", "/unlearn-jobs"),
    ("GET", "/unlearn-jobs"),
    ("GET", "/unlearn-jobs/{id}"),
    ("POST", "/unlearn-jobs/{id}/cancel"),
    ("GET", "/unlearn-jobs/{id}/events"),
    ("GET", "/unlearn-jobs/{id}/metrics"),
    ("GET", "/unlearn-jobs/{id}/receipt"),
    ("GET", "/unlearn-jobs/{id}/evidence"),
    ("GET", "/unlearn-jobs/{id}/report"),
    ("GET", "/unlearn-jobs/{id}/artifact"),
    ("HEAD", "/unlearn-jobs/{id}/artifact"),
    ("GET", "/unlearn-jobs/{id}/artifact/files/README.md"),
    ("GET", "/models"),
    ("GET", "/models/{model}/release"),
    ("GET", "/models/{model}/release/adapter"),
    ("GET", "/unlearn-jobs/{id}/replay-set"),
    ("DELETE", "/unlearn-jobs/{id}/replay-set"),
    ("GET", "/unlearn-jobs/{id}/replay-set/receipt"),
    ("POST", "/unlearn-jobs/estimate"),
    ("POST", "/evaluations"),
    ("GET", "/evaluations"),
    ("GET", "/evaluations/{id}"),
    ("POST", "/evaluations/{id}/cancel"),
    ("GET", "/evaluations/{id}/events"),
    ("GET", "/evaluations/{id}/metrics"),
    ("GET", "/evaluations/{id}/evidence"),
    ("GET", "/evaluations/{id}/receipt"),
    ("GET", "/openapi.json"),
]


def test_every_route_but_health_needs_a_key(service: Service) -> None:
    job_id = service.submit()
    for authorization in (None, "Bearer vgid_wrong", "Bearer", "Basic Zm9vOmJhcg==", "vgid_wrong"):
        unseen_face = service.open(**({"Authorization": authorization} if authorization else {}))
        for method, path in ROUTES:
            response = unseen_face.request(method, path.format(id=job_id, model="demo"))
            assert response.headers["www-authenticate"].startswith("Bearer")
            assert response.status_code == 401
            if method != "HEAD":
                problem(response, 401, "unauthenticated")
        assert unseen_face.get("/healthz").status_code == unseen_face.get("/readyz").status_code == 200


def test_the_list_of_routes_is_complete(service: Service) -> None:
    listed = {(method, path.replace("{id}", "{job_id}").replace("README.md", "{name}")) for method, path in ROUTES}
    described = service.http.get("/openapi.json").json()["paths"]
    there = {(method.upper(), path) for path, methods in described.items() for method in methods}
    assert there - listed == {("GET", path) for path in ("/healthz", "/readyz", "/.well-known/vgid-keys.json")}


def test_a_key_is_checked_before_the_body_is_read(service: Service) -> None:
    response = service.open().post("/unlearn-jobs", content=bytes(3_000_000))
    problem(response, 401, "unauthenticated")


def test_a_revoked_key_is_useless(service: Service) -> None:
    with service.sessions.begin() as s:
        client = access.create_client(s, "leaver")
        key, secret = access.create_key(s, client)
    leaver = service.open(Authorization=f"Bearer {secret}")
    job = leaver.post("/unlearn-jobs", json=body()).headers["location"]
    paths = ("/models", "/unlearn-jobs", job, f"{job}/metrics", f"{job}/events")
    assert {leaver.get(path).status_code for path in paths} == {200}
    with service.sessions.begin() as s:
        assert access.revoke_key(s, key.prefix)
    for path in (*paths, f"{job}/artifact"):
        problem(leaver.get(path), 401, "unauthenticated")


def test_keys_are_stored_as_hashes(service: Service) -> None:
    secret = service.http.headers["authorization"].removeprefix("Bearer ")
    with service.engine.connect() as connection:
        rows = connection.exec_driver_sql("SELECT * FROM api_keys").all()
    assert rows
    assert secret not in str(rows)


def test_a_client_sees_only_its_own_jobs(service: Service, tmp_path: Path) -> None:
    job_id, evaluation_id = service.succeeded(tmp_path)[0], service.submit_evaluation()
    other = service.as_client("second")
    for method, path in ROUTES:
        if "{id}" in path:
            own = evaluation_id if path.startswith("/evaluations") else job_id
            theirs = other.request(method, path.format(id=own))
            never = other.request(method, path.format(id=uuid4()))
            assert (theirs.status_code, never.status_code) == (404, 404)
            if method != "HEAD":
                assert problem(theirs, 404, "not-found")["detail"] == problem(never, 404, "not-found")["detail"]
    assert other.get("/unlearn-jobs").json() == {"jobs": [], "next_cursor": None, "total": None}


def test_a_malformed_job_id_is_not_found(http: httpx.Client) -> None:
    for path in ("/unlearn-jobs/7", "/unlearn-jobs/Ilse%20Marwood", "/unlearn-jobs/7/events", "/unlearn-jobs/%00"):
        response = http.get(path)
        problem(response, 404, "not-found")
        assert "Marwood" not in response.text


def test_a_job_from_claim_to_success(service: Service, tmp_path: Path) -> None:
    job_id = service.submit()
    token = service.claim(job_id)
    path = f"/unlearn-jobs/{job_id}"
    job = service.http.get(path).json()
    assert (job["state"], job["phase"], job["attempt"]) == ("running", "loading", 1)
    assert service.http.get(f"{path}/metrics").json() == {"metrics": []}
    assert (job["outcome"], job["verdict"]) == (None, None)

    service.measure(job_id, token, "before", 0.98)
    service.report(job_id, token)
    job = service.http.get(path).json()
    assert job["phase"] == "distilling"
    expected = {"fraction": 0.4, "step": 24, "total_steps": 60, "loss_forget": 1.5, "loss_retain": 0.25}
    assert expected.items() <= job["progress"].items()
    assert datetime.fromisoformat(job["progress"]["estimated_finish_at"]).tzinfo is not None
    half = {"split": "forget", "name": "rouge_l", "before": 0.98, "after": None, "pairs": 2}
    assert job["metrics"] == [half]

    service.measure(job_id, token, "after", 0.03)
    service.succeed(job_id, token, tmp_path)
    job = service.http.get(path).json()
    assert (job["state"], job["phase"], job["progress"]["fraction"]) == ("succeeded", None, 1.0)
    assert job["metrics"] == service.http.get(f"{path}/metrics").json()["metrics"] == [{**half, "after": 0.03}]
    assert job["artifact"]["url"] == job["links"]["artifact"]
    assert (job["outcome"], job["verdict"]) == (None, None)  # its settings ask for no audits
    for name in ("self", "events", "metrics", "artifact"):
        assert service.http.get(job["links"][name]).status_code == 200


def test_a_queued_job_says_its_place_and_its_likely_start(service: Service, tmp_path: Path) -> None:
    service.succeeded(tmp_path)
    jobs = [service.submit() for _ in range(3)]
    service.claim(jobs[0])
    seen = [service.http.get(f"/unlearn-jobs/{job_id}").json() for job_id in jobs]
    assert [job["queue_position"] for job in seen] == [None, 1, 2]
    first, second, third = (job["estimated_start_at"] for job in seen)
    assert first is None
    assert datetime.fromisoformat(second) <= datetime.fromisoformat(third)
    cancelled = service.http.post(f"/unlearn-jobs/{jobs[2]}/cancel").json()
    assert (cancelled["queue_position"], cancelled["estimated_start_at"]) == (None, None)
    assert "queue_position" not in service.http.get("/unlearn-jobs").json()["jobs"][0]


def test_a_failed_job_says_why(service: Service) -> None:
    job_id = service.submit()
    service.fail(job_id, service.claim(job_id))
    job = service.http.get(f"/unlearn-jobs/{job_id}").json()
    assert job["state"] == "failed"
    assert job["error"] == {"type": "out-of-memory", "detail": "The device has too little memory."}


class TestList:
    def test_pages_newest_first(self, service: Service) -> None:
        submitted = [str(service.submit()) for _ in range(5)]
        seen: list[str] = []
        cursor: str | None = None
        sizes = []
        while True:
            page = service.http.get(
                "/unlearn-jobs", params={"limit": 2, **({"cursor": cursor} if cursor else {})}
            ).json()
            seen += [job["id"] for job in page["jobs"]]
            sizes.append(len(page["jobs"]))
            cursor = page["next_cursor"]
            if cursor is None:
                break
        assert seen == submitted[::-1]
        assert sizes == [2, 2, 1]

    def test_filters(self, service: Service) -> None:
        first = service.submit(external_id="DSR-1", subject_reference="Zoë Marwood")
        second = service.submit(model="rich", retain_set="people")
        service.claim(second)
        created = service.http.get(f"/unlearn-jobs/{second}").json()["created_at"]
        later = (datetime.fromisoformat(created) + timedelta(seconds=60)).isoformat()

        def found(subject: str | None = None, **params: str) -> list[UUID]:
            headers = [(b"Subject-Reference", subject.encode())] if subject else []
            response = service.http.get("/unlearn-jobs", params=params, headers=headers)
            assert response.status_code == 200, response.text
            return [UUID(job["id"]) for job in response.json()["jobs"]]

        assert found(state="running") == found(model="rich") == [second]
        assert found(state="queued") == found(external_id="DSR-1") == [first]
        assert found(subject="Zoë Marwood") == [first]
        assert found(subject="Zoe Marwood") == found(external_id="DSR-2") == []
        assert found(created_after=created) == [second]
        assert found(created_before=created) == [first]
        assert found(created_after=later) == []
        assert found(subject="Zoë Marwood", state="running") == []

    def test_metadata_deadlines_order_and_total(self, service: Service) -> None:
        may, june = "2031-05-01T00:00:00Z", "2031-06-01T00:00:00Z"
        never = service.submit()
        late = service.submit(due_at=june, metadata={"region": "eu", "team": "privacy"})
        soon = service.submit(due_at=may, metadata={"region": "eu", "note": "a=b"})

        def found(query: str = "") -> list[UUID]:
            response = service.http.get(f"/unlearn-jobs?{query}")
            assert response.status_code == 200, response.text
            return [UUID(job["id"]) for job in response.json()["jobs"]]

        assert found("metadata=region=eu") == [soon, late]
        assert found("metadata=region=eu&metadata=team=privacy") == found(f"due_after={june}") == [late]
        assert found("metadata=note=a%3Db") == found(f"due_before={june}&due_after={may}") == [soon]
        assert found("metadata=region=") == found("metadata=region=us") == []
        assert found("sort=due_at") == found("sort=-due_at")[::-1] == [soon, late, never]
        assert found("sort=created_at") == found()[::-1] == [never, late, soon]
        page = service.http.get("/unlearn-jobs?sort=due_at&limit=1&total=true&metadata=region=eu").json()
        assert ([UUID(job["id"]) for job in page["jobs"]], page["total"]) == ([soon], 2)
        assert found(f"sort=due_at&metadata=region=eu&cursor={page['next_cursor']}") == [late]
        stale = service.http.get(f"/unlearn-jobs?sort=-due_at&cursor={page['next_cursor']}")
        problem(stale, 422, "invalid-request", "cursor")

    def test_bad_queries_are_refused(self, http: httpx.Client) -> None:
        for name, value in (
            ("state", "done"),
            ("limit", "0"),
            ("limit", "101"),
            ("cursor", "bm90IGEgY3Vyc29y"),
            ("cursor", "%%%"),
            ("created_after", "yesterday"),
            ("created_before", "2031-05-01T00:00:00"),
            ("external_id", "a\0b"),
            ("page", "2"),
            ("sort", "name"),
            ("due_after", "soon"),
            ("total", "perhaps"),
            ("metadata", "Ilse Marwood"),
            ("subject_reference", "Ilse Marwood"),
        ):
            response = http.get("/unlearn-jobs", params={name: value})
            problem(response, 422, "invalid-request", name)
            assert "Marwood" not in response.text

    def test_bad_subject_references_are_refused(self, http: httpx.Client) -> None:
        for value in (b"", b"\xff\xfe", b"x" * 501):
            response = http.get("/unlearn-jobs", headers=[(b"Subject-Reference", value)])
            problem(response, 422, "invalid-request", "Subject-Reference")

    def test_a_reference_is_found_in_any_unicode_form(self, service: Service) -> None:
        job_id = service.submit(subject_reference=" Zoe\u0308 Marwood ")
        response = service.http.get("/unlearn-jobs", headers=[(b"Subject-Reference", "Zo\u00eb Marwood".encode())])
        assert [job["id"] for job in response.json()["jobs"]] == [str(job_id)]

    def test_the_subject_reference_is_stored_nowhere(self, service: Service) -> None:
        job_id = service.submit(subject_reference="Zoë Marwood")
        with service.engine.connect() as connection:
            row = connection.exec_driver_sql("SELECT jobs::text FROM jobs").scalar_one()
            events = connection.exec_driver_sql("SELECT job_events::text FROM job_events").scalars().all()
        assert str(job_id) in row
        assert "Marwood" not in row + "".join(events)


class TestCancel:
    def test_a_queued_job_is_cancelled_at_once(self, service: Service) -> None:
        job_id = service.submit()
        response = service.http.post(f"/unlearn-jobs/{job_id}/cancel")
        assert response.status_code == 200
        job = response.json()
        assert (job["state"], job["cancel_requested"]) == ("cancelled", True)
        assert job["inputs_deleted_at"] is not None
        assert service.stored_inputs() == []
        again = service.http.post(f"/unlearn-jobs/{job_id}/cancel")
        assert (again.status_code, again.json()) == (200, job)

    def test_a_running_job_is_asked_to_stop(self, service: Service) -> None:
        job_id = service.submit()
        service.claim(job_id)
        for _ in range(2):
            response = service.http.post(f"/unlearn-jobs/{job_id}/cancel")
            assert response.status_code == 202
            assert (response.json()["state"], response.json()["cancel_requested"]) == ("running", True)
        assert service.stored_inputs() == [job_id]

    def test_an_ended_job_can_not_be_cancelled(self, service: Service, tmp_path: Path) -> None:
        job_id, _ = service.succeeded(tmp_path)
        document = problem(service.http.post(f"/unlearn-jobs/{job_id}/cancel"), 409, "job-ended")
        assert "succeeded" in document["detail"]


def test_models(http: httpx.Client) -> None:
    models = {model["name"]: model for model in http.get("/models").json()["models"]}
    assert list(models) == ["demo", "bare", "rich"]
    assert models["demo"]["default_retain_set"] == "demo-retain"
    assert models["demo"]["config"]["training"]["steps"] == 60
    assert (models["bare"]["retain_sets"], models["bare"]["max_pairs"]) == ([], 3)
    assert (models["rich"]["retain_sets"], models["rich"]["default_retain_set"]) == (["people", "places"], None)
    assert models["rich"]["max_pairs"] == 8
    assert "/" not in str([model["title"] for model in models.values()])


def test_unknown_paths_and_methods(http: httpx.Client) -> None:
    problem(http.get("/nothing/Ilse%20Marwood"), 404, "not-found")
    problem(http.get("/unlearn-jobs/"), 404, "not-found")
    response = http.delete("/unlearn-jobs")
    problem(response, 405, "method-not-allowed")
    assert set(response.headers["allow"].replace(" ", "").split(",")) & {"GET", "POST"}


def test_request_ids(http: httpx.Client) -> None:
    assert http.get("/models", headers={"X-Request-ID": "abc-1"}).headers["x-request-id"] == "abc-1"
    made_up = http.get("/models", headers={"X-Request-ID": "a b\tc"}).headers["x-request-id"]
    assert len(made_up) == 32


def test_answers_are_not_cached(http: httpx.Client) -> None:
    assert http.post("/unlearn-jobs", json=body()).headers["cache-control"] == "no-store"


def test_a_job_whose_files_cant_be_deleted_yet_is_cancelled(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    job_id = service.submit()

    def read_only(*_: object) -> None:
        raise OSError(errno.EROFS, "as the system says it")

    monkeypatch.setattr(FileBlobStore, "delete_inputs", read_only)
    response = service.http.post(f"/unlearn-jobs/{job_id}/cancel")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
    assert response.json()["inputs_deleted_at"] is None


def test_a_job_that_goes_first_can_be_cancelled(service: Service) -> None:
    """The API's database role may not write who goes first."""
    job_id = service.submit()
    with service.sessions.begin() as s:
        job = s.get_one(Job, job_id)
        job.goes_first = job.runs_alone = True
    response = service.http.post(f"/unlearn-jobs/{job_id}/cancel")
    assert (response.status_code, response.json()["state"]) == (200, "cancelled")
