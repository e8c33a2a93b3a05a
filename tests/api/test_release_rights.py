"""Who may see a release over HTTP, who may measure it, and whose line it is."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text

from jobs.clients import access
from jobs.lines.marks import photo_mark
from jobs.lines.releases import ReleaseZip
from jobs.settings import Settings
from jobs.storage.crypto import Keyring
from jobs.tables import Right
from tests.api.conftest import Serve
from tests.api.service import Service, body, pair, png, problem
from tests.evidence import FORGOTTEN

URL = "/models/demo/release"
OF_OTHERS = ("parent", "drift", "requests", "checked", "unchecked")
_OF_THE_CALL = {"date", "x-request-id", "ratelimit", "ratelimit-policy"}


def answers(http: httpx.Client, sha256: str = "c" * 64) -> list[Any]:
    """Everything that the key is answered about the demo model's release, but for what differs with each call."""
    found = []
    for path in (URL, f"{URL}/adapter"):
        for headers in ({}, {"If-None-Match": f'"{sha256}"'}, {"Range": "bytes=0-3"}):
            for method in ("GET", "HEAD"):
                answer = http.request(method, path, headers=headers)
                told = {name: value for name, value in answer.headers.items() if name not in _OF_THE_CALL}
                document = answer.json() | {"instance": ""} if method == "GET" else answer.content
                found.append((answer.status_code, told, document))
    return found


def test_without_a_right_or_a_job_in_it_a_release_is_none(service: Service, tmp_path: Path) -> None:
    other = service.as_client("another")
    before = answers(other)
    assert {status for status, _, _ in before} == {404}
    _, packed = service.succeeded(tmp_path, evidence=FORGOTTEN)
    assert answers(other, hashlib.sha256(packed).hexdigest()) == before
    # A job of its own that waits, or that another model's release holds, gives nothing either.
    service.submit(other)
    service.succeeded(tmp_path, evidence=FORGOTTEN, http=other, model="rich", retain_set="people")
    assert other.get("/models/rich/release").status_code == 200
    assert answers(other) == before


def test_a_client_with_a_job_in_it_sees_nothing_of_others(service: Service, tmp_path: Path) -> None:
    others, _ = service.succeeded(tmp_path, evidence=FORGOTTEN)
    second = service.as_client("another")
    own, _ = service.succeeded(tmp_path, evidence=FORGOTTEN, http=second)
    shown = second.get(URL)
    assert [UUID(each["job_id"]) for each in shown.json()["own"]] == [own]
    assert [shown.json()[name] for name in OF_OTHERS] == [None] * len(OF_OTHERS)
    assert str(others) not in shown.text

    seen = service.as_client("server", Right.serve).get(URL).json()
    assert (seen["own"], seen["parent"], seen["requests"], seen["checked"]) == ([], 1, 2, 1)
    assert str(own) not in str(seen)


def test_a_right_counts_from_the_next_request_on(service: Service, tmp_path: Path) -> None:
    service.succeeded(tmp_path, evidence=FORGOTTEN)
    with service.sessions.begin() as s:
        key, secret = access.create_key(s, access.create_client(s, "server"))
    http = service.open(Authorization=f"Bearer {secret}")
    for give, take, status in (((Right.serve,), (), 200), ((), (Right.serve,), 404)):
        with service.sessions.begin() as s:
            access.change_rights(s, key.prefix, give, take)
        assert [http.get(path).status_code for path in (URL, f"{URL}/adapter")] == [status, status]


def test_what_is_handed_out_is_the_releases_own_zip(service: Service, tmp_path: Path) -> None:
    path = tmp_path / "release.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("adapter_config.json", "{}")
    content = path.read_bytes()
    _, of_job = service.succeeded(
        tmp_path, evidence=FORGOTTEN, release={"archive": ReleaseZip(*service.blobs.put_artifact(path))}
    )
    for http in (service.http, service.as_client("server", Right.serve)):
        shown = http.get(URL).json()
        assert (shown["zip_sha256"], shown["zip_bytes"]) == (hashlib.sha256(content).hexdigest(), len(content))
        assert http.get(f"{URL}/adapter").content == content != of_job


