"""Encryption: a job's key opens that job's inputs and nothing else."""

from __future__ import annotations

from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jobs.storage.crypto import DecryptionError, Keyring, decrypt, encrypt
from jobs.storage.inputs import JobInputs, open_sealed, seal
from vgid_core.data.pairs import EncodedImage, Pair, PairSet

KEYRING = Keyring(bytes(range(32)))
KEY = bytes(reversed(range(32)))

pairs = st.builds(
    Pair,
    image=st.builds(EncodedImage, st.sampled_from([b"", b"one", b"two" * 50])),
    question=st.text(min_size=1).filter(str.strip),
    answer=st.text(min_size=1).filter(str.strip),
)


def sets(name: str) -> st.SearchStrategy[PairSet]:
    return st.lists(pairs, min_size=1, max_size=6).map(lambda items: PairSet.of(name, items))


@given(
    st.builds(
        JobInputs,
        forget=sets("forget"),
        retain=st.none() | sets("retain"),
        probes=st.fixed_dictionaries({}, optional={"held_out": sets("held_out"), "rephrased": sets("rephrased")}),
    )
)
def test_inputs_come_back_as_they_were(inputs: JobInputs) -> None:
    assert open_sealed(seal(inputs, KEY), KEY) == inputs


def test_an_image_is_stored_once() -> None:
    image = EncodedImage(bytes(range(256)) * 4000)
    inputs = JobInputs(PairSet.of("forget", [Pair(image, f"question {i}?", "answer") for i in range(5)]))
    assert len(seal(inputs, KEY)) < 1.01 * len(image.data)


def test_sealed_inputs_show_nothing() -> None:
    inputs = JobInputs(PairSet.of("forget", [Pair(EncodedImage(b"portrait"), "Who is this?", "Ada Lovelace")]))
    sealed = seal(inputs, KEY)
    assert not any(part in sealed for part in (b"portrait", b"Who is", b"Ada"))
    assert sealed != seal(inputs, KEY)
    assert "Ada" not in repr(inputs)


@given(st.binary(), st.integers(min_value=0), st.integers(min_value=0, max_value=7))
def test_altered_bytes_are_noticed(plain: bytes, position: int, bit: int) -> None:
    sealed = bytearray(encrypt(KEY, plain))
    sealed[position % len(sealed)] ^= 1 << bit
    with pytest.raises(DecryptionError):
        decrypt(KEY, bytes(sealed))


@given(st.binary(max_size=30))
def test_random_bytes_are_noticed(garbage: bytes) -> None:
    with pytest.raises(DecryptionError):
        decrypt(KEY, garbage)


def test_a_wrapped_key_belongs_to_one_job_and_one_installation() -> None:
    job_id = uuid4()
    key, wrapped = KEYRING.new_data_key(job_id)
    assert KEYRING.unwrap(wrapped, job_id) == key
    assert key not in wrapped
    with pytest.raises(DecryptionError):
        KEYRING.unwrap(wrapped, uuid4())
    with pytest.raises(DecryptionError):
        Keyring(bytes(32)).unwrap(wrapped, job_id)


def test_keyed_hashes_depend_on_key_purpose_and_value() -> None:
    hashes = {
        KEYRING.keyed_hash("subject", "ada"),
        KEYRING.keyed_hash("subject", "bob"),
        KEYRING.keyed_hash("request", "ada"),
        KEYRING.keyed_hash("subjecta", "da"),
        Keyring(bytes(32)).keyed_hash("subject", "ada"),
    }
    assert len(hashes) == 5
    assert KEYRING.keyed_hash("subject", "ada") == KEYRING.keyed_hash("subject", b"ada")
    assert all(len(value) == 64 for value in hashes)
