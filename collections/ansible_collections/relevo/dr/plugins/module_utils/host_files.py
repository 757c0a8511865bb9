# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Relevo's own files on a host: the run lock, the actor's flock, the phase journal and the fence mark."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import platform
import tempfile
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock

STATE_DIRECTORY = "/var/lib/relevo"


class LockError(Exception):
    """The lock of this cluster is held by somebody else, or is no longer ours; the message is a sentence."""


@dataclass(frozen=True)
class Lock:
    """Who may act on this cluster. The lease is in seconds of this host's CLOCK_BOOTTIME, valid within one boot.

    began_at: when the first of the runs took it that this one goes on for, UTC; empty when this run is the first.
    controller_pid_namespace: where controller_pid is a number of a process; empty when it is not known.
    """

    run_id: str
    owner: str
    controller: str
    controller_boot_id: str
    controller_pid: int
    controller_pid_started: str
    since: str
    lease_until_boottime: float
    boot_id: str
    began_at: str = ""
    controller_pid_namespace: str = ""

    def expired(self, boottime: float, boot_id: str) -> bool:
        """Whether the lease has run out; a lease of an earlier boot has."""
        return boot_id != self.boot_id or boottime > self.lease_until_boottime


def _path(name: str) -> str:
    return os.path.join(STATE_DIRECTORY, name)


def write_atomically(
    path: str, content: str, mode: int = 0o600, owner: Optional[tuple[int, int]] = None, *, durable: bool = True
) -> None:
    """Replace a file as a whole, on disk before it is visible. owner: user and group that it then has; else this process's.

    durable: False for what is worth nothing after a crash of this machine.
    """
    with _written_aside(path, content, mode, owner, durable=durable) as temporary:
        os.replace(temporary, path)
    if durable:
        sync_directory(os.path.dirname(path))


