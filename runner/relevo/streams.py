"""Long connections to the hosts that a watcher listens to: each in a thread of its own, opened again for as long as it takes."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relevo import clock

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from relevo.automatic import Host

OBSERVER_LOG = "/var/lib/relevo-ledger/observer.jsonl"
LOCK = "/var/lib/relevo/lock.json"
DEADMAN = "/var/lib/relevo-deadman"
PROGRAM = "roles/dr_ledger/files/relevo_vantage.py"
_MARK = "relevo-vantage"
# Reads over what sudo may have left of its password, then the program by its length: standard input stays open as the sign that we listen.
_LOADER = (
    "import sys\n"
    "i = sys.stdin.buffer.raw\n"
    "def line():\n"
    "    b = b''\n"
    "    while not b.endswith(b'\\n'):\n"
    "        c = i.read(1)\n"
    "        if not c: sys.exit(0)\n"
    "        b += c\n"
    "    return b.split()\n"
    "w = line()\n"
    "while w[:1] != [b'relevo-vantage']: w = line()\n"
    "b = b''\n"
    "while len(b) < int(w[1]):\n"
    "    c = i.read(int(w[1]) - len(b))\n"
    "    if not c: sys.exit(0)\n"
    "    b += c\n"
    "exec(compile(b, 'relevo-vantage', 'exec'))\n"
)
_FIRST_PAUSE_SECONDS, _LONGEST_PAUSE_SECONDS = 0.5, 5.0
_ALIVE_SECONDS = 5.0
_END_SECONDS = 2.0


@dataclass(frozen=True)
class Told:
    """What a host is to tell of: paths there, and whose cluster's jobs."""

    cluster: str
    observer_log: str = OBSERVER_LOG
    lock: str = LOCK
    deadman: str = DEADMAN


class Stream:
    """One host's lines. take: called from the stream's thread with each line and when it arrived; said: why it is not heard, for a person."""

    def __init__(
        self,
        host: Host,
        program: str,
        take: Callable[[str, Mapping[str, Any], float], None],
        told: Told,
    ) -> None:
        self.host = host
        self.said = ""
        self._take, self._stopping = take, threading.Event()
        self._program = f"{program}\nmain({told.observer_log!r}, {told.lock!r}, {told.deadman!r}, {told.cluster!r})\n".encode()
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._work, daemon=True, name=f"stream {host.name}")

    def start(self) -> None:
        """Listen from now on."""
        self._thread.start()

    def stop(self) -> None:
        """No more lines; the program on the host ends with its standard input."""
        self._stopping.set()
        # Its thread closes the pipes: nobody closes what another one reads.
        if (process := self._process) is not None:
            process.terminate()
        self._thread.join(_ALIVE_SECONDS)

    def _work(self) -> None:
        pause = _FIRST_PAUSE_SECONDS
        while not self._stopping.is_set():
            began = clock.boottime_seconds()
            try:
                self._listen()
            except OSError as error:
                self.said = error.strerror or str(error)
            long = clock.boottime_seconds() - began > _LONGEST_PAUSE_SECONDS
            pause = _FIRST_PAUSE_SECONDS if long else min(2 * pause, _LONGEST_PAUSE_SECONDS)
            self._stopping.wait(pause)

    def _listen(self) -> None:
        python = [self.host.python, "-I", "-u", "-c", _LOADER]
        # ssh hands words to the login shell of the other side.
        remote = bool(self.host.reach) and self.host.reach[0] == "ssh"
        command = [*self.host.reach, *(map(shlex.quote, python) if remote else python)]
        pipe = subprocess.PIPE
        process = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, start_new_session=True)
        self._process = process
        alive = threading.Thread(target=self._stay_alive, args=(process,), daemon=True)
        complaints = threading.Thread(target=self._hear_complaints, args=(process,), daemon=True)
        complaints.start()
        try:
            self._greet(process)
            alive.start()
            for line in process.stdout or ():
                arrived = clock.boottime_seconds()
                with suppress(ValueError):
                    self._take(self.host.name, json.loads(line), arrived)
        finally:
            self._process = None
            _end(process)

    def _greet(self, process: subprocess.Popen[bytes]) -> None:
        if process.stdin is not None:
            words = f"{self.host.password}\n" if self.host.password else ""
            process.stdin.write(f"{words}{_MARK} {len(self._program)}\n".encode() + self._program)
            process.stdin.flush()

    def _stay_alive(self, process: subprocess.Popen[bytes]) -> None:
        while not self._stopping.wait(_ALIVE_SECONDS) and process.poll() is None and process.stdin is not None:
            try:
                os.write(process.stdin.fileno(), b"\n")
            except (OSError, ValueError):
                return

    def _hear_complaints(self, process: subprocess.Popen[bytes]) -> None:
        if process.stderr is not None:
            with process.stderr as complaints:
                for line in complaints:
                    self.said = line.decode(errors="replace").strip()[:200] or self.said


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            with suppress(OSError):
                pipe.close()
