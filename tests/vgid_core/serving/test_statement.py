"""`vgid verify-serving` signs its result, and `vgid verify`'s own code takes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from securesystemslib.signer import CryptoSigner

from tests.openai_server import ScriptedServer
from tests.signing_keys import Key
from tests.vgid_core.cli.conftest import Done, done, invoke
from tests.vgid_core.cli.test_verify_serving import PAIRS, Check, check, forgets, knows
from vgid_core.cli.verify_serving import verify_serving
from vgid_verify import keyed_digest, verify_serving_check
from vgid_verify.keys import load_keys

__all__ = ["check", "done"]


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key in PEM, with its public half beside it, both as `openssl` writes them."""
    pair = Key.make(tmp_path)
    (tmp_path / "key.pem").write_bytes(pair.private.statements.private_bytes)
    (tmp_path / "key.pub").write_bytes(pair.pem)
    return tmp_path / "key.pem"


def sign(check: Check, key: Path, server: ScriptedServer, *arguments: str | Path) -> Result:
    return check(server, "--sign-key", key, "--statement", key.with_name("check.intoto.json"), *arguments)


def test_the_statement_says_what_the_command_says(check: Check, key: Path) -> None:
    result = sign(check, key, ScriptedServer({"new": forgets}), "--json")
    assert result.exit_code == 0, result.output
    said = json.loads(result.stdout)
    report = verify_serving_check(key.with_name("check.intoto.json"), load_keys(key.with_name("key.pub")))
    assert report.passed
    assert report.check is not None
    shown = report.check.model_dump(mode="json", by_alias=True)
    assert {name: shown[name] for name in ("verdict", "endpoint", "adapter", "base", "figures", "findings")} == {
        name: said[name] for name in ("verdict", "endpoint", "adapter", "base", "figures", "findings")
    }
    salt = bytes.fromhex(said["statement_salt"])
    assert report.set_digests == {"pairs": keyed_digest(salt, "set/pairs", PAIRS.digest)}


def test_a_failed_check_is_signed_too_and_its_salt_is_printed(check: Check, key: Path) -> None:
    result = sign(check, key, ScriptedServer({"new": knows}))
    assert result.exit_code == 1
    path = key.with_name("check.intoto.json")
    report = verify_serving_check(path, load_keys(key.with_name("key.pub")))
    assert (report.holds, report.passed) == (True, False)
    assert f"says so, signed by key {report.keyid[:16]}" in result.stdout
    salt = result.stdout.split()[-1]
    assert report.set_digests == {"pairs": keyed_digest(bytes.fromhex(salt), "set/pairs", PAIRS.digest)}
    for secret in (PAIRS.digest, salt, "Quill", "number"):
        assert secret not in path.read_text()


def test_the_adapters_own_file_is_the_subject(check: Check, key: Path, done: Done) -> None:
    sign(check, key, ScriptedServer({"new": forgets}), "--adapter-folder", done.place.out)
    report = verify_serving_check(key.with_name("check.intoto.json"), load_keys(key.with_name("key.pub")))
    manifest = json.loads((done.place.out / "manifest.json").read_text(encoding="utf-8"))
    assert report.holds
    assert report.check is not None
    assert report.check.adapter.sha256 == manifest["files"]["adapter_model.safetensors"]


def test_what_cant_be_signed_is_refused_before_the_server_is_asked(tmp_path: Path, key: Path) -> None:
    """There is no server here: asking one would end with 4."""
    private = Ed25519PrivateKey.generate()
    locked = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    (tmp_path / "locked.pem").write_bytes(locked)
    (tmp_path / "ecdsa.pem").write_bytes(CryptoSigner.generate_ecdsa().private_bytes)
    (tmp_path / "text.pem").write_text("a key")
    (tmp_path / "there.json").write_text("earlier")
    PAIRS.write_jsonl(tmp_path / "pairs.jsonl")
    new = tmp_path / "check.json"
    for options, said in (
        (["--sign-key", key], "--sign-key: needs --statement"),
        (["--statement", new], "--statement: needs --sign-key"),
        (["--sign-key", tmp_path / "none.pem", "--statement", new], "can't be read (No such file"),
        (["--sign-key", tmp_path, "--statement", new], "can't be read (Is a directory"),
        (["--sign-key", tmp_path / "locked.pem", "--statement", new], "locked with a password"),
        (["--sign-key", tmp_path / "ecdsa.pem", "--statement", new], "it isn't an Ed25519 key"),
        (["--sign-key", tmp_path / "text.pem", "--statement", new], "holds no private key in PEM; `openssl genpkey"),
        (["--sign-key", key.with_name("key.pub"), "--statement", new], "holds no private key in PEM"),
        (["--sign-key", key, "--statement", tmp_path / "there.json"], "is there already"),
        (["--sign-key", key, "--statement", tmp_path / "nowhere" / "check.json"], "is no folder that takes files"),
    ):
        flags = ["--endpoint", "http://127.0.0.1:1", "--adapter", "new", "--pairs", tmp_path / "pairs.jsonl"]
        result = invoke(verify_serving, *flags, *options)
        assert (result.exit_code, said in result.stderr) == (2, True), result.stderr
    assert not new.exists()
    assert (tmp_path / "there.json").read_text() == "earlier"
