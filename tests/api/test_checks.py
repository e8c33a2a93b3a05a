"""Requests that are dear to check: they are refused early, stopped in time, and hold up nobody else."""

from __future__ import annotations

import io
import json
import os
import random
import socket
from contextlib import ExitStack, suppress
from typing import Any

import httpx
import psutil
import pytest
from PIL import Image

from api.forget_requests.structure import has_more_tokens
from api.limits.turns import SMALL_BODY
from bench.serving.hostile import slow_jpeg
from jobs.settings import Settings
from tests.api.conftest import Serve
from tests.api.service import Service, body, inline, pair, png, problem, sending
from tests.processes import command_line, has_ended
from tests.vgid_core.support.tiny import save_tiny_model
from tests.waiting import eventually

JSON = {"Content-Type": "application/json"}
# No bound ends a check while a test looks at it.
PATIENT = {"check_seconds": 1000, "check_processor_seconds": 1000, "max_image_seconds": 1000}


@pytest.fixture
def settings(settings: Settings) -> Settings:
    """Limits that let a slow image in."""
    return settings.model_copy(
        update={"max_body_bytes": 4_000_000, "max_image_bytes": 2_000_000, "max_image_pixels": 40_000_000}
    )


def slow_request() -> dict[str, Any]:
    """One that is checked until it is stopped."""
    return body(forget=[pair(image=inline(slow_jpeg()))])


def large_request() -> dict[str, Any]:
    """One that isn't small, and is checked quickly."""
    noise = Image.frombytes("RGB", (160, 160), random.Random(0).randbytes(160 * 160 * 3))
    buffer = io.BytesIO()
    noise.save(buffer, "PNG")
    request = body(forget=[pair(image=inline(buffer.getvalue()))])
    assert len(json.dumps(request)) > SMALL_BODY
    return request


def test_values_are_counted_before_any_is_built(http: httpx.Client) -> None:
    content = b'{"model":"demo","forget":[' + b"{}," * 100_000 + b"{}]}"
    (error,) = problem(http.post("/unlearn-jobs", content=content, headers=JSON), 422, "invalid-request")["errors"]
    assert error["detail"] == "holds more values than a request of 8 pairs has"


def test_strings_hide_no_values_and_are_none_themselves() -> None:
    document = json.dumps({'a"{[,': [1, '\\",{', {}], "b\\": "c\\\\\\"}).encode()
    brackets, commas, strings = 3, 3, 4
    assert not has_more_tokens(document, brackets + commas + strings + 1)
    assert has_more_tokens(document, brackets + commas + strings - 1)
    for endless in (b'"' + b'\\"' * 1000, b"[" * 1000, b"{}," * 1000, b'""' * 1000):
        assert has_more_tokens(endless, 10) == (endless[1:2] != b"\\")


def test_an_image_that_takes_too_long_is_named(serve: Serve, settings: Settings) -> None:
    http = serve(settings.model_copy(update={"max_image_seconds": 0.2})).http
    request = body(forget=[pair(1), pair(image=inline(slow_jpeg()))])
    document = problem(http.post("/unlearn-jobs", json=request), 422, "invalid-request", "forget[1].image")
    assert document["errors"][0]["detail"] == "takes more than 0.2 s of processor time to decode"
    assert http.post("/unlearn-jobs", json=body()).status_code == 202, "the next request is checked all the same"


def test_a_request_that_takes_too_long_is_refused(serve: Serve, settings: Settings) -> None:
    http = serve(settings.model_copy(update=PATIENT | {"check_seconds": 2})).http
    request = body(forget=[pair(image=inline(slow_jpeg()))])
    problem(http.post("/unlearn-jobs", json=request), 422, "invalid-request", "(body)")


def test_pixels_are_counted_before_any_is_decoded(serve: Serve, settings: Settings) -> None:
    http = serve(settings.model_copy(update={"max_request_pixels": 100_000, "max_image_seconds": 0.001})).http
    pictures = [pair(image=inline(png(shade, size=(200, 200)))) for shade in range(3)]
    (error,) = problem(http.post("/unlearn-jobs", json=body(forget=pictures)), 422, "invalid-request")["errors"]
    assert error["detail"] == "has images of more than 100000 pixels together"


def test_a_check_ends_when_its_client_hangs_up(serve: Serve, settings: Settings) -> None:
    service = serve(settings.model_copy(update=PATIENT))
    with sending(service.http, slow_request()):
        eventually(service.decoding, seconds=60)
        checking = _checking()
    eventually(lambda: any(has_ended(process) for process in checking))
    assert service.stored_jobs() == 0


def test_one_client_takes_half_of_the_turns_at_most(serve: Serve, settings: Settings) -> None:
    service = serve(settings.model_copy(update=PATIENT | {"checks_at_once": 2}))
    with ExitStack() as held:
        for _ in range(2):
            held.enter_context(sending(service.http, slow_request()))
        eventually(service.decoding, seconds=60)
        assert service.as_client("another").post("/unlearn-jobs", json=large_request()).status_code == 202
        assert len(service.decoding()) == 1


