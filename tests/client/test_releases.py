"""The client and the command line on a model's releases, and on replay sets."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from sqlalchemy import update

from jobs.clients import access
from jobs.lines import rebuilds, rollback
from jobs.lines.releases import NewReplaySet
from jobs.tables import Release, Right
from tests.client.conftest import PAIRS, Service
from tests.client.releases import adapter_zip, released
from tests.client.test_cli import vgid
from tests.signing_keys import Key
from tests.vgid_core.lora.test_combine import save
from vgid_client import Client
from vgid_client.errors import Conflict, IntegrityError, NotFound, VgidError
from vgid_client.serving_folder import pull


def test_a_release_is_shown_and_fetched(service: Service, client: Client, archive: Path, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        client.release("tiny")
    first, second = (released(service, client, archive) for _ in range(2))
    found = client.release("tiny")
    assert (found.number, found.requests, found.checked, found.unchecked) == (2, 2, 1, 1)
    assert [(each.job_id, each.still_forgotten) for each in found.own] == [(first, None), (second, True)]

    to = tmp_path / "served" / "release.zip"
    done = vgid(service, "releases", "show", "tiny", "--to", to)
    assert done.returncode == 0, done.stderr
    assert to.read_bytes() == archive.read_bytes()
    assert "2 requests: 1 still forgotten, 1 without a replay set: nobody can say" in done.stdout
    assert f"{first}  not re-checked since release 1" in done.stdout
    assert (
        json.loads(vgid(service, "releases", "show", "tiny", "--json").stdout)["adapter_sha256"] == found.adapter_sha256
    )
    assert vgid(service, "releases", "show", "other").returncode == 3


def test_without_the_right_to_serve_only_ones_own_is_shown(
    service: Service, client: Client, archive: Path, tmp_path: Path
) -> None:
    own = released(service, client, archive)
    with service.sessions.begin() as s:
        [(key, _)] = access.list_keys(s)
        access.change_rights(s, key.prefix, (), [Right.serve])
    found = client.release("tiny")
    assert (found.requests, found.checked, found.unchecked, found.drift) == (None, None, None, None)
    shown = vgid(service, "releases", "show", "tiny", "--to", tmp_path / "release.zip").stdout
    assert (own in shown, "requests" in shown, "drift" in shown) == (True, False, False)
    assert (tmp_path / "release.zip").read_bytes() == archive.read_bytes()
    # One from before there were zips without anybody's evidence is not for everybody, and says so.
    with service.sessions.begin() as s:
        s.execute(update(Release).values(zip_sha256=None, zip_bytes=None))
    done = vgid(service, "releases", "show", "tiny", "--to", tmp_path / "other.zip")
    assert (done.returncode != 0, "the right `serve`" in done.stderr) == (True, True)


def test_whom_the_release_does_not_hold_and_what_waits_is_shown(
    service: Service, client: Client, archive: Path
) -> None:
    first = released(service, client, archive)
    released(service, client, archive, "case 8", base_digest="d" * 64)
    assert client.release("tiny").not_held == (first,)
    shown = vgid(service, "releases", "show", "tiny")
    assert f"{first}  its people are known again" in shown.stdout
    waiting = client.submit("tiny", PAIRS)
    with service.sessions.begin() as s:
        rebuilds.order(s, "tiny", None, 0)
    assert client.get(waiting.id).waits_for == "rebuild"
    assert "the rebuild of its model's line" in vgid(service, "status", waiting.id).stdout


def test_a_release_and_an_adapter_of_ones_own_become_one(
    service: Service, client: Client, tmp_path: Path, key: Key, keys: Path
) -> None:
    own = save(tmp_path / "own", 3)
    save(tmp_path / "release", 2, seed=1)
    released(service, client, adapter_zip(tmp_path / "release.zip", key, "tiny-1"))
    typed = ("releases", "combine", "tiny", "--with", own, "--out", tmp_path / "both")
    assert vgid(service, *typed).returncode == 2, "without keys"
    done = vgid(service, *typed, "--keys", keys)
    assert (done.returncode, "rank 5" in done.stdout) == (0, True), done.stderr


def test_a_download_that_isnt_what_was_named_is_refused(
    service: Service, client: Client, archive: Path, tmp_path: Path
) -> None:
    released(service, client, archive)
    stored = service.blobs.path_of_artifact(hashlib.sha256(archive.read_bytes()).hexdigest())
    data = bytearray(stored.read_bytes())
    data[0] ^= 1
    stored.write_bytes(data)
    with pytest.raises(IntegrityError):
        client.download_release("tiny", tmp_path / "release.zip")
    assert not list(tmp_path.glob("*release*"))


def test_a_replay_set_is_asked_for_shown_and_ended(
    service: Service, client: Client, archive: Path, request_file: Path
) -> None:
    typed = ("submit", request_file, "--model", "tiny", "--replay-days", "30", "--subject-reference", "case 7")
    assert client.get(vgid(service, *typed).stdout.strip()).state == "queued"
    for job in client.list_jobs().jobs:
        client.cancel(job)
    kept = released(service, client, archive, replay_set=NewReplaySet(b"wrapped", 5, 30))
    assert "5 pairs are kept, sealed, until" in vgid(service, "replay-set", kept).stdout
    with pytest.raises(Conflict):
        client.replay_set_receipt(kept)
    refused = vgid(service, *typed)
    assert (refused.returncode, f"{kept} has done it" in refused.stderr) == (3, True)
    assert vgid(service, *typed, "--repeat").returncode == 0

    done = vgid(service, "replay-set", kept, "--end")
    assert "its key is destroyed, and its file is deleted" in done.stdout
    assert client.replay_set(kept).ended_at is not None
    client.end_replay_set(kept)
    with pytest.raises(NotFound):
        client.replay_set(released(service, client, archive))


def test_a_servers_folder_has_the_new_release_before_the_old_one_goes(
    service: Service, client: Client, tmp_path: Path, key: Key, keys: Path
) -> None:
    folder = tmp_path / "loras"
    (folder / "somebody-elses").mkdir(parents=True)
    released(service, client, adapter_zip(tmp_path / "1.zip", key, "tiny-11111111"))
    done = vgid(service, "releases", "export", "tiny", folder, "--keys", keys)
    assert (done.returncode, done.stdout.strip()) == (0, str(folder / "tiny-11111111"))
    assert "(it was there)" in vgid(service, "releases", "export", "tiny", folder, "--keys", keys).stdout
    released(service, client, adapter_zip(tmp_path / "2.zip", key, "tiny-22222222"), adapter_sha256="d" * 64)

    seen: list[set[str]] = []
    changes: list[Path] = []
    rounds = iter([True, False])

    def pause() -> bool:
        seen.append({each.name for each in folder.iterdir() if each.is_dir()})
        return next(rounds)

    pull(client, "tiny", folder, keys, pause, changes.append, pytest.fail)
    assert seen == [{"somebody-elses", "tiny-22222222"}] * 2
    assert changes == [folder / "tiny-22222222"]
    assert (folder / "tiny-22222222" / "adapter_config.json").read_text() == "{}"
    assert not [each for each in folder.iterdir() if "unfinished" in each.name]


def test_a_release_that_was_taken_back_leaves_the_folder(
    service: Service, client: Client, tmp_path: Path, key: Key, keys: Path
) -> None:
    released(service, client, adapter_zip(tmp_path / "1.zip", key, "tiny-1"))
    folder = tmp_path / "served"
    (folder / "someone-elses").mkdir(parents=True)
    told: list[str] = []

    def take_back_once() -> bool:
        if told:
            return False
        assert (folder / "tiny-1").is_dir()
        with service.sessions.begin() as s:
            rollback.revert(s, "tiny", "wrong person")
        return True

    pull(client, "tiny", folder, keys, take_back_once, lambda _: None, lambda error: told.append(str(error)))
    assert [path.name for path in folder.iterdir()] == ["someone-elses"]
    assert len(told) == 1


def test_a_round_without_a_release_is_told_and_the_next_one_finds_it(
    service: Service, client: Client, tmp_path: Path, key: Key, keys: Path
) -> None:
    def pause() -> bool:
        if told and not changes:
            released(service, client, adapter_zip(tmp_path / "1.zip", key, "tiny-11111111"))
        return bool(told) and not changes

    told: list[VgidError] = []
    changes: list[Path] = []

    def failed(error: VgidError) -> None:
        assert not told
        told.append(error)

    pull(client, "tiny", tmp_path / "loras", keys, pause, changes.append, failed)
    assert isinstance(told[0], NotFound)
    assert [path.name for path in changes] == ["tiny-11111111"]
