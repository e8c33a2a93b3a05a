"""The command `vgid` as a process of its own, against the real API."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jobs.settings import Settings
from jobs.signing import keys as signing_keys
from jobs.signing.receipt import sign_receipts
from tests.client.conftest import PAIRS, Service
from vgid_client import Client, read_jsonl
from vgid_verify import KeyFile, verify_receipt


def vgid(service: Service, *arguments: str | Path, key: str | None = None) -> subprocess.CompletedProcess[str]:
    variables = {"VGID_API_URL": service.url, "VGID_API_KEY": service.secret if key is None else key, "COLUMNS": "160"}
    return run(variables, *arguments)


def run(variables: dict[str, str], *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "vgid_client.cli", *map(str, arguments)]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("VGID_")} | variables
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=180)


def test_submitting_prints_the_id_alone(service: Service, client: Client, request_file: Path) -> None:
    done = vgid(
        service, "submit", request_file, "--model", "tiny", "--probe", f"rephrased={request_file}", "--set", "steps=7",
        "--external-id", "CASE-9", "--due-at", "2031-01-02", "--priority", "-2", "--metadata", "team=privacy",
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    job = client.get(done.stdout.strip())
    assert job.data is not None
    assert job.data.probes == {"rephrased": 3}
    assert job.config["training"]["steps"] == 7
    assert (job.external_id, job.metadata, job.priority) == ("CASE-9", {"team": "privacy"}, -2)
    shown = [line.split() for line in vgid(service, "status", job.id).stdout.splitlines()]
    assert ["priority", "-2"] in shown
    assert ["place", "1"] in shown


@pytest.mark.parametrize("name", ["forget", "retain", "utility"])
def test_a_probe_cannot_take_the_place_of_another_set(
    service: Service, client: Client, request_file: Path, name: str
) -> None:
    done = vgid(service, "submit", request_file, "--model", "tiny", "--probe", f"{name}={request_file}")
    assert (done.returncode, done.stdout) == (3, "")
    assert f"can't name a probe {name}" in done.stderr
    assert client.list_jobs().jobs == ()


def test_one_name_for_two_probes_is_refused(service: Service, request_file: Path) -> None:
    twice = ["--probe", f"a={request_file}", "--probe", f"a={request_file}"]
    done = vgid(service, "submit", request_file, "--model", "tiny", *twice)
    assert done.returncode == 2
    assert "--probe" in done.stderr


def test_a_text_may_hold_every_separator_that_json_allows(service: Service, client: Client, request_file: Path) -> None:
    record = {"image": "0.png", "question": "One\u2028two\u2029three\u0085four?", "answer": "Yes."}
    with request_file.open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(record, ensure_ascii=False) + "\n")
    assert read_jsonl(request_file)[3].question == record["question"]
    done = vgid(service, "submit", request_file, "--model", "tiny")
    assert (done.returncode, done.stderr) == (0, "")
    job = client.get(done.stdout.strip())
    assert job.data is not None
    assert job.data.forget_pairs == 4


def test_the_list_of_jobs_fits_eighty_columns(service: Service, client: Client) -> None:
    running = client.submit("tiny", PAIRS, external_id="A-RATHER-LONG-NUMBER-OF-YOURS-2031-00042")
    done = client.submit("tiny", PAIRS)
    service.fail(done.id, service.claim(done.id))
    service.claim(running.id)  # at last: nothing else of its model can run beside it
    variables = {"VGID_API_URL": service.url, "VGID_API_KEY": service.secret, "COLUMNS": "80"}
    lines = run(variables, "jobs").stdout.split("\n")
    assert max(map(len, lines)) <= 80
    (row,) = [line for line in lines if running.id in line]
    assert f"{running.created_at.astimezone():%Y-%m-%d %H:%M}" in row
    assert "running" in row.split()
    assert "A-RATHER" in row
    assert any(done.id in line and "failed" in line.split() for line in lines)


def test_listing_by_every_filter(service: Service, client: Client) -> None:
    due = datetime(2031, 5, 1, tzinfo=UTC)
    wanted = client.submit("tiny", PAIRS, external_id="A", due_at=due, metadata={"k": "v"}, subject_reference="Zoë")
    other = client.submit("tiny", PAIRS)
    options = {
        "state": "queued", "model": "tiny", "external-id": "A", "subject-reference": "Zoë", "metadata": "k=v",
        "created-after": "2020-01-01", "created-before": "2130-01-01", "due-after": "2031-05-01",
        "due-before": "2031-05-02", "sort": "-due_at", "limit": "5",
    }  # fmt: skip
    done = vgid(service, "jobs", "--total", *(text for name, value in options.items() for text in (f"--{name}", value)))
    assert (done.returncode, done.stderr) == (0, "")
    assert wanted.id in done.stdout
    assert other.id not in done.stdout
    assert "1 in all" in done.stdout


def test_showing_and_listing(service: Service, client: Client) -> None:
    job = client.submit("tiny", PAIRS, external_id="CASE-2")
    assert "queued" in vgid(service, "status", job.id).stdout
    assert json.loads(vgid(service, "status", job.id, "--json").stdout)["id"] == job.id
    listed = vgid(service, "jobs").stdout
    assert job.id in listed
    assert "CASE-2" in listed
    assert "Tiny" in vgid(service, "models").stdout
    assert vgid(service, "metrics", job.id).stdout.strip() == "nothing measured yet"
    assert vgid(service, "cancel", job.id).stdout.strip() == "cancelled"


def test_metrics_and_download(service: Service, client: Client, archive: Path, tmp_path: Path) -> None:
    job = client.submit("tiny", PAIRS)
    token = service.claim(job.id)
    service.measure(job.id, token, 1.0, 0.04)
    service.succeed(job.id, token, archive)
    assert "0.040" in vgid(service, "metrics", job.id).stdout
    content = archive.read_bytes()
    done = vgid(service, "download", job.id, "--to", tmp_path / "my.zip")
    assert (tmp_path / "my.zip").read_bytes() == content
    assert hashlib.sha256(content).hexdigest() in done.stdout
    assert vgid(service, "follow", job.id).returncode == 0


def test_following_a_failed_job_exits_with_one(service: Service, client: Client) -> None:
    job = client.submit("tiny", PAIRS)
    service.fail(job.id, service.claim(job.id))
    done = vgid(service, "follow", job.id)
    assert done.returncode == 1
    assert "2 of 8 adapted modules never moved" in done.stdout


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["status", "00000000-0000-4000-8000-000000000000"], 3, "job"),
        (["submit", "missing.jsonl", "--model", "tiny"], 2, "missing.jsonl: no such file or directory"),
        (["jobs", "--limit", "0"], 2, "--limit"),
    ],
)
def test_errors_are_one_line_with_a_code(service: Service, arguments: list[str], code: int, message: str) -> None:
    done = vgid(service, *arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_a_wrong_line_is_named_and_not_quoted(service: Service, request_file: Path) -> None:
    with request_file.open("a", encoding="utf-8") as lines:
        lines.write('{"image": "0.png", "question": "Who is Jane Roe?"}\n')
    done = vgid(service, "submit", request_file, "--model", "tiny")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: forget.jsonl, line 4: 'answer' is missing or empty"


def test_without_a_key_it_names_the_variable(service: Service) -> None:
    done = vgid(service, "models", key="")
    assert done.returncode == 2
    assert "VGID_API_KEY" in done.stderr
    assert vgid(service, "models", key="vgid_wrong").returncode == 3


def test_an_unreachable_service_gives_one_line() -> None:
    done = run({"VGID_API_URL": "http://127.0.0.1:9", "VGID_API_KEY": "k"}, "models")
    assert done.returncode == 4
    assert done.stderr.strip() == (
        "error: cannot reach the service at http://127.0.0.1:9: connection refused or cut off"
    )


def test_help_lists_the_other_rooms_commands_without_importing_them() -> None:
    program = "import sys; from vgid_client.cli import main; sys.argv = ['vgid', '--help']\ntry: main()\nexcept SystemExit: pass\nprint('heavy:', sorted({'torch', 'sqlalchemy', 'celery', 'jobs.commands'} & set(sys.modules)))"  # noqa: E501
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    for name in ("demo", "up", "keys", "database", "demo-model"):
        assert f"│ {name} " in done.stdout
    assert "heavy: []" in done.stdout


def test_a_command_whose_package_isnt_there_is_left_out() -> None:
    """As in the service's image, which holds no `compare`."""
    program = "import sys, vgid_client.cli as c; sys.modules['compare'] = None; sys.argv = ['vgid', '--help']; c.main()"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert "│ unlearn " in done.stdout
    assert "compare" not in done.stdout