def test_the_last_free_turn_is_kept_for_a_client_without_one(serve: Serve, settings: Settings) -> None:
    service = serve(settings.model_copy(update=PATIENT | {"checks_at_once": 4}))
    with ExitStack() as held:
        for http in (service.http, service.as_client("second")):
            for _ in range(3):
                held.enter_context(sending(http, slow_request()))
        eventually(lambda: len(service.decoding()) == 3, seconds=60)
        assert service.as_client("third").post("/unlearn-jobs", json=large_request()).status_code == 202
        assert len(service.decoding()) == 3


def test_a_small_request_waits_for_no_large_one(serve: Serve, settings: Settings) -> None:
    service = serve(settings.model_copy(update=PATIENT | {"checks_at_once": 1}))
    with sending(service.http, slow_request()):
        eventually(service.decoding, seconds=60)
        for http in (service.http, service.as_client("another")):
            for path in ("/unlearn-jobs", "/unlearn-jobs/estimate"):
                assert http.post(path, json=body()).is_success
        assert len(service.decoding()) == 1


def test_a_small_request_that_proves_to_be_dear_waits_among_the_large_ones(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("api.forget_requests.receiving._SMALL_SECONDS", 0.01)
    dear = body(forget=[pair(image=inline(slow_jpeg(side=1500, scans=100)))])
    assert len(json.dumps(dear)) < SMALL_BODY
    assert service.http.post("/unlearn-jobs", json=dear).status_code == 202
    assert not any((service.settings.blob_dir / "unfinished").iterdir())


def test_a_check_that_takes_a_while_goes_on_at_a_lower_priority(serve: Serve, settings: Settings) -> None:
    service = serve(settings.model_copy(update=PATIENT))
    assert service.http.post("/unlearn-jobs", json=large_request()).status_code == 202
    assert all(priorities == {0} for priorities in _priorities()), "a quick one leaves its process as it was"
    with sending(service.http, slow_request()):
        eventually(lambda: {0, 10} in _priorities(), seconds=60)


@pytest.mark.parametrize("path", ["/unlearn-jobs", "/unlearn-jobs/estimate"])
def test_many_images_that_are_dear_together_are_stopped(serve: Serve, settings: Settings, path: str) -> None:
    service = serve(settings.model_copy(update={"check_processor_seconds": 1, "max_image_seconds": 0.9}))
    request = body(forget=[pair(image=inline(slow_jpeg(side=1500 + 8 * n, scans=300))) for n in range(8)])
    (error,) = problem(service.http.post(path, json=request), 422, "invalid-request", "(body)")["errors"]
    assert error["detail"] == "takes more than 1 s of processor time to check"
    assert service.http.post(path, json=body()).is_success, "the next request is checked all the same"


def test_a_large_body_waits_encrypted_and_leaves_nothing(service: Service) -> None:
    request = service.http.build_request(
        "POST", "/unlearn-jobs", json=body(forget=[pair(answer="Ilse " + "Marwood " * 400)] * 400)
    )
    content = request.read()
    assert len(content) > 1_200_000
    unfinished = service.settings.blob_dir / "unfinished"
    with socket.create_connection((request.url.host, request.url.port)) as connection:
        head = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        connection.sendall(f"POST /unlearn-jobs HTTP/1.1\r\n{head}\r\n".encode() + content[:-10])
        (spooled,) = eventually(lambda: [file for file in unfinished.iterdir() if file.stat().st_size > 10_000])
        assert spooled.stat().st_mode & 0o077 == 0
        assert b"Marwood" not in spooled.read_bytes()
        connection.sendall(content[-10:])
        assert connection.recv(12) == b"HTTP/1.1 422"  # more pairs than the service takes
    eventually(lambda: not any(unfinished.iterdir()))


def test_accepted_requests_leave_no_scratch_file(service: Service) -> None:
    assert service.http.post("/unlearn-jobs", json=body()).status_code == 202
    assert not any((service.settings.blob_dir / "unfinished").iterdir())


def _checking() -> list[psutil.Process]:
    """The processes that check requests."""
    return [child for child in psutil.Process().children() if "anyio.to_process" in command_line(child)]


def _priorities() -> list[set[int]]:
    """The priorities of the threads of each process that checks requests."""
    found = []
    for process in _checking():
        with suppress(ProcessLookupError, psutil.NoSuchProcess):
            found.append({os.getpriority(os.PRIO_PROCESS, thread.id) for thread in process.threads()})
    return found


def test_texts_that_the_model_would_refuse_are_refused(serve: Serve, settings: Settings) -> None:
    save_tiny_model(settings.catalog.parent / "model")
    http = serve(settings).http
    request = body(forget=[pair(1), pair(2, question="Who is <image> this?"), pair(3, answer="Ilse Marwood " * 200)])
    errors = problem(http.post("/unlearn-jobs", json=request), 422, "invalid-request")["errors"]
    assert [(error["field"], error["detail"]) for error in errors] == [
        ("forget[1].question", "holds one of the model's control tokens"),
        ("forget[2]", "has more tokens than the model takes (256), question and answer together"),
    ]
    assert http.post("/unlearn-jobs", json=body()).status_code == 202