@contextlib.contextmanager
def _written_aside(
    path: str, content: str, mode: int, owner: Optional[tuple[int, int]] = None, *, durable: bool = True
) -> Iterator[str]:
    """The content on disk under another name in the same directory, which is gone afterwards."""
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".relevo-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as target:
            if owner is not None:
                os.fchown(target.fileno(), *owner)
            os.fchmod(target.fileno(), mode)
            target.write(content)
            target.flush()
            if durable:
                os.fsync(target.fileno())
        yield temporary
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def sync_directory(directory: str) -> None:
    """Make names in a directory durable."""
    descriptor = os.open(directory, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _read_json(name: str) -> Optional[dict[str, Any]]:
    try:
        with open(_path(name), encoding="utf-8") as source:
            value: dict[str, Any] = json.load(source)
            return value
    except (OSError, ValueError):
        return None


def read_lock() -> Optional[Lock]:
    """The lock as it is on disk, or None; see also :func:`lock_unreadable`."""
    return _look_at_lock()[0]


def lock_unreadable() -> bool:
    """Whether there is a lock file that says nothing: damaged, or made by hand. It is held, by nobody knows whom."""
    return _look_at_lock()[1]


def _look_at_lock() -> tuple[Optional[Lock], bool]:
    """The lock, and whether there is one that cannot be read. Fields of another version of Relevo are left out."""
    try:
        with open(_path("lock.json"), encoding="utf-8") as source:
            value = json.load(source)
        return Lock(**{name: value[name] for name in Lock.__dataclass_fields__ if name in value}), False
    except FileNotFoundError:
        return None, False
    except (OSError, ValueError, TypeError):
        return None, True


def acquire_lock(wanted: Lock) -> None:
    """Make the lock file, whole or not at all; LockError when there is one of another run."""
    path = _path("lock.json")
    with _written_aside(path, json.dumps(asdict(wanted)), 0o600) as temporary:
        try:
            # Unlike a rename, a link fails when the name is taken; unlike O_EXCL, it never shows a file that is still empty.
            os.link(temporary, path)
        except FileExistsError:
            held = read_lock()
            if held is None or held.run_id != wanted.run_id:
                raise LockError(describe(held)) from None
            extend_lock(wanted.run_id, wanted.lease_until_boottime - clock.boottime_seconds())
            return
    sync_directory(STATE_DIRECTORY)


def remove_lock(run_id: str) -> bool:
    """Remove the lock of this run; anybody else's stays. True when there was one."""
    held = read_lock()
    if held is None or held.run_id != run_id:
        return False
    os.unlink(_path("lock.json"))
    sync_directory(STATE_DIRECTORY)
    return True


def describe(lock: Optional[Lock]) -> str:
    """Who holds the lock, for a person."""
    if lock is None:
        return (
            "the lock file %s on %s is there but cannot be read. Next: make sure that no run is at work (relevo status), then remove that file on that host"
            % (_path("lock.json"), platform.node())
        )
    return "the cluster is locked by run %s of %s on %s since %s" % (lock.run_id, lock.owner, lock.controller, lock.since)


def extend_lock(run_id: str, seconds: float) -> None:
    """Prove that this run still holds the lock and give it that many seconds from now; LockError otherwise."""
    held = read_lock()
    if held is None or held.run_id != run_id:
        raise LockError(
            "this run no longer holds the lock: %s" % (describe(held) if held or lock_unreadable() else "there is no lock")
        )
    extended = asdict(held)
    extended.update(lease_until_boottime=clock.boottime_seconds() + seconds, boot_id=clock.boot_id())
    write_atomically(_path("lock.json"), json.dumps(extended))


@contextlib.contextmanager
def acting(run_id: str, wait_seconds: float = 0.0) -> Iterator[None]:
    """Hold the actor's flock for as long as a module changes this host, so that an orphan of a killed run can be seen."""
    os.makedirs(STATE_DIRECTORY, mode=0o700, exist_ok=True)
    with open(_path("actor.lock"), "a+", encoding="utf-8") as handle:
        deadline = clock.boottime_seconds() + wait_seconds
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if clock.boottime_seconds() >= deadline:
                    handle.seek(0)
                    raise LockError(
                        "a task of run %s is still at work on this host. Next: it ends within its own time limit; start again then"
                        % (handle.read().strip() or "?")
                    ) from None
                time.sleep(0.05)
        handle.seek(0)
        handle.truncate()
        handle.write(run_id)
        handle.flush()
        yield


def actor_alive() -> Optional[str]:
    """The run id of a module that is at work here right now, or None."""
    try:
        with open(_path("actor.lock"), encoding="utf-8") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return handle.read().strip() or "?"
    except OSError:
        return None
    return None


def write_journal(run_id: str, phase: str, kind: str, **detail: Any) -> None:
    """Append one line, durable before it returns. kind: intent | result."""
    os.makedirs(STATE_DIRECTORY, mode=0o700, exist_ok=True)
    line = {
        "run_id": run_id,
        "phase": phase,
        "kind": kind,
        "at": clock.utc_now(),
        "boottime": clock.boottime_seconds(),
        "boot_id": clock.boot_id(),
    }
    line.update(detail)
    with open(_path("journal.jsonl"), "a", encoding="utf-8") as target:
        os.fchmod(target.fileno(), 0o600)
        target.write(json.dumps(line) + "\n")
        target.flush()
        os.fsync(target.fileno())


def read_journal(tail_bytes: int = 65536) -> list[dict[str, Any]]:
    """The newest lines of the journal, oldest first; a torn last line is left out."""
    try:
        with open(_path("journal.jsonl"), "rb") as source:
            size = source.seek(0, os.SEEK_END)
            source.seek(max(0, size - tail_bytes))
            lines = source.read().splitlines()
    except OSError:
        return []
    entries = []
    for line in lines[1:] if size > tail_bytes else lines:
        with contextlib.suppress(ValueError):
            entries.append(json.loads(line))
    return entries


def last_promotion(entries: list[dict[str, Any]]) -> Optional[str]:
    """When this host was last promoted, by its journal; None when it does not know."""
    found = None
    for entry in entries:
        if entry.get("phase") != "PROMOTE":
            continue
        promotion = entry.get("promotion")
        if entry.get("kind") == "intent":
            found = str(entry["at"])
        elif promotion and not promotion["already"]:
            found = str(promotion["promoted_at"])
    return found


def last_turn(entries: list[dict[str, Any]]) -> dict[str, Optional[str]]:
    """What became of this host's server last, by its journal, each as a time or None.

    stopped_at: since when a fence has kept it from being writable; promotion_began_at: until when it was in recovery.
    """
    stopped_at = promotion_began_at = None
    following = False
    for entry in entries:
        phase, kind, decision = entry.get("phase"), entry.get("kind"), entry.get("decision")
        if phase == "FOLLOW":
            following = kind == "intent"
        if (phase, kind) == ("FENCE", "result") and entry.get("outcome") == "ok":
            stopped_at = stopped_at or str(entry["at"])
        # A fence that a run lifts is lifted from a server that follows.
        elif phase in ("REOPEN", "PROMOTE") or decision == "start-permitted" or (decision == "fence-lifted" and not following):
            stopped_at = None
        if (phase, kind) == ("PROMOTE", "intent"):
            promotion_began_at = str(entry["at"])
    return {"stopped_at": stopped_at, "promotion_began_at": promotion_began_at}


def open_phases(entries: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Intents that no result followed."""
    pending: dict[tuple[str, str], dict[str, Any]] = {}
    for entry in entries:
        key = (str(entry.get("run_id")), str(entry.get("phase")))
        if entry.get("kind") == "intent":
            pending[key] = entry
        else:
            pending.pop(key, None)
    return list(pending.values())


def read_fence() -> Optional[dict[str, Any]]:
    """The fence mark of this host, or None."""
    return _read_json("fence.json")


def write_fence(mark: dict[str, Any]) -> None:
    """Mark this host as fenced; the boot guard keeps it from starting writable until the mark is lifted."""
    write_atomically(_path("fence.json"), json.dumps(mark))


def _drop(name: str) -> None:
    """Durable: a mark that came back with the power would speak for what is there then."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path(name))
        sync_directory(STATE_DIRECTORY)


def lift_fence() -> None:
    """Take the fence mark away: the boot guard judges this host by its own rules again."""
    _drop("fence.json")


def write_restore(mark: dict[str, Any]) -> None:
    """Keep what is restored here and how far it is, so that nobody takes a half restored server for a standby."""
    write_atomically(_path("standby-restore.json"), json.dumps(mark))


def read_restore() -> Optional[dict[str, Any]]:
    """What was last restored here to be promoted, or None; see ``restored_standby``."""
    return _read_json("standby-restore.json")


def drop_restore() -> None:
    """What was restored here is no more."""
    _drop("standby-restore.json")


def write_build(mark: dict[str, Any]) -> None:
    """Keep what is being built from the primary's data on this host, so that a later run knows its own leftovers."""
    write_atomically(_path("standby-build.json"), json.dumps(mark))


def read_build() -> Optional[dict[str, Any]]:
    """What a run began to build here and has not seen to its end, or None; see ``rebuild_plan.standing``."""
    return _read_json("standby-build.json")


def drop_build() -> None:
    """Nothing is left to go on with."""
    _drop("standby-build.json")


def read_peers() -> list[str]:
    """The other database hosts of the cluster, by inventory name, as this host was told when it was protected; empty when it was not."""
    try:
        with open("/etc/relevo/guard.json", encoding="utf-8") as source:
            return [str(peer["name"]) for peer in json.load(source).get("peers", [])]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def write_challenge(challenge: dict[str, Any]) -> None:
    """Keep the nonce that a token must carry."""
    write_atomically(_path("challenge.json"), json.dumps(challenge))


def read_challenge() -> Optional[dict[str, Any]]:
    """The nonce of this host's last challenge, or None."""
    return _read_json("challenge.json")


def drop_challenge() -> None:
    """A token is used once."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(_path("challenge.json"))
