"""Signatures of records by `ssh-keygen -Y`, so that anybody can check them with what is already installed."""

from __future__ import annotations

import fcntl
import os
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from relevo.errors import SignatureError
from relevo.paths import make_private_directory

if TYPE_CHECKING:
    from pathlib import Path

PRINCIPAL = "relevo-controller"
NAMESPACE = "dr-test"
_TIMEOUT_SECONDS = 20


@dataclass(frozen=True)
class SigningKey:
    """This controller's Ed25519 key. fingerprint: as `ssh-keygen -l` prints it."""

    path: Path
    fingerprint: str

    @property
    def allowed_signers(self) -> Path:
        """The keys whose signatures this controller believes, each with the dates between which it was used."""
        return self.path.with_name("allowed_signers")

    def signer(self) -> dict[str, Any]:
        """What a record says about its signature, which lies beside it."""
        return {"principal": PRINCIPAL, "namespace": NAMESPACE, "algorithm": "ssh-ed25519", "key": self.fingerprint}


def ready_key(directory: Path) -> SigningKey:
    """The key `controller` in a directory, made at first use. SignatureError when it cannot be made or read."""
    make_private_directory(directory)
    path = directory / "controller"
    try:
        # Two first runs at once must end up with one key.
        with (directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                _make(path)
            if not path.with_name("allowed_signers").exists():
                _allow(path)
    except OSError as error:
        message = f"The signing key in {directory} cannot be made: {error.strerror}."
        raise SignatureError(message) from error
    return SigningKey(path, _keygen("-l", "-f", f"{path}.pub").split()[1])


def _make(path: Path) -> None:
    draft = path.with_name(f".draft-{os.getpid()}")
    _keygen("-q", "-t", "ed25519", "-N", "", "-C", PRINCIPAL, "-f", str(draft))
    draft.with_name(f"{draft.name}.pub").rename(f"{path}.pub")
    draft.rename(path)


def _allow(path: Path) -> None:
    kind, blob = path.with_name(f"{path.name}.pub").read_text(encoding="ascii").split()[:2]
    since = f"{datetime.now(UTC):%Y%m%d%H%M%SZ}"
    line = f'{PRINCIPAL} namespaces="{NAMESPACE}",valid-after="{since}" {kind} {blob}\n'
    path.with_name("allowed_signers").write_text(line, encoding="ascii")


def sign(key: SigningKey, data: bytes) -> str:
    """The detached, armored signature of some bytes. SignatureError with ssh-keygen's own words."""
    return sign_as(key.path, NAMESPACE, data)


def sign_as(key: Path, namespace: str, data: bytes) -> str:
    """The same with a person's own key, which may lie in an agent or ask for its passphrase."""
    return _keygen("-Y", "sign", "-q", "-n", namespace, "-f", str(key), data=data)


def verify(allowed_signers: Path, data: bytes, signature: Path, when: datetime) -> None:
    """Check a detached signature as of a time. SignatureError says what does not hold."""
    moment = f"{when.astimezone(UTC):%Y%m%d%H%M%SZ}"
    arguments = ("-f", str(allowed_signers), "-I", PRINCIPAL, "-n", NAMESPACE, "-s", str(signature))
    _keygen("-Y", "verify", "-q", f"-Overify-time={moment}", *arguments, data=data)


def _keygen(*arguments: str, data: bytes = b"") -> str:
    command = ["ssh-keygen", *arguments]
    try:
        done = subprocess.run(command, input=data, capture_output=True, timeout=_TIMEOUT_SECONDS, check=False)
    except FileNotFoundError as error:
        message = "ssh-keygen is missing: install the OpenSSH client (Debian: apt-get install openssh-client)."
        raise SignatureError(message) from error
    except subprocess.TimeoutExpired as error:
        message = f"ssh-keygen did not answer within {_TIMEOUT_SECONDS} s."
        raise SignatureError(message) from error
    if done.returncode != 0:
        said = (done.stderr or done.stdout).decode(errors="replace").strip().replace("\n", " ")
        message = f"ssh-keygen {' '.join(arguments[:2])} failed: {said or 'no reason given'}."
        raise SignatureError(message)
    return done.stdout.decode()
