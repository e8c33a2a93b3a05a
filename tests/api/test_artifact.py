"""Downloads: the zip and its files, whole and in parts, with a strong ETag that is the sha256."""

from __future__ import annotations

import hashlib
import io
import os
import socket
import zipfile
from http.client import HTTPResponse
from itertools import takewhile
from pathlib import Path
from random import Random
from typing import IO
from uuid import UUID

import pytest

from tests.api.service import MEMBERS, Service, problem
from tests.waiting import eventually

Stored = tuple[str, bytes]


@pytest.fixture
def stored(service: Service, tmp_path: Path) -> Stored:
    """The artifact's path on the service, and its bytes."""
    job_id, data = service.succeeded(tmp_path)
    return f"/unlearn-jobs/{job_id}/artifact", data


def test_the_whole_zip(service: Service, stored: Stored) -> None:
    path, data = stored
    response = service.http.get(path)
    sha256 = hashlib.sha256(data).hexdigest()
    assert (response.status_code, response.content) == (200, data)
    assert response.headers["etag"] == f'"{sha256}"'
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["content-length"] == str(len(data))
    assert response.headers["accept-ranges"] == "bytes"
    with zipfile.ZipFile(io.BytesIO(response.content)) as archive:
        assert {name: archive.read(name) for name in archive.namelist()} == MEMBERS
    record = service.http.get(path.removesuffix("/artifact")).json()["artifact"]
    assert (record["sha256"], record["size_bytes"], record["url"]) == (sha256, len(data), path)


def test_a_large_zip_whole_and_in_ranges(service: Service, tmp_path: Path) -> None:
    weights = Random(0).randbytes(2_500_000)
    job_id, data = service.succeeded(tmp_path, {"adapter_model.safetensors": weights})
    path = f"/unlearn-jobs/{job_id}/artifact"
    assert service.http.get(path).content == data
    for start, end in ((0, 262_144), (262_143, 262_145), (1_000_000, 2_400_000), (5, len(data))):
        part = service.http.get(path, headers={"Range": f"bytes={start}-{end - 1}"})
        assert (part.status_code, part.content) == (206, data[start:end])
    assert service.http.get(f"{path}/files/adapter_model.safetensors").content == weights


def test_aborted_downloads_leave_the_service_working(service: Service, tmp_path: Path) -> None:
    job_id, data = service.succeeded(tmp_path, {"adapter_model.safetensors": Random(1).randbytes(20_000_000)})
    path = f"/unlearn-jobs/{job_id}/artifact"
    for _ in range(3):
        with service.http.stream("GET", path) as response:
            assert len(next(response.iter_raw(1000))) == 1000
    assert service.http.get(path).content == data


def test_an_aborted_download_leaves_no_file_open(service: Service, tmp_path: Path) -> None:
    job_id, _ = service.succeeded(tmp_path, {"adapter_model.safetensors": Random(2).randbytes(20_000_000)})
    with slow_connection(service) as connection:
        connection.sendall(asking_for_artifact(service, job_id))
        assert connection.recv(1)
        eventually(lambda: _open_artifacts() == 1)
    eventually(lambda: _open_artifacts() == 0)


def test_a_slow_reader_gets_everything_and_blocks_no_other(service: Service, tmp_path: Path) -> None:
    job_id, data = service.succeeded(tmp_path, {"adapter_model.safetensors": Random(3).randbytes(20_000_000)})
    with slow_connection(service) as connection:
        connection.sendall(asking_for_artifact(service, job_id))
        answer = HTTPResponse(connection)
        answer.begin()
        part = service.http.get(f"/unlearn-jobs/{job_id}/artifact", headers={"Range": "bytes=-9"})
        assert part.content == data[-9:]
        eventually(lambda: _open_artifacts() == 1)
        assert answer.read() == data


def test_pipelined_requests_are_answered_in_order(service: Service, tmp_path: Path) -> None:
    job_id, data = service.succeeded(tmp_path, {"adapter_model.safetensors": Random(4).randbytes(5_000_000)})
    with slow_connection(service) as connection:
        connection.sendall(
            asking_for_artifact(service, job_id) + asking_for_artifact(service, job_id, "Range: bytes=1000000-")
        )
        with connection.makefile("rb") as received:
            assert [_answer(received), _answer(received)] == [data, data[1_000_000:]]


def test_head_answers_with_the_headers_alone(service: Service, stored: Stored) -> None:
    path, data = stored
    response = service.http.head(path)
    assert (response.status_code, response.content) == (200, b"")
    assert response.headers["content-length"] == str(len(data))
    assert response.headers["etag"] == service.http.get(path).headers["etag"]
    part = service.http.head(path, headers={"Range": "bytes=0-9"})
    assert (part.status_code, part.headers["content-length"]) == (206, "10")


def test_ranges(service: Service, stored: Stored) -> None:
    path, data = stored
    parts = {
        "bytes=0-9": slice(0, 10),
        "bytes=10-": slice(10, None),
        "bytes=-7": slice(-7, None),
        "bytes=5-5": slice(5, 6),
        "bytes=3-99999999": slice(3, None),
        "bytes=-99999999": slice(0, None),
    }
    for asked, part in parts.items():
        response = service.http.get(path, headers={"Range": asked})
        assert (response.status_code, response.content) == (206, data[part]), asked
        start = part.indices(len(data))[0]
        end = start + len(response.content) - 1
        assert response.headers["content-range"] == f"bytes {start}-{end}/{len(data)}"
        assert response.headers["content-length"] == str(len(response.content))