def test_a_release_without_a_zip_of_its_own_is_for_those_who_serve(service: Service, tmp_path: Path) -> None:
    job_id, packed = service.succeeded(tmp_path, evidence=FORGOTTEN, release={"archive": None})
    shown = service.http.get(URL).json()
    assert (shown["zip_sha256"], shown["zip_bytes"], shown["own"][0]["job_id"]) == (None, None, str(job_id))
    problem(service.http.get(f"{URL}/adapter"), 404, "no-release")
    server = service.as_client("server", Right.serve)
    assert server.get(URL).json()["zip_sha256"] == hashlib.sha256(packed).hexdigest()
    assert server.get(f"{URL}/adapter").content == packed


def marks(settings: Settings, *shades: int) -> list[str]:
    keyring = Keyring(settings.secret_key_bytes)
    return [photo_mark(keyring, hashlib.sha256(png(shade)).hexdigest()) for shade in shades]


def refusal(http: httpx.Client, **changes: Any) -> str:
    refused = problem(http.post("/evaluations", json=body(release=True, **changes)), 422, "invalid-request")
    [error] = refused["errors"]
    assert error["field"] == "release"
    return str(error["detail"])


@pytest.fixture
def held(service: Service, settings: Settings, tmp_path: Path) -> Service:
    """A service whose release holds photos 1 and 2 of its first client, and photo 3 of another one."""
    first = service.as_client(service.name)
    service.succeeded(tmp_path, evidence=FORGOTTEN, http=first, release={"marks": marks(settings, 1, 2)})
    other = service.as_client("another")
    service.succeeded(tmp_path, evidence=FORGOTTEN, http=other, release={"marks": marks(settings, 3)})
    return service


def test_a_release_is_measured_with_ones_own_photos(held: Service) -> None:
    answer = held.http.post("/evaluations", json=body(release=True, probes={"again": [pair(2)]}))
    assert answer.status_code == 202, answer.text
    assert (answer.json()["release_id"] is not None, answer.json()["adapter_of"]) == (True, None)
    assert held.http.post("/evaluations", json=body(release=True, forget=[pair(2)])).status_code == 202
    assert held.http.post("/evaluations", json=body()).json()["release_id"] is None
    with held.sessions() as s:
        rows = s.scalars(
            text("SELECT row_to_json(jobs)::text FROM jobs WHERE kind = 'evaluate'".replace("::", r"\:\:"))
        ).all()
    assert len(rows) == 3
    compared = [hashlib.sha256(png(shade)).hexdigest() for shade in (1, 2)]
    assert not any(digest in row for digest in [*compared, *marks(held.settings, 1, 2)] for row in rows)


def test_a_release_is_no_oracle(held: Service) -> None:
    """Not for photos of others, not for one of them among one's own, and not for a set of one's own to compare with."""
    unseen_face = held.as_client("unseen_face")
    never = refusal(unseen_face, model="bare", retain=[pair(7)], forget=[pair(8)])
    assert refusal(unseen_face) == refusal(unseen_face, forget=[pair(9)]) == never
    assert refusal(held.http, forget=[pair(1), pair(3)]) == never
    assert refusal(held.http, forget=[pair(3)]) == refusal(held.http, forget=[pair(9)]) == never
    assert refusal(held.http, probes={"others": [pair(3)]}) == never
    assert refusal(held.http, retain=[pair(7)]) == never
    assert "audit" in never


def test_an_auditor_measures_a_release_with_any_pairs(held: Service) -> None:
    auditor = held.as_client("auditor", Right.audit)
    assert refusal(auditor, model="bare", retain=[pair(7)], forget=[pair(8)]) == "the model has no release yet"
    asked = body(release=True, forget=[pair(1), pair(3), pair(9)], retain=[pair(7)])
    assert auditor.post("/evaluations", json=asked).status_code == 202
    # Measuring is one right, seeing another.
    problem(auditor.get(URL), 404, "no-release")
    assert refusal(held.as_client("server", Right.serve)) == refusal(held.as_client("unseen_face"))


