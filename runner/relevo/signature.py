"""Signatures of records in the form of `ssh-keygen -Y`, so that anybody can check them with what is already installed."""

from __future__ import annotations

import fcntl
import os
import secrets
import subprocess
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo import keyring, sshsig
from relevo.errors import SignatureError
from relevo.keyring import NAMESPACE, PRINCIPAL, Signer
from relevo.paths import make_private_directory

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# What hosts believe before they promote. It signs records too until the first rotation, which leaves it alone:
# hosts learn of a key only by the next protect run, and no change of keys may keep a failover waiting for one.
CONTROLLER = "controller"
# The environment variable with the path of the controller's key, where its state does not outlive a run.
GIVEN_KEY = "RELEVO_CONTROLLER_KEY"
EVIDENCE, NEXT = "evidence", "evidence.next"
SIGNERS = "allowed_signers"
_TIMEOUT_SECONDS = 20
# What is being signed while the keys change holds by either.
_OVERLAP = timedelta(minutes=1)


@dataclass(frozen=True)
class SigningKey:
    """The Ed25519 key with which this controller signs what happened. fingerprint: as `ssh-keygen -l` prints it."""

    path: Path
    fingerprint: str

    @property
    def allowed_signers(self) -> Path:
        """The keys whose signatures this controller believes, each with the dates between which it was used."""
        return self.path.with_name(SIGNERS)

    def signer(self) -> dict[str, Any]:
        """What a record says about its signature, which lies beside it."""
        return {"principal": PRINCIPAL, "namespace": NAMESPACE, "algorithm": "ssh-ed25519", "key": self.fingerprint}


def ready_key(directory: Path) -> SigningKey:
    """The key that signs records, given or made at first use. SignatureError when it cannot be made or read."""
    given = os.environ.get(GIVEN_KEY)
    with _alone(directory):
        controller, evidence = directory / CONTROLLER, directory / EVIDENCE
        if given:
            _adopt(Path(given), controller)
        elif not controller.exists():
            _make(controller)
        path = evidence.resolve() if evidence.exists() else controller
        if not (directory / SIGNERS).exists():
            # Since when a given key is used is not known here, and a fresh state must believe what it signed before.
            since = None if given else stamp(datetime.now(UTC))
            _write(directory / SIGNERS, keyring.text([Signer(public(path), since=since)]))
        return SigningKey(path, Signer(public(path)).fingerprint)


