"""What isn't signed by a key that the operator has pinned never reaches a server's folder."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZIP_STORED, ZipFile, ZipInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.client.conftest import Service
from tests.client.releases import WEIGHTS, adapter_zip, released, signed_adapter
from tests.client.test_cli import vgid
from tests.lines import BASE
from tests.signing_keys import NOW, Key
from tests.vgid_verify.signed import missed
from vgid_client import Client, UnverifiedRelease, VgidError
from vgid_client.serving_folder import export_release, pull
from vgid_client.signed_release import pinned_keys, unpack_verified
from worker.attempt.artifact_zip import write_artifact_zip

Damage = Callable[[Path, Path, Key], None]  # of a signed adapter's folder, into a zip
GOOD, NEXT = "vgid-tiny-111111111111", "vgid-tiny-222222222222"


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def packed(folder: Path, target: Path, compression: int = ZIP_STORED, **added: bytes) -> None:
    with ZipFile(target, "w", compression) as archive:
        for file in sorted(folder.iterdir()):
            archive.write(file, file.name)
        for name, data in added.items():
            archive.writestr(name, data)


def changed(name: str) -> Damage:
    def damage(folder: Path, target: Path, _key: Key) -> None:
        data = bytearray((folder / name).read_bytes())
        data[len(data) // 2] ^= 1
        (folder / name).write_bytes(data)
        write_artifact_zip(folder, target)

    return damage


def removed(*names: str) -> Damage:
    def damage(folder: Path, target: Path, _key: Key) -> None:
        for name in names:
            (folder / name).unlink()
        write_artifact_zip(folder, target)

    return damage


def added(name: str) -> Damage:
    return lambda folder, target, _key: packed(folder, target, **{name: b"{}"})


def signed_as(**given: Any) -> Damage:
    """Signed by the operator's own key, as an adapter for something else."""
    return lambda folder, target, key: write_artifact_zip(
        signed_adapter(folder, key, **({"name": NEXT} | given)), target
    )


def by_another(folder: Path, target: Path, _key: Key) -> None:
    write_artifact_zip(signed_adapter(folder, Key.make(target.parent), NEXT), target)


def compressed(folder: Path, target: Path, _key: Key) -> None:
    packed(folder, target, ZIP_DEFLATED, bomb=bytes(10_000_000))


def linked(folder: Path, target: Path, _key: Key) -> None:
    packed(folder, target)
    with ZipFile(target, "a") as archive:
        link = ZipInfo("link")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")


def overlapping(_folder: Path, target: Path, _key: Key) -> None:
    with ZipFile(target, "w") as archive:
        archive.writestr("first", bytes(100_000))
        for number in range(50):
            again = ZipInfo(f"again{number}")
            again.file_size = again.compress_size = 100_000
            again.CRC, again.header_offset = archive.getinfo("first").CRC, 0
            archive.filelist.append(again)
        archive._didModify = True  # type: ignore[attr-defined]


def crowded(folder: Path, target: Path, _key: Key) -> None:
    packed(folder, target, **{f"file{number}": b"" for number in range(40_000)})


DAMAGES: dict[str, tuple[Damage, str]] = {
    "weights": (changed(WEIGHTS), f"{WEIGHTS} was changed"),
    "manifest": (changed("manifest.json"), "manifest.json was changed"),
    "statement": (changed("statement.intoto.jsonl"), "statements"),
    "signature": (changed("model.sig"), "folder signature"),
    "unsigned": (removed("statement.intoto.jsonl", "model.sig"), "statement.intoto.jsonl is missing"),
    "incomplete": (removed("adapter_config.json"), "adapter_config.json is missing"),
    "added": (added("payload.py"), "payload.py was added"),
    "outside": (added("../outside"), "isn't a plain file's"),
    "absolute": (added("/outside"), "isn't a plain file's"),
    "below": (added("folder/outside"), "isn't a plain file's"),
    "twice": (added("ADAPTER_config.json"), "two of one name"),
    "link": (linked, "link was added"),
    "another key": (by_another, "isn't in the key file"),
    "another model": (signed_as(model="other"), "another base"),
    "another base": (signed_as(base="d" * 64), "another base"),
    "a name outside": (signed_as(name="../outside"), "can't be a folder's"),
    "no name": (signed_as(name=""), "can't be a folder's"),
    "a hidden name": (signed_as(name=".hidden"), "can't be a folder's"),
    "missed": (signed_as(evidence=missed()), "its verdict is targets-not-met"),
    "bomb": (compressed, "compressed"),
    "overlap": (overlapping, "overlap"),
    "crowd": (crowded, "no zip that can be unpacked"),
    "no zip": (lambda _folder, target, _key: target.write_text("PK") and None, "no zip"),
}


