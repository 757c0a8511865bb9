# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A module that is started on its host before the outage clock, and is told later, by a letter, to go on.

A module's start costs a quarter of a second, most of it Python's; a letter is one short command on the open connection.
"""

from __future__ import annotations

import json
import os
import shlex
import signal
from typing import Any, Optional, Protocol

from ansible.errors import AnsibleError
from ansible_collections.relevo.dr.plugins.module_utils import letter


class Action(Protocol):
    """What a staged module needs of the action that starts it; see ``RunAction``."""

    def ask(self, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Run a module on this host, unless nobody leads the run any more."""

    def execute(self, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """The same, whoever leads."""

    def say(self, command: str, text: str) -> bool:
        """Run a short command with that standard input; whether it ended with 0."""


class StagedModule:
    """One module on one host. Whatever goes wrong with the staging, :meth:`go` falls back to starting it then."""

    def __init__(self, action: Action, run_id: str, name: str, module: str, arguments: dict[str, Any], wait_seconds: float) -> None:
        """Start it, in a process of its own: the module's answer is waited for there, while this process writes the letter."""
        self._action, self._module, self._arguments = action, module, arguments
        self._path = letter.path(run_id, name)
        self._pid, self._reader = _started(action, module, {**arguments, "letter": name, "letter_seconds": wait_seconds})

    def ready(self, seconds: float) -> bool:
        """Whether the module waits for its letter, within that time."""
        ready = shlex.quote(self._path + ".ready")
        tries = int(seconds / 0.05)
        loop = "n=0; until [ -e %s ]; do n=$((n+1)); [ $n -lt %d ] || exit 1; sleep 0.05; done" % (ready, tries)
        return self._action.say(loop, "")

    def go(self, late: dict[str, Any]) -> dict[str, Any]:
        """Give the module its last parameters and return its answer."""
        if self._ended() or not self._send(late):
            self._drop()
            return self._action.ask(self._module, {**self._arguments, **late})
        return self._answer()

    def give_up(self, reason: str) -> None:
        """Tell a module that still waits that nothing is to be done; nothing to do after :meth:`go`."""
        if self._reader is not None:
            self._send({letter.WITHDRAWN: reason})
            self._drop()

    def _send(self, content: dict[str, Any]) -> bool:
        place = shlex.quote(self._path)
        # The box is the module's to make: where there is none, nobody waits.
        command = "umask 077; n=0; until [ -e {0}.ready ]; do n=$((n+1)); [ $n -lt 200 ] || exit 1; sleep 0.05; done; cat > {0}.new && mv {0}.new {0}"
        return self._action.say(command.format(place), json.dumps(content))

    def _ended(self) -> bool:
        """Whether the process is over, though no letter was sent."""
        return os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def _answer(self) -> dict[str, Any]:
        reader, self._reader = self._reader, None
        with os.fdopen(reader if reader is not None else -1, encoding="utf-8") as source:
            text = source.read()
        os.waitpid(self._pid, 0)
        if not text:
            return {"failed": True, "msg": "%s ended without an answer" % self._module}
        answer: dict[str, Any] = json.loads(text)
        return answer

    def _drop(self) -> None:
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)


def _started(action: Action, module: str, arguments: dict[str, Any]) -> tuple[int, Optional[int]]:
    """A fork of this worker that runs the module and writes its answer to a pipe. It stays in the worker's process group and ends with it."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writer)
        return pid, reader
    try:
        os.close(reader)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_DFL)
        try:
            answer = action.execute(module, arguments)
        except AnsibleError as error:
            answer = {"failed": True, "msg": str(error)}
        with os.fdopen(writer, "w", encoding="utf-8") as target:
            json.dump(answer, target, default=str)
    finally:
        # Nothing of this process may go on as if it were the worker.
        os._exit(0)
