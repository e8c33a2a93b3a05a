"""What a request would be, with nothing stored."""

from __future__ import annotations

import io
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image, ImageDraw

from api.forget_requests.check_meter import CheckMeter
from api.forget_requests.estimate import REGISTERED_PAIRS, estimate_request
from api.forget_requests.request_check import CheckLimits, UncheckedRequest
from api.forget_requests.spool import SpooledBody
from api.schemas import SubmitRequest
from jobs.catalog import Catalog
from jobs.clients.limits import ClientLimits
from tests.api.conftest import Serve
from tests.api.service import Service, body, inline, pair, png, problem
from tests.vgid_core.support.tiny import save_tiny_model
from vgid_core.data.pairs import EncodedImage


def drawing(shift: int, kind: str = "PNG") -> bytes:
    """A picture that isn't one of a single colour; another one for each shift."""
    picture = Image.new("RGB", (64, 64), (200, 180, 90))
    ImageDraw.Draw(picture).ellipse((8 + shift, 8, 40 + shift, 50), fill=(20, 40, 160))
    buffer = io.BytesIO()
    picture.save(buffer, kind)
    return buffer.getvalue()


def estimated(service: Service, notes: Path, request: dict[str, Any]) -> dict[str, Any]:
    """The data report of an estimate that is made in this process."""
    content = json.dumps(request).encode()
    unchecked = UncheckedRequest(
        schema=SubmitRequest,
        content_type="application/json",
        body=SpooledBody(content, len(content)),
        limits=CheckLimits.of(service.settings, ClientLimits()),
        catalog=Catalog.load(service.settings.catalog),
        data_key=b"",
        sealed=notes,  # nothing is sealed
        notes=notes,
    )
    with CheckMeter(notes, 600, 600) as meter:
        return estimate_request(unchecked, meter).report


def test_an_estimate_tells_what_a_request_would_be_and_stores_nothing(serve: Serve, service: Service) -> None:
    save_tiny_model(service.settings.catalog.parent / "model")
    http = serve(service.settings).http
    forget = [
        pair(image=inline(drawing(0)), answer="This is Ilse Marwood, a violin maker from Trier."),
        pair(image=inline(drawing(0)), answer="This is Ilse Marwood, a violin maker from Trier."),
    ]
    retain = [
        pair(image=inline(drawing(0, "JPEG")), question="Where is it?", answer="In Trier."),
        pair(image=inline(drawing(14)), answer="This is Ilse Marwood, a violin maker from Trier."),
        pair(image=inline(drawing(20)), answer="This is Bo Marsh."),
    ]
    response = http.post("/unlearn-jobs/estimate", json=body(forget=forget, retain=retain))
    assert response.status_code == 200, response.text
    found = response.json()
    assert (found["model"], found["forget_pairs"], found["retain_pairs"], found["steps"]) == ("demo", 2, 3, 60)
    assert (found["unit"], found["retain_set"]) == ("tokens", "demo-retain")
    assert found["answers"]["smallest"] > 0
    assert (found["queue_position"], found["expected_seconds"]) == (1, None)
    kinds = {finding["kind"]: finding["places"] for finding in found["findings"]}
    assert kinds["duplicate"] == ["forget[1] and forget[0]"]
    assert kinds["similar-image"] == ["retain[0]"]
    assert kinds["leaked-answer"] == ["retain[1]"]
    assert "Marwood" not in response.text
    assert (service.stored_jobs(), service.stored_inputs()) == (0, [])
    assert not any((service.settings.blob_dir / "unfinished").iterdir())


def test_a_registered_set_that_is_looked_at_in_part_is_said_to_be(service: Service) -> None:
    retain = service.settings.catalog.parent / "retain.jsonl"
    (retain.parent / "photo.png").write_bytes(drawing(3))
    line = {"image": "photo.png", "answer": "In Trier."}
    for pairs, said in ((REGISTERED_PAIRS, []), (REGISTERED_PAIRS + 1, [("warning", ["retain[1000]"])])):
        lines = (json.dumps({**line, "question": f"Where is number {number}?"}) for number in range(pairs))
        retain.write_text("\n".join(lines))
        response = service.http.post("/unlearn-jobs/estimate", json=body())
        assert response.status_code == 200, response.text
        found = [each for each in response.json()["findings"] if each["kind"] == "incomplete"]
        assert [(each["level"], each["places"]) for each in found] == said


def test_an_estimate_decodes_each_image_once_and_a_registered_one_never_again(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    retain = service.settings.catalog.parent / "retain.jsonl"
    (retain.parent / "photo.png").write_bytes(drawing(20))
    retain.write_text(json.dumps({"image": "photo.png", "question": "Where is it?", "answer": "In Trier."}))
    decoded: list[bytes] = []

    def decode(image: EncodedImage, side: int) -> Image.Image:
        decoded.append(image.data)
        return whole_decode(image, side)

    whole_decode = EncodedImage.decode_reduced
    monkeypatch.setattr(EncodedImage, "decode_reduced", decode)
    monkeypatch.setattr(EncodedImage, "decode", lambda _: pytest.fail("decoded in full"))
    monkeypatch.setattr("api.forget_requests.estimate._registered_prints", {})
    own = [drawing(0), drawing(0, "JPEG")]
    request = body(forget=[pair(image=inline(data)) for data in own * 2], probes={"a": [pair(image=inline(own[0]))]})
    for number in range(2):
        estimated(service, tmp_path / f"notes {number}", request)
    assert Counter(decoded) == {own[0]: 2, own[1]: 2, drawing(20): 1}


def test_a_registered_set_of_large_images_is_looked_at_in_part(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("api.forget_requests.estimate.REGISTERED_PIXELS", 20_000)
    retain = service.settings.catalog.parent / "retain.jsonl"
    lines = []
    for number in range(4):
        (retain.parent / f"{number}.png").write_bytes(png(number, size=(100, 80)))
        lines.append(json.dumps({"image": f"{number}.png", "question": "Where is it?", "answer": "In Trier."}))
    retain.write_text("\n".join(lines))
    findings = estimated(service, tmp_path / "notes", body())["findings"]
    assert [each["places"] for each in findings if each["kind"] == "incomplete"] == [["retain[2]"]]


def test_what_filing_would_refuse_an_estimate_refuses(service: Service) -> None:
    response = service.http.post("/unlearn-jobs/estimate", json=body(forget=[pair(image=inline(png(1)[:20]))]))
    problem(response, 422, "invalid-request", "forget[0].image")
    problem(service.http.post("/unlearn-jobs/estimate", content=b"{"), 415, "unsupported-media-type")