def believed(directory: Path) -> tuple[Signer, ...]:
    """The keys that this controller believes by its own file. SignatureError when that cannot be read."""
    path = ready_key(directory).allowed_signers
    try:
        return keyring.read(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        message = f"The keys that this controller believes cannot be read from {path}: {error}."
        raise SignatureError(message) from error


def believe(directory: Path, signer: Signer) -> None:
    """Add a key to those that this controller believes."""
    known = believed(directory)
    with _alone(directory):
        _write(directory / SIGNERS, keyring.text(keyring.merged([*known, signer])))


def next_key(directory: Path) -> Signer:
    """The key that the next rotation will put in place; nothing signs with it yet."""
    with _alone(directory):
        following = directory / NEXT
        if not following.exists():
            path = directory / f"{EVIDENCE}-{secrets.token_hex(4)}"
            _make(path)
            following.unlink(missing_ok=True)
            following.symlink_to(path.name)
        return Signer(public(following.resolve()))


def switch(directory: Path, when: datetime) -> SigningKey:
    """Put the next key in place as of a time; every other key of this controller's own ends there. Whoever is killed here rotates again."""
    known, new = believed(directory), Signer(next_key(directory).key, since=stamp(when - _OVERLAP))
    with _alone(directory):
        # Believed before it signs; the old keys end only when nothing signs with them any more.
        _write(directory / SIGNERS, keyring.text(keyring.merged([*known, new])))
        (directory / NEXT).rename(directory / EVIDENCE)
        own = {public(path.with_suffix("")) for path in directory.glob("*.pub")} - {new.key}
        ended = [Signer(signer.key, until=stamp(when + _OVERLAP)) for signer in known if signer.key in own]
        _write(directory / SIGNERS, keyring.text(keyring.merged([*known, new, *ended])))
        current = (directory / EVIDENCE).resolve()
        for path in directory.glob(f"{EVIDENCE}-????????"):
            if path != current:
                path.unlink()  # its public half stays: it says which keys were ours
    return ready_key(directory)


def public(path: Path) -> str:
    """The public half of a key, without its comment."""
    try:
        return " ".join(_public_file(path).read_text(encoding="ascii").split()[:2])
    except OSError as error:
        message = f"The public key {_public_file(path)} cannot be read: {error.strerror}."
        raise SignatureError(message) from error


def stamp(when: datetime) -> str:
    """A time as allowed_signers and `-Overify-time` want it."""
    return f"{when.astimezone(UTC):%Y%m%d%H%M%SZ}"


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Two first runs at once must end up with one key."""
    make_private_directory(directory)
    try:
        with (directory / ".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        message = f"The signing key in {directory} cannot be made or changed: {error.strerror}."
        raise SignatureError(message) from error


def _make(path: Path) -> None:
    draft = path.with_name(f".draft-{os.getpid()}")
    for left in (draft, _public_file(draft)):
        left.unlink(missing_ok=True)
    _keygen("-q", "-t", "ed25519", "-N", "", "-C", PRINCIPAL, "-f", str(draft))
    _public_file(draft).rename(_public_file(path))
    draft.rename(path)


def _adopt(given: Path, controller: Path) -> None:
    """Make a given key the controller's own; SignatureError when there is another one already, or when it is no key."""
    try:
        text = f"{given.read_text(encoding='ascii').strip()}\n"
    except (OSError, UnicodeDecodeError) as error:
        message = f"The key that {GIVEN_KEY} names cannot be read from {given}: {error}."
        raise SignatureError(message) from error
    if controller.exists():
        if controller.read_text(encoding="ascii") == text:
            return
        message = f"{GIVEN_KEY} names another key than {controller}: unset it, or give this controller a state of its own."
        raise SignatureError(message)
    draft = controller.with_name(f".draft-{os.getpid()}")
    try:
        draft.touch(mode=0o600)
        draft.write_text(text, encoding="ascii")
        _public_file(controller).write_text(_keygen("-y", "-P", "", "-f", str(draft)), encoding="ascii")
        draft.rename(controller)
    finally:
        draft.unlink(missing_ok=True)


def _public_file(path: Path) -> Path:
    return path.with_name(f"{path.name}.pub")


def _write(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    with draft.open("w", encoding="ascii") as target:
        target.write(text)
        target.flush()
        os.fsync(target.fileno())
    draft.rename(path)


def sign(key: SigningKey, data: bytes) -> str:
    """The detached, armored signature of some bytes, by this controller."""
    return sshsig.sign(key.path, NAMESPACE, data)


def sign_as(key: Path, namespace: str, data: bytes) -> str:
    """The same by `ssh-keygen` with a person's own key, which may lie in an agent or ask for its passphrase."""
    return _keygen("-Y", "sign", "-q", "-n", namespace, "-f", str(key), data=data)


class Checker:
    """Checks signatures by a set of keys, each believed between its dates only; as `ssh-keygen -Y verify` does, which a test compares."""

    def __init__(self, signers: Iterable[Signer]) -> None:
        self._signers = {signer.key: signer for signer in keyring.merged(signers)}

    def problem(self, data: bytes, armored: str, when: datetime) -> str | None:
        """Why a signature does not hold as of a time; None when it does."""
        try:
            key = sshsig.signer(armored, NAMESPACE, data)
        except SignatureError as error:
            return str(error)
        signer = self._signers.get(key)
        if signer is None:
            return f"The key {Signer(key).fingerprint} is not believed here."
        moment = stamp(when)
        if (signer.since or moment) <= moment <= (signer.until or moment):
            return None
        return f"The key {signer.fingerprint} is believed from {signer.since or 'the beginning'} until {signer.until or 'now'}, not at {moment}."


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
