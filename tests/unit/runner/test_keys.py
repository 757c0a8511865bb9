"""Keys are replaced and controllers join, and what was signed before still holds; the head is kept elsewhere."""

from __future__ import annotations

import json
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from typer.testing import CliRunner

from relevo import anchor, audit, keyring, schema, signature
from relevo.cli import commands
from relevo.errors import AnchorError, UsageError
from relevo.keyring import Signer
from relevo.paths import Place
from relevo.store import Store
from tests.unit.runner.evidence import add, place_at, record
from tests.unit.runner.standard_tools import holds_by_ssh_keygen
from tests.unit.runner.streams import STREAMS, record_of


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    monkeypatch.setenv("RELEVO_STORE", str(tmp_path / "state"))
    return place_at(tmp_path / "state")


def relevo(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(commands, words)
    return done.exit_code, done.output


def findings(place: Place, *own: Signer) -> list[str]:
    judgement = audit.judge(audit.material(Store(place), []), own or signature.believed(place.keys))
    return [f"{finding.about}: {finding.problem}" for finding in judgement.findings]


def test_after_a_rotation_old_and_new_signatures_hold(place: Place, tmp_path: Path) -> None:
    add(place, 1)
    before = signature.ready_key(place.keys)
    of_before = signature.believed(place.keys)
    code, said = relevo("keys", "rotate", "--json")
    assert code == 0, said
    after = signature.ready_key(place.keys)
    assert (json.loads(said)["old"], json.loads(said)["new"]) == (before.fingerprint, after.fingerprint)
    add(place, 2)
    assert findings(place) == []
    # Who knew the old key only believes the new one, because the old one vouches for it.
    assert findings(place, *of_before) == []
    ends = {signer.fingerprint: signer.until for signer in signature.believed(place.keys)}
    assert ends[before.fingerprint] is not None and ends[after.fingerprint] is None
    assert relevo("results", "export", "--out", str(tmp_path / "bundle"))[0] == 0
    done = subprocess.run(["sh", tmp_path / "bundle" / "verify.sh"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_hosts_keep_believing_the_key_that_they_know(place: Place) -> None:
    """A change of keys never keeps a failover waiting for the next protect run."""
    signature.ready_key(place.keys)
    hosts = (place.keys / "controller.pub").read_bytes()
    signature.switch(place.keys, datetime.now(UTC))
    assert signature.ready_key(place.keys).path != place.keys / "controller"
    assert (place.keys / "controller.pub").read_bytes() == hosts
    assert (place.keys / "controller").exists()


def test_a_key_that_is_out_of_use_signs_nothing_any_more(place: Place) -> None:
    old = signature.ready_key(place.keys)
    now = datetime.now(UTC)
    signature.switch(place.keys, now)
    signed = signature.sign(old, b"x")
    assert "is believed from" in str(
        signature.Checker(signature.believed(place.keys)).problem(b"x", signed, now + timedelta(hours=1))
    )
    signature.switch(place.keys, now - timedelta(hours=1))
    assert holds_by_ssh_keygen(place.keys / "allowed_signers", b"x", signed, now), "a clock that was set back spoils no key file"
    # Of the keys that rotations made only the newest private one is left.
    assert len([path for path in place.keys.glob("evidence-*") if path.suffix != ".pub"]) == 1


def test_a_rotation_that_was_killed_is_done_again_and_ends_what_it_began(place: Place) -> None:
    signature.ready_key(place.keys)
    began = signature.next_key(place.keys)
    # Killed between the new key and the end of the old one.
    signature.believe(place.keys, Signer(began.key, since="20200101000000Z"))
    (place.keys / "evidence.next").rename(place.keys / "evidence")
    assert signature.ready_key(place.keys).fingerprint == began.fingerprint
    new = signature.switch(place.keys, datetime.now(UTC))
    ends = {signer.fingerprint: signer.until for signer in signature.believed(place.keys)}
    assert [name for name, until in ends.items() if until is None] == [new.fingerprint]
    assert len(ends) == 3


def test_another_controller_is_believed_once_somebody_said_so(place: Place, tmp_path: Path) -> None:
    other = Place(tmp_path / "other", place.store_url)
    add(place, 1)
    add(other, 2)
    key = signature.ready_key(other.keys)
    said = "\n".join(findings(place))
    assert "entry 3: forged or edited" in said and f"relevo keys trust {key.fingerprint}" in said
    assert "run2: its signature does not hold" in said
    code, listed = relevo("keys", "list", "--json")
    assert code == 0
    assert [row["believed"] for row in json.loads(listed) if row["key"] == key.fingerprint] == [False]
    assert relevo("keys", "trust", "SHA256:nobody")[0] == 4
    assert relevo("keys", "trust", key.fingerprint)[0] == 0
    assert findings(place) == []
    # Who believes this controller believes whom it vouches for.
    own = [signer for signer in signature.believed(place.keys) if signer.fingerprint != key.fingerprint]
    assert findings(place, *own) == []
    assert findings(other) != [], "the other one has not been told about this one"


def test_a_head_in_a_directory_finds_a_cut_tail(place: Place, tmp_path: Path) -> None:
    add(place, 1)
    earlier = tmp_path / "earlier.db"
    shutil.copy(place.state / "relevo.db", earlier)
    add(place, 2)
    kept = tmp_path / "kept"
    assert relevo("results", "verify", "--anchor", str(kept))[0] == 1, "nothing was anchored yet"
    code, said = relevo("results", "anchor", "--anchor", str(kept))
    assert (code, "3 entries, 2 records and 0 statements" in said) == (0, True), said
    assert relevo("results", "verify", "--anchor", str(kept))[0] == 0
    shutil.copy(earlier, place.state / "relevo.db")
    shutil.rmtree(place.state / "heads")
    code, said = relevo("results", "verify", "--anchor", f"file://{kept}")
    assert (code, "cut off" in said) == (1, True), said


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ("s3://user:secret@bucket", "secrets only as files"),
        ("https://bucket", "secrets only as files"),
        ("s3://bucket?endpoint=http://store", "expected https"),
        ("s3://bucket?secret=x", "not understood: secret"),
        ("s3://bucket?days=many", "days or mode"),
        ("s3://bucket?mode=NONE", "days or mode"),
    ],
)
def test_an_anchor_that_means_nothing_is_refused(words: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        anchor.find(words)


def test_a_bucket_that_cannot_be_reached_is_named() -> None:
    with pytest.raises(AnchorError, match="s3://bucket/"):
        anchor.find("s3://bucket?endpoint=https://127.0.0.1:9").newest()


@pytest.mark.usefixtures("place")
def test_commands_on_an_empty_store(tmp_path: Path) -> None:
    assert relevo("results", "verify")[0] == 0
    assert relevo("results", "export", "-o", str(tmp_path / "x"))[0] == 1
    assert not (tmp_path / "x").exists()
    assert relevo("results", "anchor", "--anchor", str(tmp_path / "y"))[0] == 1
    assert relevo("results", "anchor")[0] == 4


def test_verify_says_what_it_looked_at(place: Place) -> None:
    add(place, 1)
    add(place, 2)
    code, said = relevo("results", "verify")
    assert (code, "2 of 2 records verify" in said, "No anchor was asked" in said) == (0, True, True), said
    code, said = relevo("results", "verify", "run1", "--json")
    assert (code, json.loads(said)["records"], json.loads(said)["entries"]) == (0, 1, 3)
    code, said = relevo("results", "list", "--limit", "1")
    assert "run2" in said


earlier = st.none() | st.integers(2020, 2024).map(lambda year: f"{year}0101000000Z")
later = st.none() | st.integers(2025, 2030).map(lambda year: f"{year}0101000000Z")
signers = st.builds(Signer, st.integers(0, 2).map(lambda number: f"ssh-ed25519 AAAAC3Nza{number}aaa"), earlier, later)


@given(st.lists(signers, max_size=6))
def test_keys_that_were_merged_are_believed_no_longer_than_anybody_said(given_signers: list[Signer]) -> None:
    merged = keyring.merged(given_signers)
    assert keyring.read(keyring.text(merged)) == merged
    assert len({signer.key for signer in merged}) == len(merged)
    for signer in given_signers:
        (one,) = (found for found in merged if found.key == signer.key)
        assert (one.since or "") >= (signer.since or "")
        assert signer.until is None or (one.until is not None and one.until <= signer.until)


def test_the_schema_that_is_shipped_is_the_models() -> None:
    assert schema.shipped() == schema.written(schema.build()), "write it anew: see relevo.schema"
    code, said = relevo("results", "schema")
    assert (code, json.loads(said)) == (0, schema.build())


@pytest.mark.parametrize("stream", sorted(path.stem for path in STREAMS.glob("*.jsonl")))
def test_every_record_is_what_the_schema_says(stream: str) -> None:
    validator = Draft202012Validator(json.loads(schema.shipped()))
    validator.check_schema(validator.schema)
    document = record_of(stream).document()
    assert [error.message for error in validator.iter_errors(document)] == []
    for broken in ({**document, "verdict": "fine"}, {**document, "schema": "dr-test/2"}, {**document, "phases": {}}):
        assert not validator.is_valid(broken)
    del document["operator"]
    assert not validator.is_valid(document)
    assert validator.is_valid(record(1).document())
