"""The one run that a watcher may start: its mark on the disk comes first, so that no crash and no second watcher starts it twice."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo import armed, clock, identity, journal
from relevo.clerk import write_durably
from relevo.closing import RECORD
from relevo.errors import JournalError, RelevoError, UsageError
from relevo.record import parse

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from relevo.paths import Place

ACTED, LOG = "acted.json", "run.log"
# What moves a primary, or may restart it: an outage beside one of them is its own.
_MOVING = frozenset({"failover", "switchover", "failback", "protect", "rehearse"})
# Longer than a run looks before it answers somebody else's word, and how often ours is tried meanwhile.
_OTHERS_WORD_SECONDS = 20.0
_TRY_SECONDS = 0.2


@dataclass(frozen=True)
class Ended:
    """How a run that was started here ended: its exit code, and id and verdict where it has left a record."""

    code: int
    run_id: str | None
    verdict: str | None


@dataclass(frozen=True)
class Told:
    """What came of the word to an armed run, where it was not taken. because: a sentence; failed: nothing was started instead."""

    run_id: str
    because: str
    failed: bool = False


class Trigger:
    """Starts one run, or tells one that waits at its gates to go, and none before a person has armed it again. project: where the runbooks are."""

    def __init__(self, directory: Path, project: Path) -> None:
        self._directory, self._project = directory, project
        self._process: subprocess.Popen[bytes] | None = None
        self._telling: threading.Thread | None = None
        self._told: armed.Waiting | None = None
        self._answers: queue.SimpleQueue[Told] = queue.SimpleQueue()

    def spent(self) -> str | None:
        """Why no run may be started any more, a sentence; None when one may."""
        try:
            kept = (self._directory / ACTED).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"whether a run was started before cannot be read: {error.strerror}"
        with suppress(ValueError, KeyError, TypeError):
            return f"its one run was decided at {json.loads(kept)['at'][:19].replace('T', ' ')} UTC already; relevo watch --rearm allows another one"
        return f"{self._directory / ACTED} cannot be read; relevo watch --rearm makes it anew"

    def spend(self, because: str) -> None:
        """Mark it before anything is started. RelevoError when that cannot be kept: then nothing may be started."""
        try:
            write_durably(self._directory / ACTED, json.dumps({"at": clock.utc_now(), "because": because}))
        except OSError as error:
            message = f"The mark {self._directory / ACTED} cannot be written: {error.strerror}. Nothing was started."
            raise RelevoError(message) from error

    def fire(self, command: Sequence[str], waiting: armed.Waiting | None, busy: Callable[[set[str]], str | None]) -> None:
        """Start the run, as a process that outlives the watcher. RelevoError when there is no process for it.

        waiting: a run that would do the same, and is told to go instead; where it does not go the other one is started after all, unless one is at
        work by then. busy: at_work of this cluster, given the runs that are over. What came of the word is said by `told`.
        """
        if waiting is None:
            self._launch(command)
            return
        self._telling = threading.Thread(target=self._tell, args=(waiting, command, busy))
        self._telling.start()

    def _tell(self, waiting: armed.Waiting, command: Sequence[str], busy: Callable[[set[str]], str | None]) -> None:
        try:
            if (refused := self._go(waiting)) is None:
                return
            self._answers.put(Told(waiting.run_id, refused))
            # One that was cancelled, or has waited for too long, leaves without having touched anything.
            over = {waiting.run_id} if armed.ended(waiting) else set[str]()
            if other := busy(over):
                self._answers.put(Told(waiting.run_id, f"The run {other} is at work, so none was started beside it.", failed=True))
                return
            self._launch(command)
        except Exception as error:  # noqa: BLE001 - nobody is left to hear it but the watcher, and people believe that a run was started
            self._answers.put(Told(waiting.run_id, str(error) or type(error).__name__, failed=True))

    def _go(self, waiting: armed.Waiting) -> str | None:
        """Tell it. Why it does not go, as sentences; None when it does, by this word or by another one."""
        try:
            answer = self._say(waiting)
        except RelevoError as error:
            refused = str(error)
        else:
            if answer.granted:
                self._told = waiting
                return None
            refused = " ".join(answer.sentences)
        if armed.ended(waiting) != armed.GONE:
            return f"The armed run {waiting.run_id} was told to go, and does not: {refused}"
        self._told = waiting
        self._answers.put(Told(waiting.run_id, f"The armed run {waiting.run_id} goes already, by the word of somebody else."))
        return None

    def _say(self, waiting: armed.Waiting) -> armed.Answer:
        limit = time.monotonic() + _OTHERS_WORD_SECONDS
        while True:
            try:
                return armed.say(waiting, armed.GO, f"relevo watch, as {identity.operator(os.environ)}", confirm=waiting.confirm)
            except UsageError:
                # Somebody else's word lies there: with that it may go.
                if time.monotonic() > limit or armed.ended(waiting):
                    raise
            time.sleep(_TRY_SECONDS)

    def told(self) -> Told | None:
        """Once, what came of the word to an armed run; None while there is nothing to say."""
        with suppress(queue.Empty):
            return self._answers.get_nowait()
        return None

    def finish(self) -> None:
        """Wait until an armed run has answered, or another one was started."""
        if self._telling is not None and self._telling.is_alive():
            self._telling.join()

    def _launch(self, command: Sequence[str]) -> None:
        log = self._directory / LOG
        try:
            with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600), "wb") as output:
                self._process = self._start(command, output)
        except OSError as error:
            message = f"The run could not be started: {error.strerror or error}."
            raise RelevoError(message) from error

    def _start(self, command: Sequence[str], output: Any) -> subprocess.Popen[bytes]:
        program = Path(sys.executable).with_name(command[0])
        return subprocess.Popen(
            [str(program), *command[1:], "--json"],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=self._project,
            start_new_session=True,
        )

    @property
    def running(self) -> bool:
        """Whether the run that was started here is at work."""
        telling = self._telling is not None and self._telling.is_alive()
        told = self._told is not None and not (self._told.directory / RECORD).exists()
        return telling or told or (self._process is not None and self._process.poll() is None)

    def ended(self) -> Ended | None:
        """Once, when the run that was started here has ended."""
        if self._told is not None and not self.running:
            record = parse((self._told.directory / RECORD).read_bytes())
            self._told = None
            return Ended(record.verdict.exit, record.run_id, record.verdict)
        if self._process is None or self._process.poll() is None:
            return None
        code, self._process = self._process.returncode, None
        text = (self._directory / LOG).read_text(encoding="utf-8", errors="replace")
        document: dict[str, Any] = {}
        with suppress(ValueError):
            document = dict(json.JSONDecoder().raw_decode(text, text.index("\n{\n") + 1 if "\n{\n" in text else text.index("{"))[0])
        return Ended(code, document.get("run_id"), document.get("verdict"))

    def rearm(self) -> bool:
        """Allow another run; whether one had been started."""
        try:
            (self._directory / ACTED).unlink()
        except FileNotFoundError:
            return False
        return True


def at_work(place: Place, cluster: str, closed: set[str]) -> str | None:
    """A run of this controller that changes the cluster just now. closed: runs that are over, which this adds to and asks no more."""
    if not place.runs.is_dir():
        return None
    for directory in place.runs.iterdir():
        if directory.name in closed:
            continue
        if (directory / RECORD).exists():
            closed.add(directory.name)
            continue
        # Without a journal it is no run, or not yet.
        with suppress(JournalError):
            opening, _ = journal.read(directory)
            if (
                opening.runbook in _MOVING
                and not _holds_nothing(opening, directory)
                and opening.cluster in {None, cluster}
                and opening.owner_is_alive()
            ):
                return opening.run_id
    return None


def _holds_nothing(opening: journal.Opening, directory: Path) -> bool:
    """Whether a run is armed, or still on its way there: it touches nothing before the word, which ends its waiting."""
    return "armed" in opening.inputs and not (directory / "control" / "armed" / "end.json").exists()
