"""The journal of one run: opened before the first task, one JSON line per event, readable after any crash."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Self

from relevo import clock, identity
from relevo.errors import JournalError
from relevo.paths import make_private_directory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

JOURNAL = "journal.jsonl"
RESERVE = "reserve"
# Room that is set aside at the start, so that the record of a run on a full disk can still be written.
RESERVE_BYTES = 1 << 20
# Longer than any single task may take (a backup: one day), so that only a dead run is silent for so long.
SILENCE_SECONDS = 48 * 3600.0


@dataclass(frozen=True)
class Opening:
    """The journal's first line: who started what, when, and as which process.

    opened_at: UTC; boottime: seconds since boot; pid_started: clock ticks since boot; inputs: {mode, scope, armed, ...} as given;
    pid_namespace: where pid is its number;
    recorded: a runbook, whose record is due even when its opening task never speaks; kept: becomes a result.
    """

    run_id: str
    runbook: str
    feed: str
    opened_at: str
    boottime: float
    pid: int
    pid_started: int | None
    boot_id: str
    operator: str
    controller: str
    approver: str | None = None
    parent_run_id: str | None = None
    recorded: bool = True
    kept: bool = True
    check_mode: bool = False
    inputs: dict[str, str] = field(default_factory=dict)
    cluster: str | None = None
    digests: dict[str, Any] = field(default_factory=dict)
    versions: dict[str, str | None] = field(default_factory=dict)
    pid_namespace: str | None = None

    def owner_is_alive(self, silent_seconds: float = 0.0) -> bool:
        """Whether the process that opened the journal still runs; another machine's run counts as alive.

        silent_seconds: for how long the journal has not grown. It decides where the process cannot be seen: a container's run, looked at from another one.
        """
        if self.controller != identity.controller():
            return True
        if self.boot_id != identity.boot_id():
            return False
        if self.pid_namespace is None or self.pid_namespace != identity.pid_namespace():
            return silent_seconds < SILENCE_SECONDS
        return identity.process_started(self.pid) == self.pid_started is not None


class Journal:
    """An append-only file of JSON lines. After a failed write the run goes on and the gap is counted in `missed`."""

    def __init__(self, directory: Path, descriptor: int) -> None:
        self.directory = directory
        self.missed = 0
        self.reason: str | None = None
        self._descriptor = descriptor
        self._length = os.fstat(descriptor).st_size

    @classmethod
    def open(cls, directory: Path, opening: Opening) -> Self:
        """Make the run's directory and the journal's first line, on disk before this returns. JournalError when it cannot."""
        make_private_directory(directory)
        make_private_directory(directory / "control")
        path = directory / JOURNAL
        try:
            _set_room_aside(directory / RESERVE)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            journal = cls(directory, descriptor)
            journal.append({"event": "opened", **asdict(opening)}, durable=True)
            sync_directory(directory)
        except OSError as error:
            message = f"The journal {path} cannot be written: {error.strerror}."
            raise JournalError(message) from error
        if journal.reason:
            path.unlink(missing_ok=True)
            message = f"The journal {path} cannot be written: {journal.reason}."
            raise JournalError(message)
        return journal

    def append(self, line: Mapping[str, Any], *, durable: bool = False) -> None:
        """Add a line; a failed write is undone, counted, and never raised: the run must not stop half way for its record."""
        text = json.dumps(line, ensure_ascii=False, sort_keys=True, separators=(",", ":"), default=str)
        data = text.encode(errors="replace") + b"\n"
        try:
            written = os.write(self._descriptor, data)
            if written != len(data):
                self._undo("the disk is full")
                return
            self._length += written
            if durable:
                os.fsync(self._descriptor)
        except OSError as error:
            self._undo(error.strerror or str(error))

    def miss(self, reason: str) -> None:
        """Count an event that the journal does not hold."""
        self.missed += 1
        self.reason = self.reason or reason

    def _undo(self, reason: str) -> None:
        self.miss(reason)
        try:
            os.ftruncate(self._descriptor, self._length)
            os.lseek(self._descriptor, self._length, os.SEEK_SET)
        except OSError:
            # The torn line stays; readers leave out what is no JSON.
            return

    def close(self) -> None:
        """Everything on disk; the room set aside is free for the record."""
        try:
            os.fsync(self._descriptor)
            os.close(self._descriptor)
        except OSError as error:
            self.reason = self.reason or error.strerror
        (self.directory / RESERVE).unlink(missing_ok=True)


def read(directory: Path) -> tuple[Opening, list[dict[str, Any]]]:
    """The opening and the later lines of a run's journal. JournalError when there is none."""
    path = directory / JOURNAL
    try:
        return parse(path.read_text(encoding="utf-8", errors="replace"))
    except OSError as error:
        message = f"The journal {path} cannot be read: {error.strerror}."
        raise JournalError(message) from error


def parse(text: str) -> tuple[Opening, list[dict[str, Any]]]:
    """A journal's text; torn lines are left out. JournalError without an opening: it belongs to no run."""
    lines = [line for line in map(_parse_line, text.splitlines()) if line is not None]
    if not lines or lines[0].get("event") != "opened":
        message = "The journal has no opening line: it belongs to no run."
        raise JournalError(message)
    known = {key: value for key, value in lines[0].items() if key in Opening.__dataclass_fields__}
    try:
        return Opening(**known), lines[1:]
    except TypeError as error:
        message = f"The opening line of the journal is incomplete ({error})."
        raise JournalError(message) from error


def reopen(directory: Path) -> Journal:
    """A dead run's journal, to be finished by somebody else."""
    path = directory / JOURNAL
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    length = os.fstat(descriptor).st_size
    if length and os.pread(descriptor, 1, length - 1) != b"\n":
        os.write(descriptor, b"\n")  # the crash tore the last line
    return Journal(directory, descriptor)


def now() -> dict[str, Any]:
    """The fields of an opening that say which process opens it, and when."""
    pid = os.getpid()
    return {
        "opened_at": clock.utc_now(),
        "boottime": clock.boottime_seconds(),
        "pid": pid,
        "pid_started": identity.process_started(pid),
        "boot_id": identity.boot_id(),
        "pid_namespace": identity.pid_namespace(),
    }


def _parse_line(text: str) -> dict[str, Any] | None:
    try:
        line = json.loads(text)
    except ValueError:
        return None
    return line if isinstance(line, dict) else None


def _set_room_aside(path: Path) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, RESERVE_BYTES)
    finally:
        os.close(descriptor)


def sync_directory(path: Path) -> None:
    """The names in a directory, on the disk when this returns."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