def test_what_does_not_hold_leaves_the_earlier_release_in_place(
    service: Service, client: Client, tmp_path: Path, key: Key, keys: Path
) -> None:
    served = tmp_path / "served"
    released(service, client, adapter_zip(tmp_path / "good.zip", key, GOOD))
    export_release(client, "tiny", served, keys)
    before = bytes_of(tmp_path / "served")
    for number, (name, (damage, said)) in enumerate(DAMAGES.items()):
        bad = tmp_path / f"{number}.zip"
        damage(signed_adapter(tmp_path / f"{number}", key, NEXT), bad, key)
        released(service, client, bad)
        with pytest.raises(UnverifiedRelease) as refused:
            export_release(client, "tiny", served, keys)
        assert said in str(refused.value), name
        assert bytes_of(served) == before, name
        assert [path.name for path in served.iterdir() if path.is_dir()] == [GOOD], name
        assert not list(tmp_path.rglob("outside")), name


def test_the_commands_end_as_verify_does(service: Service, client: Client, tmp_path: Path, key: Key) -> None:
    released(service, client, adapter_zip(tmp_path / "1.zip", key, GOOD))
    other = Key.make(tmp_path).write(tmp_path / "other.json")
    (tmp_path / "one.pem").write_bytes(key.pem)
    served = tmp_path / "served"
    for command in ("export", "pull"):
        for pinned, code, said in (
            (other, 5, "isn't in the key file"),
            (tmp_path / "one.pem", 2, "a PEM holds one"),
            (tmp_path / "nowhere", 2, "can't be read"),
        ):
            done = vgid(service, "releases", command, "tiny", served, "--keys", pinned)
            assert (done.returncode, said in done.stderr) == (code, True), done.stderr
        assert vgid(service, "releases", command, "tiny", served).returncode == 2, "without keys"
    assert not served.exists() or list(served.iterdir()) == []


def test_a_watching_pull_goes_on(service: Service, client: Client, tmp_path: Path, key: Key, keys: Path) -> None:
    served = tmp_path / "served"
    bad = adapter_zip(tmp_path / "bad.zip", Key.make(tmp_path), NEXT)
    good, later = adapter_zip(tmp_path / "1.zip", key, GOOD), adapter_zip(tmp_path / "2.zip", key, NEXT)
    told: list[VgidError | OSError] = []
    changes: list[str] = []
    here: list[list[str]] = []
    coming = iter([(bad, "d" * 64), None, (later, "e" * 64)])

    def pause() -> bool:
        here.append([path.name for path in served.iterdir() if path.is_dir()])
        if len(here) == 4:
            return False
        if (offered := next(coming)) is not None:
            released(service, client, offered[0], adapter_sha256=offered[1])
        return True

    released(service, client, good)
    pull(client, "tiny", served, keys, pause, lambda path: changes.append(path.name), told.append)
    assert here == [[GOOD], [GOOD], [GOOD], [NEXT]]
    assert [type(error) for error in told] == [UnverifiedRelease] * 2
    assert changes == [GOOD, NEXT]