def test_a_command_whose_extra_is_not_installed_says_what_to_install() -> None:
    program = (
        "import sys; sys.modules['psutil'] = None; sys.argv = ['vgid', 'up']; import vgid_client.cli as c; c.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (
        1,
        "error: this needs the package 'psutil': pip install '.[embedded]'\n",
    )


def test_the_other_rooms_commands_answer_with_their_own_help() -> None:
    done = run({}, "keys", "create", "--help")
    assert done.returncode == 0
    assert "--client" in done.stdout


def test_a_dry_run_shows_what_a_request_would_be_and_makes_no_job(
    service: Service, client: Client, request_file: Path
) -> None:
    done = vgid(service, "submit", request_file, "--model", "tiny", "--set", "steps=7", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    shown = [line.split() for line in done.stdout.splitlines()]
    assert ["steps", "7"] in shown
    assert ["place", "1"] in shown
    assert client.list_jobs().jobs == ()


def test_receipt_and_keys_come_as_files_that_verify_reads(
    service: Service, client: Client, settings: Settings, tmp_path: Path
) -> None:
    job = client.submit("tiny", PAIRS)
    client.cancel(job.id)
    receipt, keys = tmp_path / "receipt.json", tmp_path / "keys.json"
    early = vgid(service, "receipt", job.id, "--to", receipt)
    assert (early.returncode, receipt.exists()) == (3, False)
    assert settings.signing_keys is not None
    with service.sessions.begin() as s:
        signing_keys.create(s, settings.signing_keys)
    sign_receipts(service.sessions, settings.signing_keys)

    assert vgid(service, "receipt", job.id, "--to", receipt).stdout.strip() == str(receipt)
    assert vgid(service, "signing-keys", "--to", keys).returncode == 0
    assert verify_receipt(receipt, KeyFile.load(keys)).holds
    unwritable = vgid(service, "receipt", job.id, "--to", tmp_path / "nowhere" / "receipt.json")
    assert (unwritable.returncode, "No such file" in unwritable.stderr) == (2, True)
