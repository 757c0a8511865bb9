# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Letters by a connection that stays open: a word costs milliseconds there, and a command of its own four processes and a tenth of a second.

Nothing rests on it: who is told that a letter did not arrive sends it the other way.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import subprocess
import time
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import letter

# How long a word may take; a host that has just died takes none.
_WORD_SECONDS = 2.0
# The program on the host ends with its input, or when nothing is said for that long.
_SILENCE_SECONDS = 30
_READY = "relevo-carrier"
# Its whole vocabulary: a letter to who waits for it, the beat of the run, who is to go away, and the end of all of it.
_PROGRAM = r"""
import json, os, select, shutil
os.umask(0o77)
print(%(ready)r, flush=True)
heard, lines = b"", []
while True:
    while not lines:
        # Not by a buffer of Python's: what it holds back, select does not see.
        data = os.read(0, 65536) if select.select([0], [], [], %(silence)d)[0] else b""
        if not data:
            raise SystemExit
        *lines, heard = (heard + data).split(b"\n")
    number, verb, place, text = json.loads(lines.pop(0))
    done = os.path.exists(place + ".ready") if verb == "put" else os.path.isdir(place)
    if verb == "put" and done:
        with open(place + ".new", "w", encoding="utf-8") as target:
            target.write(text)
        os.replace(place + ".new", place)
    elif verb == "beat" and done:
        with open(os.path.join(place, text), "w"):
            pass
    elif verb == "leave" and os.path.exists(place):
        os.unlink(place)
    elif verb == "clear":
        shutil.rmtree(place, ignore_errors=True)
        done = True
    print(json.dumps([number, done]), flush=True)
"""


class Carrier:
    """To one host, as root. What is wrong with it is never an error: :meth:`say` is False then."""

    def __init__(self, command: Optional[list[Any]]) -> None:
        """command: see :func:`command_to`; None where there is no such way."""
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._ready, self._number, self._heard = False, 0, b""
        if command is not None:
            with contextlib.suppress(OSError):
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)

    def works(self) -> bool:
        """Whether it is there, or may still come."""
        return self._process is not None and self._process.poll() is None

    def put(self, place: str, content: dict[str, Any]) -> Optional[bool]:
        """Whether that letter lies where somebody waits for it; None where it was sent and nobody said."""
        return self._say("put", place, json.dumps(content), _WORD_SECONDS)

    def beat(self, run_id: str) -> bool:
        """Whether it was on its way; nobody waits for an answer."""
        return self._say("beat", letter.box(run_id), letter.BEAT, 0.0) is not False

    def leave(self, ready: str) -> bool:
        """Send one away who waits."""
        return self._say("leave", ready, "", 0.0) is not False

    def clear(self, run_id: str) -> bool:
        """Whether nothing of the run is left on the host."""
        return self._say("clear", letter.box(run_id), "", _WORD_SECONDS) is True

    def close(self) -> None:
        """The program on the host ends with its input."""
        if self._process is None:
            return
        for stream in (self._process.stdin, self._process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        self._process.kill()
        self._process.wait()
        self._process = None

    def _say(self, verb: str, place: str, text: str, seconds: float) -> Optional[bool]:
        """What the host answers within that time; None where it was not waited for, or did not come. False at once where nobody carries anything."""
        process = self._process
        if process is None or process.poll() is not None or process.stdin is None or not self._is_ready():
            return False
        self._number += 1
        try:
            process.stdin.write(json.dumps([self._number, verb, place, text]).encode() + b"\n")
            process.stdin.flush()
        except OSError:
            self.close()
            return False if seconds == 0.0 else None
        return self._answer(self._number, seconds) if seconds else None

    def _is_ready(self) -> bool:
        if not self._ready:
            self._ready = any(line.decode(errors="replace").strip() == _READY for line in self._lines(0.0))
        return self._ready

    def _answer(self, number: int, seconds: float) -> Optional[bool]:
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            for line in self._lines(max(0.0, limit - time.monotonic())):
                with contextlib.suppress(ValueError, TypeError):
                    told, done = json.loads(line)
                    if told == number:
                        return bool(done)
            if not self.works():
                return None
        # Whoever did not answer once is asked the other way from now on: an answer that comes late belongs to no question.
        self.close()
        return None

    def _lines(self, seconds: float) -> list[bytes]:
        """Whole lines that came within that time."""
        if self._process is None or self._process.stdout is None:
            return []
        descriptor = self._process.stdout.fileno()
        if select.select([descriptor], [], [], seconds)[0]:
            data = os.read(descriptor, 65536)
            if not data:
                self.close()
            self._heard += data
        *lines, self._heard = self._heard.split(b"\n")
        return lines


def command_to(connection: Any, python: str) -> Optional[list[Any]]:
    """The command that carries letters over Ansible's own way to a host; None where that is not ssh, or asks for a password.

    Ansible has no public name for a command whose input stays open. Where this one is gone there is no carrier, and every letter takes the other way.
    """
    program = _PROGRAM % {"ready": _READY, "silence": _SILENCE_SECONDS}
    remote = "%s -c %s" % (shlex.quote(python), shlex.quote(program))
    try:
        if connection.transport != "ssh" or connection.get_option("password"):
            return None
        become = connection.become
        if become is not None:
            if become.get_option("become_pass"):
                return None
            remote = become.build_become_command(remote, connection._shell)
        words: list[Any] = connection._build_command(
            connection.get_option("ssh_executable"), "ssh", connection.get_option("host"), remote
        )
    except (AttributeError, KeyError, TypeError):
        return None
    return words