def test_the_key_file_counts_as_it_is_now(
    service: Service, client: Client, tmp_path: Path, key: Key, keys: Path
) -> None:
    revoked = key.public.model_copy(update={"revoked_at": NOW + timedelta(days=1)})
    served = tmp_path / "served"
    told: list[str] = []
    texts = iter([key.file.model_copy(update={"keys": (revoked,)}).model_dump_json(), "{", None])

    def pause() -> bool:
        if (text := next(texts)) is None:
            return False
        keys.write_text(text, encoding="utf-8")
        return True

    released(service, client, adapter_zip(tmp_path / "1.zip", key, GOOD))
    pull(client, "tiny", served, keys, pause, lambda _: None, lambda error: told.append(str(error)))
    assert ["was revoked" in told[0], "this is no key file" in told[1]] == [True, True]
    assert (served / GOOD).is_dir()


def test_what_lies_there_under_the_releases_name_has_to_be_the_release(
    service: Service, client: Client, tmp_path: Path, key: Key, keys: Path
) -> None:
    released(service, client, adapter_zip(tmp_path / "1.zip", key, GOOD))
    path, new = export_release(client, "tiny", tmp_path / "served", keys)
    assert (new, export_release(client, "tiny", path.parent, keys)) == (True, (path, False))
    (path / WEIGHTS).write_bytes(b"another adapter's")
    with pytest.raises(UnverifiedRelease):
        export_release(client, "tiny", path.parent, keys)


def test_what_a_killed_call_has_left_goes_after_a_day(
    service: Service, client: Client, tmp_path: Path, key: Key, keys: Path
) -> None:
    old, running = (tmp_path / "served" / f".vgid-unfinished-{name}" for name in ("old", "running"))
    for work in (old, running):
        (work / "adapter").mkdir(parents=True)
        (work / "release.zip").touch()
    for path in (old / "release.zip", old / "adapter", old, running, running / "adapter"):
        os.utime(path, (0, 0))
    released(service, client, adapter_zip(tmp_path / "1.zip", key, GOOD))
    export_release(client, "tiny", tmp_path / "served", keys)
    assert (old.exists(), running.exists()) == (False, True)


def test_the_service_cannot_answer_for_another_model_or_without_an_end(
    service: Service, client: Client, tmp_path: Path, key: Key, keys: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    released(service, client, adapter_zip(tmp_path / "1.zip", key, GOOD))
    true = client.release("tiny")
    for lie in ({"model": "../../other"}, {"zip_bytes": 1 << 50}, {"base_digest": "d" * 64}):
        monkeypatch.setattr(client, "release", lambda _, lie=lie: true.model_copy(update=lie))
        with pytest.raises(UnverifiedRelease):
            export_release(client, "tiny", tmp_path / "served", keys)
    assert list((tmp_path / "served").iterdir()) == []


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, Path]:
    """A release's zip, and the keys to check it by."""
    folder = tmp_path_factory.mktemp("good")
    key = Key.make(folder)
    return adapter_zip(folder / "1.zip", key, GOOD).read_bytes(), key.write(folder / "keys.json")


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_no_bytes_get_past_or_outside(
    good: tuple[bytes, Path], tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    whole, keys = good
    listed = whole.rindex(b"PK\1\2") if data.draw(st.booleans()) else 0  # the list of members, or anything
    place = data.draw(st.integers(listed, len(whole) - 1))
    bad = bytearray(whole)
    bad[place : place + data.draw(st.integers(0, 4))] = data.draw(st.binary(min_size=1, max_size=8))
    home = tmp_path_factory.mktemp("bad")
    (home / "1.zip").write_bytes(bad)
    try:
        name = unpack_verified(home / "1.zip", home / "adapter", pinned_keys(keys), "tiny", BASE)
    except UnverifiedRelease:
        name = GOOD
    else:  # what no reader looks at, such as a member's time
        with zipfile.ZipFile(home / "1.zip") as found:
            assert json.loads(found.read("manifest.json"))["serving"]["name"] == GOOD
    assert name == GOOD
    assert {path.name for path in home.iterdir()} <= {"1.zip", "adapter"}


def test_a_program_that_only_sends_requests_loads_no_verifier() -> None:
    program = "import sys, vgid_client, vgid_client.commands; print('vgid_verify' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "False\n"
