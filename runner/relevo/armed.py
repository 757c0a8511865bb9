"""Armed runs, as whoever did not start them sees them: those that wait, and the word that is said to one of them.

The files are those of the collection's plugin_utils/armed_files.py, in the run's own directory.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relevo import clock, identity, journal
from relevo.closing import RECORD
from relevo.errors import JournalError, RelevoError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from types import FrameType

    from relevo.paths import Place

GO, CANCEL = "go", "cancel"
# How such a run's waiting ends, as its end.json says.
GONE, CANCELLED, EXPIRED = "gone", "cancelled", "expired"
_ENDED = {GONE: "it was told to go", CANCELLED: "it was cancelled", EXPIRED: "it is armed no longer"}
# A file for each, so that a run can be cancelled while a go waits for a gate.
_FILES = {GO: "word.json", CANCEL: "cancel.json"}
_POLL_SECONDS = 0.01
# How often it is looked whether anybody leads the run at all.
_OWNER_SECONDS = 1.0
# What is said of an occasion, and of who says it.
_OF_THE_MOMENT = frozenset({"dr_confirm", "dr_reason", "dr_failed_at"})
# Longer than a word may lie there and wait for a gate to turn green.
_ANSWER_SECONDS = 40.0
# How long an answer may take from the moment at which the word was taken away to be obeyed.
_OBEYED_SECONDS = 5.0
# How long a run that was interrupted may take to end by its word.
_LEAVE_SECONDS = 30.0


@dataclass(frozen=True)
class Waiting:
    """A run that waits for its word.

    ready: everything is started on the hosts; summary: what it would do; red: what stands in the way of go, a sentence per gate;
    confirm: the words that go needs; wish: what it is to do, and what was accepted for it, by input.
    """

    directory: Path
    run_id: str
    cluster: str
    ready: bool
    armed_at: str
    armed_seconds: float
    limit_seconds: float
    looks: int
    judged_at: str | None
    summary: str
    red: tuple[str, ...]
    confirm: str
    wish: dict[str, str]

    def document(self) -> dict[str, Any]:
        """As a JSON tree, for programs."""
        return {name: getattr(self, name) for name in self.__dataclass_fields__ if name != "directory"}


@dataclass(frozen=True)
class Answer:
    """What the run said to a word."""

    granted: bool
    sentences: tuple[str, ...]


def waits(directory: Path) -> bool:
    """Whether a run with this directory waits for its word, as far as its files say."""
    control = directory / "control" / "armed"
    return (control / "state.json").exists() and not (control / "end.json").exists() and not (directory / RECORD).exists()


def waiting(place: Place) -> list[Waiting]:
    """The runs of this controller that wait, the oldest first."""
    if not place.runs.is_dir():
        return []
    found = [_read(directory) for directory in sorted(place.runs.iterdir()) if waits(directory)]
    return [one for one in found if one is not None]


def fitting(place: Place, cluster: str, variables: Mapping[str, str]) -> Waiting | None:
    """A run that is ready and would do exactly what these inputs ask for, with nothing more accepted; None where there is none."""
    asked = {name: value for name, value in variables.items() if name not in _OF_THE_MOMENT}
    return next((one for one in waiting(place) if one.ready and one.cluster == cluster and one.wish == asked), None)


def choose(place: Place, run_id: str) -> Waiting:
    """UsageError when that run waits for nothing."""
    for one in waiting(place):
        if one.run_id == run_id:
            return one
    known = ", ".join(one.run_id for one in waiting(place)) or "no run does"
    message = f"{run_id} waits for no word; armed are: {known}."
    raise UsageError(message)


def say(run: Waiting, word: str, by: str, *, confirm: str = "", reason: str = "") -> Answer:
    """Say a word to a run, and wait for what it answers; a word that this raises an error for is taken back, and obeyed no more.

    UsageError where another such word lies there; RelevoError where the run waits no more, which is seen at once, or does not answer.
    """
    number = _lay(run.directory, word, by, confirm, reason)
    began = owner = time.monotonic()
    try:
        while True:
            # Before the answer is looked for: it is written before the end.
            over = not waits(run.directory)
            if time.monotonic() - owner > _OWNER_SECONDS:
                over, owner = over or _read(run.directory) is None, time.monotonic()
            found = _answer(run.directory, number)
            if found is not None:
                return found
            if over:
                why = _ENDED.get(ended(run) or "", "nobody leads it")
                message = f"{run.run_id} waits for no word any more: {why}. Next: relevo status."
                raise RelevoError(message)
            waited = time.monotonic() - began
            # One that lies there no more has just been taken, to be obeyed.
            if waited > _ANSWER_SECONDS and (_take_back(run.directory, word, number) or waited > _ANSWER_SECONDS + _OBEYED_SECONDS):
                message = f"{run.run_id} gave no answer within {_ANSWER_SECONDS:g} s; the word is taken back. Next: relevo armed; "
                message += "a run that hangs has to be ended where it was started."
                raise RelevoError(message)
            time.sleep(_POLL_SECONDS)
    finally:
        _take_back(run.directory, word, number)


def ended(run: Waiting) -> str | None:
    """How its waiting has ended, by its end.json: gone, cancelled, expired; None where that says nothing."""
    return _how(run.directory)


def _how(directory: Path) -> str | None:
    with suppress(OSError, ValueError, KeyError):
        return str(json.loads((directory / "control" / "armed" / "end.json").read_text(encoding="utf-8"))["how"])
    return None


def _answer(directory: Path, number: str) -> Answer | None:
    with suppress(FileNotFoundError, ValueError):
        found = json.loads((directory / "control" / "armed" / "answer.json").read_text(encoding="utf-8"))
        if found["number"] == number:
            return Answer(bool(found["granted"]), tuple(found["sentences"]))
    return None


class Interrupts:
    """What a signal does to a run that is led here: one that waits is cancelled by a word, any other is stopped. Called again and again."""

    def __init__(self, directory: Path) -> None:
        self._directory, self._signals, self._laid = directory, 0, False
        self._since: float | None = None
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._hear)

    def _hear(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def __call__(self) -> bool:
        """Whether the run is to be stopped now."""
        if not self._signals:
            return False
        if self._signals > 1:
            return True
        if not waits(self._directory):
            # One that was cancelled, or is armed no longer, ends by itself; one that goes all the same is stopped as any run is.
            return _how(self._directory) not in {CANCELLED, EXPIRED}
        if self._since is None:
            self._since = time.monotonic()
        if not self._laid:
            with suppress(RelevoError):
                _lay(self._directory, CANCEL, identity.operator(os.environ), "", "interrupted where it was started")
                self._laid = True
        return time.monotonic() - self._since > _LEAVE_SECONDS


def _lay(directory: Path, word: str, by: str, confirm: str, reason: str) -> str:
    """Whole or not at all, and never over another one; the number under which it is answered."""
    number = secrets.token_hex(8)
    moment = {"at": clock.utc_now(), "boottime": clock.boottime_seconds()}
    said = {"word": word, "by": by, **moment, "number": number, "confirm": confirm, "reason": reason}
    path = _file(directory, word)
    draft = path.with_name(f".word-{number}")
    try:
        draft.write_text(json.dumps(said), encoding="utf-8")
        draft.chmod(0o600)
        os.link(draft, path)
    except FileExistsError as error:
        message = f"Another word to {directory.name} has not been answered yet. Next: wait for that, then say it again."
        raise UsageError(message) from error
    except OSError as error:
        message = f"The word cannot be said: {error.strerror}: {path}."
        raise RelevoError(message) from error
    finally:
        draft.unlink(missing_ok=True)
    return number


def _take_back(directory: Path, word: str, number: str) -> bool:
    """Whether this very word lay there still: who took it away before answers it."""
    path = _file(directory, word)
    with suppress(OSError, ValueError, KeyError):
        if json.loads(path.read_text(encoding="utf-8"))["number"] == number:
            path.unlink()
            return True
    return False


def _file(directory: Path, word: str) -> Path:
    return directory / "control" / "armed" / _FILES[word]


def _read(directory: Path) -> Waiting | None:
    """None where nobody leads it any more, or it says nothing yet."""
    with suppress(JournalError, OSError, ValueError, KeyError):
        opening, _ = journal.read(directory)
        if not opening.owner_is_alive():
            return None
        state = json.loads((directory / "control" / "armed" / "state.json").read_text(encoding="utf-8"))
        return Waiting(
            directory=directory,
            run_id=state["run_id"],
            cluster=state["cluster"],
            ready=bool(state["ready"]),
            armed_at=state["armed_at"],
            armed_seconds=round(clock.boottime_seconds() - float(state["armed_boottime"]), 1),
            limit_seconds=float(state["limit_seconds"]),
            looks=int(state["looks"]),
            judged_at=state["judged_at"],
            summary=state["summary"],
            red=tuple(state["red"]),
            confirm=state["confirm"],
            wish=dict(state["wish"]),
        )
    return None
