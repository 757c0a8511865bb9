from __future__ import annotations

import base64
import subprocess
import tempfile
import textwrap
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relevo import keyring, signature, sshsig
from relevo.errors import SignatureError
from relevo.keyring import Signer
from tests.unit.runner.standard_tools import holds_by_ssh_keygen


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> signature.SigningKey:
    return signature.ready_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(key: signature.SigningKey) -> str:
    return signature.sign(key, b"the record\n")


def now() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=1)


def problem(key: signature.SigningKey, data: bytes, signed: str, when: datetime) -> str:
    return str(signature.Checker(signature.believed(key.path.parent)).problem(data, signed, when))


def test_a_signature_holds_for_these_bytes_only(key: signature.SigningKey, signed: str) -> None:
    assert problem(key, b"the record\n", signed, now()) == "None"
    assert "of something else" in problem(key, b"the record \n", signed, now())


def test_a_signature_from_before_the_key_was_used_does_not_hold(key: signature.SigningKey, signed: str) -> None:
    assert "is believed from" in problem(key, b"the record\n", signed, now() - timedelta(days=1))


def test_another_controllers_key_is_not_believed(signed: str, tmp_path: Path) -> None:
    assert "is not believed here" in problem(signature.ready_key(tmp_path / "other"), b"the record\n", signed, now())


def test_a_signature_for_another_purpose_does_not_hold(key: signature.SigningKey) -> None:
    approved = sshsig.sign(key.path, "dr-approval", b"the record\n")
    assert "no signature of this form and purpose" in problem(key, b"the record\n", approved, now())


def test_standard_tools_are_enough(key: signature.SigningKey, signed: str) -> None:
    assert holds_by_ssh_keygen(key.allowed_signers, b"the record\n", signed, now())


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_becomes_of_a_signature_relevo_believes_no_more_of_it_than_ssh_keygen(
    key: signature.SigningKey, data: st.DataObject
) -> None:
    """An edited signature, an edited document, another time within seconds of the bounds; and what is whole holds by both."""
    document, since = b"the record\n", datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
    bounds = Signer(signature.public(key.path), signature.stamp(since), signature.stamp(since + timedelta(seconds=3)))
    signed = signature.sign(key, document)
    edit = data.draw(st.sampled_from(["nothing", "document", "armor", "blob", "cut"]))
    if edit == "document":
        document += b"x"
    elif edit == "armor":
        at = data.draw(st.integers(0, len(signed) - 1))
        signed = signed[:at] + data.draw(st.characters(codec="ascii")) + signed[at + 1 :]
    elif edit == "blob":
        blob = bytearray(base64.b64decode("".join(signed.splitlines()[1:-1])))
        blob[data.draw(st.integers(0, len(blob) - 1))] ^= data.draw(st.integers(1, 255))
        signed = "\n".join(
            [signed.splitlines()[0], *textwrap.wrap(base64.b64encode(blob).decode(), 70), signed.splitlines()[-1], ""]
        )
    elif edit == "cut":
        signed = signed[: data.draw(st.integers(0, len(signed) - 1))]
    when = since + timedelta(seconds=data.draw(st.integers(-2, 6)))
    ours = signature.Checker([bounds]).problem(document, signed, when) is None
    with tempfile.TemporaryDirectory() as directory:
        keys = Path(directory) / "keys"
        keys.write_text(keyring.text([bounds]))
        theirs = holds_by_ssh_keygen(keys, document, signed, when)
    assert theirs or not ours
    assert ours or edit != "nothing" or not theirs


def test_two_first_runs_at_once_make_one_key(tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        keys = list(pool.map(signature.ready_key, [tmp_path / "keys"] * 4))
    assert len({key.fingerprint for key in keys}) == 1
    assert (tmp_path / "keys" / "controller").stat().st_mode & 0o777 == 0o600
    assert len((tmp_path / "keys" / "allowed_signers").read_text().splitlines()) == 1


def test_a_machine_without_ssh_keygen_is_told_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(SignatureError, match="openssh-client"):
        signature.ready_key(tmp_path / "keys")


@settings(max_examples=5, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.binary(max_size=300))
def test_our_signatures_are_those_of_ssh_keygen_byte_for_byte(key: signature.SigningKey, data: bytes) -> None:
    """Ed25519 signs the same bytes the same way, so nothing is left to belief."""
    assert signature.sign(key, data) == signature.sign_as(key.path, signature.NAMESPACE, data)


def test_a_key_that_cannot_sign_is_named(tmp_path: Path) -> None:
    other = tmp_path / "key"
    with pytest.raises(SignatureError, match="cannot be read: No such file"):
        sshsig.sign(other, "x", b"")
    subprocess.run(["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", other], check=True)
    with pytest.raises(SignatureError, match="another kind"):
        sshsig.sign(other, "x", b"")
