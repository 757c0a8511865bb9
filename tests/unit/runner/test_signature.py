from __future__ import annotations

import subprocess
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relevo import signature, sshsig
from relevo.errors import SignatureError


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> signature.SigningKey:
    return signature.ready_key(tmp_path_factory.mktemp("keys"))


@pytest.fixture
def signed(key: signature.SigningKey, tmp_path: Path) -> Path:
    path = tmp_path / "x.sig"
    path.write_text(signature.sign(key, b"the record\n"))
    return path


def now() -> datetime:
    return datetime.now(UTC) + timedelta(seconds=1)


def test_a_signature_holds_for_these_bytes_only(key: signature.SigningKey, signed: Path) -> None:
    signature.verify(key.allowed_signers, b"the record\n", signed, now())
    with pytest.raises(SignatureError, match="ssh-keygen -Y verify failed"):
        signature.verify(key.allowed_signers, b"the record \n", signed, now())


def test_a_signature_from_before_the_key_was_used_does_not_hold(key: signature.SigningKey, signed: Path) -> None:
    with pytest.raises(SignatureError):
        signature.verify(key.allowed_signers, b"the record\n", signed, now() - timedelta(days=1))


def test_another_controllers_key_is_not_believed(signed: Path, tmp_path: Path) -> None:
    other = signature.ready_key(tmp_path / "other")
    with pytest.raises(SignatureError):
        signature.verify(other.allowed_signers, b"the record\n", signed, now())


def test_standard_tools_are_enough(key: signature.SigningKey, signed: Path) -> None:
    command = ["ssh-keygen", "-Y", "verify", "-f", key.allowed_signers, "-I", "relevo-controller", "-n", "dr-test", "-s", signed]
    done = subprocess.run(command, input=b"the record\n", capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


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