def test_ranges_outside_the_file(service: Service, stored: Stored) -> None:
    path, data = stored
    for asked in ("bytes=99999999-", "bytes=-0", "bytes=99999999-999999999"):
        response = service.http.get(path, headers={"Range": asked})
        problem(response, 416, "range-not-satisfiable")
        assert response.headers["content-range"] == f"bytes */{len(data)}"


def test_ranges_that_are_ignored(service: Service, stored: Stored) -> None:
    path, data = stored
    for asked in ("bytes=0-1,3-4", "lines=0-9", "bytes=9-2", "bytes=-", "bytes=a-b", "bytes=" + "9" * 99 + "-"):
        response = service.http.get(path, headers={"Range": asked})
        assert (response.status_code, response.content) == (200, data), asked


def test_if_range(service: Service, stored: Stored) -> None:
    path, data = stored
    etag = service.http.head(path).headers["etag"]
    same = service.http.get(path, headers={"Range": "bytes=10-", "If-Range": etag})
    assert (same.status_code, same.content) == (206, data[10:])
    for other in (f'"{"0" * 64}"', f"W/{etag}", "Wed, 21 Oct 2015 07:28:00 GMT"):
        whole = service.http.get(path, headers={"Range": "bytes=10-", "If-Range": other})
        assert (whole.status_code, whole.content) == (200, data)


def test_if_none_match(service: Service, stored: Stored) -> None:
    path, _ = stored
    etag = service.http.head(path).headers["etag"]
    for header in (etag, f"W/{etag}", f'"other", {etag}', "*"):
        response = service.http.get(path, headers={"If-None-Match": header})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["etag"] == etag
    assert service.http.get(path, headers={"If-None-Match": '"other"'}).status_code == 200


def test_if_match(service: Service, stored: Stored) -> None:
    path, data = stored
    for url in (path, f"{path}/files/README.md"):
        etag = service.http.head(url).headers["etag"]
        for header in (etag, f'"other", {etag}', "*"):
            assert service.http.get(url, headers={"If-Match": header}).status_code == 200
        for header in ('"other"', f"W/{etag}", "", etag.strip('"')):
            for asked in ({}, {"Range": "bytes=0-3"}, {"If-None-Match": etag}, {"Range": "bytes=99999999-"}):
                problem(service.http.get(url, headers={"If-Match": header, **asked}), 412, "precondition-failed")
            assert service.http.head(url, headers={"If-Match": header}).status_code == 412
    part = service.http.get(path, headers={"If-Match": f'"{hashlib.sha256(data).hexdigest()}"', "Range": "bytes=0-3"})
    assert (part.status_code, part.content) == (206, data[:4])


def test_single_files(service: Service, stored: Stored) -> None:
    path, _ = stored
    record = service.http.get(path.removesuffix("/artifact")).json()["artifact"]
    assert [file["name"] for file in record["files"]] == list(MEMBERS)
    for file in record["files"]:
        response = service.http.get(file["url"])
        assert response.content == MEMBERS[file["name"]]
        assert response.headers["etag"] == f'"{file["sha256"]}"' == f'"{hashlib.sha256(response.content).hexdigest()}"'
        assert service.http.head(file["url"]).headers["content-length"] == str(file["size"])
    part = service.http.get(f"{path}/files/adapter_model.safetensors", headers={"Range": "bytes=1000-1009"})
    assert part.content == MEMBERS["adapter_model.safetensors"][1000:1010]


def test_unknown_files_are_not_found(service: Service, stored: Stored) -> None:
    for name in ("other.bin", "..%2F..%2Fetc%2Fpasswd", "%00", "README.md%20"):
        problem(service.http.get(f"{stored[0]}/files/{name}"), 404, "not-found")


def test_a_job_without_success_has_no_artifact(service: Service) -> None:
    job_id = service.submit()
    for path in (f"/unlearn-jobs/{job_id}/artifact", f"/unlearn-jobs/{job_id}/artifact/files/README.md"):
        assert "queued" in problem(service.http.get(path), 409, "artifact-unavailable")["detail"]


def test_a_lost_blob_is_an_internal_error(service: Service, stored: Stored) -> None:
    path, data = stored
    service.blobs.path_of_artifact(hashlib.sha256(data).hexdigest()).unlink()
    problem(service.http.get(path), 500, "internal-error")


def test_a_truncated_blob_is_not_sent(service: Service, stored: Stored) -> None:
    path, data = stored
    os.truncate(service.blobs.path_of_artifact(hashlib.sha256(data).hexdigest()), len(data) - 1)
    problem(service.http.get(path), 500, "internal-error")


def slow_connection(service: Service) -> socket.socket:
    """A connection with a small receive buffer, so that the service can't send much before the test reads."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    connection.connect((service.http.base_url.host, service.http.base_url.port))
    return connection


def asking_for_artifact(service: Service, job_id: UUID, *headers: str) -> bytes:
    key = f"Authorization: {service.http.headers['authorization']}"
    return "\r\n".join([f"GET /unlearn-jobs/{job_id}/artifact HTTP/1.1", "Host: vgid", key, *headers, "", ""]).encode()


def _answer(received: IO[bytes]) -> bytes:
    head = list(takewhile(lambda line: line != b"\r\n", received))
    length = next(line for line in head if line.lower().startswith(b"content-length:"))
    return received.read(int(length.partition(b":")[2]))


def _open_artifacts() -> int:
    """How many artifacts this process has open. The service runs in a thread of it."""
    return sum(os.path.realpath(link).endswith(".zip") for link in Path("/proc/self/fd").iterdir())
