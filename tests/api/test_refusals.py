"""Bad input gives a problem document that names the field and repeats no value. Nothing is stored."""

from __future__ import annotations

import gzip
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from http.client import HTTPResponse
from typing import Any

import httpx
import pytest

from tests.api.conftest import Serve
from tests.api.service import Service, body, inline, pair, png, problem
from vgid_core.data.pairs import RESERVED_NAMES

SECRET = "Ilse Marwood of Trier"


@pytest.fixture(autouse=True)
def nothing_is_stored(service: Service) -> Iterator[None]:
    yield
    assert service.stored_jobs() == 0
    assert service.stored_inputs() == []
    assert service.queue.depth() == 0


def bomb() -> bytes:
    """A PNG of some hundred bytes whose header announces 400 million pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")
    )


def without(name: str) -> dict[str, Any]:
    return {key: value for key, value in pair().items() if key != name}


BAD_BODIES: dict[str, tuple[dict[str, Any], str]] = {
    "no forget": ({"model": "demo"}, "forget"),
    "empty forget": (body(forget=[]), "forget"),
    "no answer": (body(forget=[pair(1), without("answer")]), "forget[1].answer"),
    "no question": (body(forget=[without("question")]), "forget[0].question"),
    "no image": (body(forget=[without("image")]), "forget[0].image"),
    "blank answer": (body(forget=[pair(1, answer=" \n")]), "forget[0].answer"),
    "long answer": (body(forget=[pair(1, answer=SECRET * 400)]), "forget[0].answer"),
    "NUL in the answer": (body(forget=[pair(1, answer=SECRET + "\0")]), "forget[0].answer"),
    "answer is a number": (body(forget=[pair(1, answer=7)]), "forget[0].answer"),
    "unknown field": (body(forgte=SECRET), "forgte"),
    "unknown field of a pair": (body(forget=[pair(1, name=SECRET)]), "forget[0].name"),
    "unknown field of training": (body(training={"epochs": 3}), "training.epochs"),
    "unknown model": (body(model="gpt"), "model"),
    "priority out of range": (body(priority=11), "priority"),
    "priority as text": (body(priority="0"), "priority"),
    "priority above the client's right": (body(priority=1), "priority"),
    "model with a space": (body(model=SECRET), "model"),
    "too many pairs": (body(forget=[pair(i) for i in range(9)]), "forget"),
    "too many pairs with probes": (body(probes={"a": [pair(i) for i in range(7)]}), "probes.a"),
    "too many pairs for this model": (body(model="bare", retain=[pair(7), pair(8)]), "forget"),
    "too many probes": (body(probes={f"p{i}": [pair(i)] for i in range(5)}), "probes"),
    "no retain set registered": (body(model="bare"), "retain"),
    "several retain sets, none named": (body(model="rich"), "retain_set"),
    "unknown retain set": (body(retain_set="nope"), "retain_set"),
    "steps over the limit": (body(training={"steps": 99_999}), "training.steps"),
    "steps as text": (body(training={"steps": "10"}), "training.steps"),
    "perturbation that takes no strength": (
        body(training={"perturbation": {"kind": "none", "strength": 1}}),
        "training.perturbation",
    ),
    "due_at without a zone": (body(due_at="2031-05-01T00:00:00"), "due_at"),
    "due_at is no date": (body(due_at=SECRET), "due_at"),
    "due_at far away": (body(due_at="9999-12-31T23:59:59-12:00"), "due_at"),
    "external_id with a line break": (body(external_id=SECRET + "\n"), "external_id"),
    "blank external_id": (body(external_id="   "), "external_id"),
    "legal_basis with a line separator": (body(legal_basis=SECRET + "\u2028"), "legal_basis"),
    "empty subject reference": (body(subject_reference="  "), "subject_reference"),
    "subject reference on two lines": (body(subject_reference=f"{SECRET}\x85{SECRET}"), "subject_reference"),
    "metadata that isn't text": (body(metadata={SECRET: 1}), "metadata"),
    "metadata under a blank key": (body(metadata={" ": SECRET}), "metadata"),
    "too much metadata": (body(metadata={str(i): "" for i in range(17)}), "metadata"),
    "retained and forgotten": (body(retain=[pair(5), pair(2, answer="x")]), "retain[1]"),
    "nothing retained but forgotten photos": (
        body(retain=[pair(2, question="Where?"), pair(1, question="Where?")]),
        "retain",
    ),
    "base64 with a line break": (body(forget=[pair(image={"base64": "aGVs\nbG8="})]), "forget[0].image"),
    "base64 without padding": (body(forget=[pair(image={"base64": "aGVsbG8"})]), "forget[0].image"),
    "not an image": (body(forget=[pair(1), pair(image=inline(SECRET.encode()))]), "forget[1].image"),
    "empty image": (body(forget=[pair(image={"base64": ""})]), "forget[0].image"),
    "truncated image": (body(forget=[pair(image=inline(png(1, size=(64, 64))[:-30]))]), "forget[0].image"),
    "GIF": (body(forget=[pair(image=inline(png(1, kind="GIF")))]), "forget[0].image"),
    "too many bytes": (body(forget=[pair(image=inline(bytes(60_001)))]), "forget[0].image"),
    "too many pixels": (body(forget=[pair(1), pair(image=inline(png(1, size=(101, 100))))]), "forget[1].image"),
    "decompression bomb": (body(forget=[pair(image=inline(bomb()))]), "forget[0].image"),
    "bad image of a probe": (body(probes={"rephrased": [pair(image=inline(b"x"))]}), "probes.rephrased[0].image"),
    "image given twice": (body(forget=[pair(image={"base64": "", "file": "a"})]), "forget[0].image"),
    "image as a file in JSON": (body(forget=[pair(image={"file": SECRET})]), "forget[0].image"),
}


def test_a_bad_body_names_its_field(http: httpx.Client) -> None:
    """All are in one test, because starting a service takes far longer than the requests."""
    for name, (request, field) in BAD_BODIES.items():
        response = http.post("/unlearn-jobs", json=request)
        assert response.status_code == 422, name
        problem(response, 422, "invalid-request", field)
        assert SECRET not in response.text, name


def test_a_probe_named_like_a_set_of_the_run_is_refused(http: httpx.Client) -> None:
    """What is accepted here and refused by the run would fail in the worker, long after."""
    for name in RESERVED_NAMES:
        response = http.post("/unlearn-jobs", json=body(probes={name: [pair(9)]}))
        document = problem(response, 422, "invalid-request", "probes")
        assert document["errors"][0]["detail"] == f"can't name a probe {name}"


def test_a_nul_is_refused_where_it_stands(http: httpx.Client) -> None:
    nul = http.post("/unlearn-jobs", json=body(training={"instruction": "a\0b"}))
    document = problem(nul, 422, "invalid-request", "training.instruction")
    assert document["errors"][0]["pointer"] == "#/training/instruction"


def test_the_name_of_a_probe_is_not_repeated(http: httpx.Client) -> None:
    """Neither the name's own error nor its pairs' errors repeat it. Errors of valid probes keep their names."""
    probes = {"rephrased": [without("answer")], SECRET: [without("question")], SECRET.lower(): [pair(4)]}
    response = http.post("/unlearn-jobs", json=body(probes=probes))
    document = problem(response, 422, "invalid-request", "probes.rephrased[0].answer")
    assert [error["field"] for error in document["errors"][1:]] == ["probes[1]", "probes[2]"]
    assert [error.get("pointer") for error in document["errors"][1:]] == [None, None]
    assert SECRET.lower() not in response.text.lower()


def test_every_fault_is_listed_with_its_pointer(http: httpx.Client) -> None:
    forget = [without("answer"), pair(1), without("question")]
    document = problem(http.post("/unlearn-jobs", json=body(forget=forget, **{"a/b~c d": 1})), 422, "invalid-request")
    pointers = [error["pointer"] for error in document["errors"]]
    assert pointers == ["#/forget/0/answer", "#/forget/2/question", "#/a~1b~0c%20d"]
    assert document["detail"].startswith("3 problems")


def test_explanations_name_what_is_known(http: httpx.Client) -> None:
    unknown = problem(http.post("/unlearn-jobs", json=body(model="gpt")), 422, "invalid-request", "model")
    assert "demo, bare, rich" in unknown["errors"][0]["detail"]
    choice = problem(http.post("/unlearn-jobs", json=body(model="rich")), 422, "invalid-request", "retain_set")
    assert "people, places" in choice["errors"][0]["detail"]
    gif = problem(http.post("/unlearn-jobs", json=BAD_BODIES["GIF"][0]), 422, "invalid-request")
    assert "JPEG, PNG or WEBP" in gif["errors"][0]["detail"]


def test_a_setting_that_the_method_lacks_names_its_field(service: Service, serve: Serve) -> None:
    catalog = service.settings.catalog
    methods = "[models.bare.config]\nmethod = 'npo'\n[models.rich.config]\nmethod = 'vgid-substitute'\n"
    catalog.write_text(catalog.read_text() + methods)
    http = serve(service.settings).http
    training = {"instruction": SECRET, "steps": 3}
    response = http.post(
        "/unlearn-jobs", json=body(model="bare", forget=[pair(1)], retain=[pair(2)], training=training)
    )
    (error,) = problem(response, 422, "invalid-request", "training.instruction")["errors"]
    assert error["pointer"] == "#/training/instruction"
    assert error["detail"] == "is no setting of npo, only of vgid; npo has inverse_temperature"
    assert SECRET not in response.text
    changing = {"perturbation": {"kind": "diffusion", "strength": 100, "final_strength": 900}}
    response = http.post("/unlearn-jobs", json=body(model="rich", retain_set="people", training=changing))
    problem(response, 422, "invalid-request", "training.perturbation")


def test_at_most_twenty_faults_are_listed(http: httpx.Client) -> None:
    document = problem(http.post("/unlearn-jobs", json=body(forget=[{}] * 100)), 422, "invalid-request")
    assert len(document["errors"]) == 20
    assert document["detail"] == "300 problems were found, the first 20 are listed."


def test_malformed_json_is_refused(http: httpx.Client) -> None:
    headers = {"Content-Type": "application/json"}
    for content in (b"", b"{", b'{"model": "\xff"}', b'{"model": "\\ud800"}', b"[" * 500):
        problem(http.post("/unlearn-jobs", content=content, headers=headers), 400, "malformed-request")
    for content in (b"[]", b"null", b'"text"'):
        problem(http.post("/unlearn-jobs", content=content, headers=headers), 422, "invalid-request", "(body)")


def test_a_field_that_is_named_twice_is_refused(http: httpx.Client) -> None:
    """Parsers differ in which of the two they take."""
    headers, plain = {"Content-Type": "application/json"}, json.dumps(body())
    for text in (
        plain[:-1] + ', "model": "nosuch"}', '{"model": "nosuch", ' + plain[1:],
        plain.replace('"answer":', '"answer": "x", "answer":', 1),
        plain.replace('"base64":', '"\\u0062ase64": "", "base64":'),
    ):  # fmt: skip
        document = problem(http.post("/unlearn-jobs", content=text, headers=headers), 400, "malformed-request")
        assert document["detail"] == "An object of the document names a field twice."
    twice = multipart(body(forget=[pair(image={"file": "a"})]), ("a", png(1)))
    twice[0] = ("request", (None, plain[:-1] + ', "priority": 0, "priority": 0}', "application/json"))
    problem(http.post("/unlearn-jobs", files=twice), 400, "malformed-request")


def test_other_media_types_are_refused(http: httpx.Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", "application/jsonx", ""):
        response = http.post("/unlearn-jobs", content=json.dumps(body()), headers={"Content-Type": kind})
        problem(response, 415, "unsupported-media-type")
        assert "multipart/form-data" in response.headers["accept-post"]


def test_a_compressed_body_is_refused_before_it_is_read(service: Service) -> None:
    content = gzip.compress(json.dumps(body()).encode())
    for encoding in ("gzip", "BR", "identity, gzip", "unknown"):
        headers = {"Content-Type": "application/json", "Content-Encoding": encoding}
        response = service.http.post("/unlearn-jobs", content=content, headers=headers)
        problem(response, 415, "unsupported-media-type")
        assert response.headers["accept-encoding"] == "identity"
    key = f"Authorization: {service.http.headers['authorization']}"
    head = ["POST /unlearn-jobs HTTP/1.1", "Host: vgid", key, "Content-Encoding: gzip", "Content-Length: 99", "", ""]
    with socket.create_connection((service.http.base_url.host, service.http.base_url.port)) as connection:
        connection.sendall("\r\n".join(head).encode())  # and no body
        answer = HTTPResponse(connection)
        answer.begin()
        assert answer.status == 415


def test_a_body_that_says_it_is_not_compressed_is_read(http: httpx.Client) -> None:
    problem(http.post("/unlearn-jobs", json={}, headers={"Content-Encoding": "Identity"}), 422, "invalid-request")


def multipart(request: dict[str, Any], *files: tuple[str, bytes]) -> list[Any]:
    parts: list[Any] = [("request", (None, json.dumps(request), "application/json"))]
    return parts + [(name, ("photo.png", data, "image/png")) for name, data in files]


def test_a_file_that_is_named_but_not_sent(http: httpx.Client) -> None:
    request = body(forget=[pair(image={"file": "a"}), pair(image={"file": SECRET})])
    response = http.post("/unlearn-jobs", files=multipart(request, ("a", png(1))))
    problem(response, 422, "invalid-request", "forget[1].image")
    assert SECRET not in response.text


def test_a_file_that_is_sent_but_not_named(http: httpx.Client) -> None:
    response = http.post("/unlearn-jobs", files=multipart(body(), (SECRET, png(1))))
    problem(response, 422, "invalid-request", "file[0]")
    assert SECRET not in response.text


def test_a_file_that_is_not_an_image(http: httpx.Client) -> None:
    request = body(forget=[pair(image={"file": "a"})])
    response = http.post("/unlearn-jobs", files=multipart(request, ("a", b"<svg/>")))
    problem(response, 422, "invalid-request", "forget[0].image")


BOUNDARY = "multipart/form-data; boundary=x"
NAMED = b'--x\r\nContent-Disposition: form-data; name="%s"\r\n\r\n{}\r\n'
BAD_MULTIPART = {
    "no boundary": ("multipart/form-data", b""),
    "long boundary": ('multipart/form-data; boundary="' + "x" * 300 + '"', b""),
    "empty": (BOUNDARY, b""),
    "other boundary": (BOUNDARY, b"--y\r\n\r\n\r\n--y--\r\n"),
    "cut off": (BOUNDARY, NAMED % b"request"),
    "no name": (BOUNDARY, b"--x\r\nContent-Type: text/plain\r\n\r\n{}\r\n--x--\r\n"),
    "no request part": (BOUNDARY, NAMED % b"other" + b"--x--\r\n"),
    "twice": (BOUNDARY, NAMED % b"request" + NAMED % b"request" + b"--x--\r\n"),
    "too many parts": (BOUNDARY, b"".join(NAMED % str(i).encode() for i in range(20)) + b"--x--\r\n"),
    "long headers": (BOUNDARY, b"--x\r\n" + b"X: y\r\n" * 3000 + NAMED % b"request" + b"--x--\r\n"),
    "bad JSON": (BOUNDARY, NAMED.replace(b"{}", b'{"model": \xff}') % b"request" + b"--x--\r\n"),
}


def test_malformed_multipart_is_refused(http: httpx.Client) -> None:
    for name, (kind, content) in BAD_MULTIPART.items():
        response = http.post("/unlearn-jobs", content=content, headers={"Content-Type": kind})
        assert response.status_code == 400, name
        problem(response, 400, "malformed-request")


@pytest.mark.parametrize("serve", ["h11", "httptools"], indirect=True)
@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_refused(http: httpx.Client, announced: bool) -> None:
    size = 2_000_000

    def stream() -> Iterator[bytes]:
        for _ in range(size // 10_000):
            yield bytes(10_000)

    headers = {"Content-Type": "application/json", **({"Content-Length": str(size)} if announced else {})}
    response = http.post("/unlearn-jobs", content=stream(), headers=headers)
    assert "300000 bytes" in problem(response, 413, "body-too-large")["detail"]