def test_who_names_a_job_and_the_release_or_trains_is_refused(held: Service) -> None:
    own = held.http.get("/unlearn-jobs").json()["jobs"][0]["id"]
    refused = problem(held.http.post("/evaluations", json=body(release=True, adapter_of=own)), 422, "invalid-request")
    assert refused["errors"][0]["field"] == "release"
    problem(held.http.post("/unlearn-jobs", json=body(release=True)), 422, "invalid-request")


@pytest.fixture
def apart(serve: Serve, settings: Settings) -> Service:
    """A service on which each client of the demo model has a line of its own."""
    known = settings.catalog.read_text()
    settings.catalog.write_text(known.replace('title = "Demo model"', 'title = "Demo model"\nline = "per client"'))
    return serve(settings)


def test_each_client_has_a_line_of_its_own(apart: Service, settings: Settings, tmp_path: Path) -> None:
    shown = {model["name"]: model["line"] for model in apart.http.get("/models").json()["models"]}
    assert (shown["demo"], shown["rich"]) == ("per client", "shared")
    second = apart.as_client("another")
    before = answers(second)
    own, _ = apart.succeeded(
        tmp_path, evidence=FORGOTTEN, subject_reference="case 7", release={"marks": marks(settings, 1, 2)}
    )
    # Nobody else sees it, not even who may serve: that is of one's own line.
    assert answers(second) == before
    problem(apart.as_client("another", Right.serve).get(URL), 404, "no-release")
    assert refusal(apart.as_client("another", Right.audit)) == "the model has no release yet"

    others, _ = apart.succeeded(tmp_path, evidence=FORGOTTEN, http=second, release={"adapter_sha256": "d" * 64})
    mine, theirs = (apart.as_client(name, Right.serve).get(URL).json() for name in (apart.name, "another"))
    assert [(each["number"], each["requests"], each["parent"]) for each in (mine, theirs)] == [(1, 1, None)] * 2
    assert (mine["own"][0]["job_id"], theirs["own"][0]["job_id"]) == (str(own), str(others))
    assert (mine["adapter_sha256"], theirs["adapter_sha256"]) == ("c" * 64, "d" * 64)
    assert apart.http.post("/evaluations", json=body(release=True)).status_code == 202
    refusal(second)

    again = body(subject_reference="case 7")
    problem(apart.http.post("/unlearn-jobs", json=again), 409, "already-forgotten")
    assert second.post("/unlearn-jobs", json=again).status_code == 202


def test_a_job_of_another_client_is_not_before_ones_own_in_its_line(apart: Service) -> None:
    second = apart.as_client("another")
    running = apart.submit()
    apart.claim(running)
    apart.claim(apart.submit(second))  # at the same time


def test_a_job_runs_in_the_line_under_which_it_was_filed(
    serve: Serve, settings: Settings, service: Service, tmp_path: Path
) -> None:
    filed = service.submit()
    settings.catalog.write_text(
        settings.catalog.read_text().replace('title = "Demo model"', 'title = "Demo model"\nline = "per client"')
    )
    apart = serve(settings)
    apart.succeed(filed, apart.claim(filed), tmp_path, evidence=FORGOTTEN)
    assert service.http.get(URL).json()["own"][0]["job_id"] == str(filed)
    # Its client's own line begins with the next job, which doesn't hold the one before.
    moved = apart.open(Authorization=service.http.headers["Authorization"])
    problem(moved.get(URL), 404, "no-release")
    own, _ = apart.succeeded(tmp_path, evidence=FORGOTTEN, http=moved)
    shown = moved.get(URL).json()
    assert ([each["job_id"] for each in shown["own"]], shown["not_held"]) == ([str(own)], [str(filed)])
