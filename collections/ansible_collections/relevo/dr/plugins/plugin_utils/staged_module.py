# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A module that is started on its host before the outage clock, and is told later, by a letter, to go on.

A module's start costs a quarter of a second, most of it Python's; a letter is one short command on the open connection.
"""

from __future__ import annotations

import json
import shlex
import time
from collections.abc import Callable
from typing import Any, Optional, Protocol

from ansible_collections.relevo.dr.plugins.module_utils import letter
from ansible_collections.relevo.dr.plugins.plugin_utils.aside import Aside

_LOOK_SECONDS = 0.2


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

    def __init__(
        self,
        action: Action,
        run_id: str,
        name: str,
        module: str,
        arguments: dict[str, Any],
        wait_seconds: float,
        silence_seconds: float = 0.0,
        put: Callable[[str, dict[str, Any]], Optional[bool]] = lambda _place, _content: False,
    ) -> None:
        """Start it, in a process of its own: the module's answer is waited for there, while this process writes the letter.

        silence_seconds: for how long the beat of the run may be missing on the host; 0 where it has none. put: the quick way for a letter;
        None where it was sent and nobody said that it arrived.
        """
        self._action, self._module, self._arguments, self._quickly = action, module, arguments, put
        self._path, self._began = letter.path(run_id, name), time.monotonic()
        waits = {"letter": name, "letter_seconds": wait_seconds, "letter_silence_seconds": silence_seconds}
        self._over = False
        self._aside = Aside(lambda: action.execute(module, {**arguments, **waits}))

    def ready(self, seconds: float) -> bool:
        """Whether the module waits for its letter, within that time."""
        ready = shlex.quote(self._path + ".ready")
        tries = int(seconds / 0.05)
        loop = "n=0; until [ -e %s ]; do n=$((n+1)); [ $n -lt %d ] || exit 1; sleep 0.05; done" % (ready, tries)
        return self._action.say(loop, "")

    def go(self, late: dict[str, Any], stop: Callable[[], Optional[str]] = lambda: None) -> dict[str, Any]:
        """Give the module its last parameters and return its answer. stop: asked meanwhile; its reason, if any, is written to the module too."""
        if self.ended() or not self._send(late):
            self.drop()
            return self._action.ask(self._module, {**self._arguments, **late})
        self._over = True
        return self._answer(stop)

    def give_up(self, reason: str) -> None:
        """Tell a module that still waits that nothing is to be done; nothing to do after :meth:`go`."""
        if not self._over:
            self._send({letter.WITHDRAWN: reason})
            self.drop()

    def drop(self) -> None:
        """The module is told nothing: whoever does this takes its box away."""
        self._aside.drop()
        self._over = True

    def fits(self, module: str, arguments: dict[str, Any]) -> bool:
        """Whether this is what would be started now."""
        return (module, _plain(arguments)) == (self._module, _plain(self._arguments))

    def ended(self) -> bool:
        """Whether the module is over, though no letter was sent."""
        return self._aside.ended()

    @property
    def waits_at(self) -> str:
        """The file on the host whose absence sends the module away."""
        return self._path + ".ready"

    @property
    def age_seconds(self) -> float:
        """Since it was started."""
        return time.monotonic() - self._began

    def _send(self, content: dict[str, Any]) -> bool:
        quickly = self._quickly(self._path, content)
        if quickly:
            return True
        ready = shlex.quote(self._path + ".ready")
        if quickly is None:
            # Who was sent one quickly and waits no more has taken it: to start the module again would be to do its work twice.
            self._put(content, "[ -e %s ] || exit 1; " % ready)
            return True
        # The box is the module's to make: where there is none, nobody waits.
        return self._put(content, "n=0; until [ -e %s ]; do n=$((n+1)); [ $n -lt 200 ] || exit 1; sleep 0.05; done; " % ready)

    def _put(self, content: dict[str, Any], first: str = "") -> bool:
        command = "umask 077; " + first + "cat > {0}.new && mv {0}.new {0}".format(shlex.quote(self._path))
        return self._action.say(command, json.dumps(content))

    def _answer(self, stop: Callable[[], Optional[str]]) -> dict[str, Any]:
        told = False
        while not told and not self._aside.came(_LOOK_SECONDS):
            reason = stop()
            if reason:
                told = self._put({letter.WITHDRAWN: reason})
        return self._aside.answer() or {"failed": True, "msg": "%s ended without an answer" % self._module}


def _plain(arguments: dict[str, Any]) -> Any:
    """As the module gets them: a tuple is a list there."""
    return json.loads(json.dumps(arguments, default=str))
