# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One component on one host with everything around its provider: hooks, and background units that are stopped before and started after, and counted."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import app_units as units
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import (
    ApplicationError,
    Deadline,
    Done,
    Option,
    Provider,
    Target,
)

HOOKS = tuple("%s_%s" % (when, verb) for verb in ("quiesce", "cutover", "revert") for when in ("before", "after"))
# Of every component on a host, whatever its provider.
OPTIONS = {
    "background_units": Option(list, default=()),
    "hooks": Option(dict, default=None),
    "hook_seconds": Option(float, default=30.0),
}


@dataclass(frozen=True)
class Part:
    """provider: what is played. settings: of the component."""

    provider: Provider
    settings: Mapping[str, Any]
    run_id: str = ""

    @property
    def background(self) -> list[str]:
        """Units that work for the component without anybody asking: workers, timers."""
        return [str(unit) for unit in self.settings.get("background_units") or ()]

    def check(self, databases: list[dict[str, Any]]) -> dict[str, Any]:
        """What the provider sees, and what is wrong with the rest."""
        facts = self.provider.check(databases)
        wrong = [*facts.get("wrong", ()), *("unit %s is not there" % unit for unit in self.background if not units.exists(unit))]
        for name, command in (self.settings.get("hooks") or {}).items():
            if name not in HOOKS:
                wrong.append("hook %s is none of %s" % (name, ", ".join(HOOKS)))
            elif not _is_command(command):
                wrong.append("hook %s is no list that begins with the path of a program that can be run" % name)
        return {**facts, "wrong": wrong, "background": self.count()}

    def count(self) -> dict[str, Any]:
        """How many of the declared background units run."""
        running = [unit for unit in self.background if units.is_active(unit)]
        return {"declared": len(self.background), "running": running}

    def quiesce(self, deadline: Deadline, *, leaves: bool) -> Done:
        """Background units first: they must not find the application gone and write on. Raises ApplicationError."""
        self._hook("before_quiesce", deadline)
        busy = self.count()["running"]
        for unit in self.background:
            units.stop(unit, deadline, leaves=leaves)
        done = self.provider.quiesce(deadline, leaves=leaves)
        left = self.count()["running"]
        if left:
            raise ApplicationError("%s still run after they were stopped" % ", ".join(left))
        self._hook("after_quiesce", deadline)
        return Done(done.changed or bool(busy), done.detail, {**done.more, "background": self.count()})

    def cutover(self, target: Target, deadline: Deadline) -> Done:
        """Background units last, when there is something to work with. Raises ApplicationError."""
        self._hook("before_cutover", deadline)
        done = self.provider.cutover(target, deadline)
        changed = self._start(deadline)
        seen: dict[str, Any] = {}

        def nothing_is_left() -> bool:
            seen.update(self.provider.verify(list(target.old)))
            return not seen["sessions_on_old"]

        deadline.wait(
            nothing_is_left,
            lambda: "%s still holds %s connections to the old primary" % (self.provider.name, seen["sessions_on_old"]),
        )
        self._hook("after_cutover", deadline)
        return Done(done.changed or changed, done.detail, {**done.more, **seen, "background": self.count()})

    def revert(self, deadline: Deadline) -> Done:
        """Raises ApplicationError."""
        self._hook("before_revert", deadline)
        done = self.provider.revert(deadline)
        changed = self._start(deadline)
        self._hook("after_revert", deadline)
        return Done(done.changed or changed, done.detail, {**done.more, "background": self.count()})

    def _start(self, deadline: Deadline) -> bool:
        idle = [unit for unit in self.background if not units.is_active(unit)]
        for unit in self.background:
            units.start(unit, deadline)
        dead = [unit for unit in self.background if not units.is_active(unit)]
        if dead:
            raise ApplicationError("%s do not run though they were started" % ", ".join(dead))
        return bool(idle)

    def _hook(self, name: str, deadline: Deadline) -> None:
        command = (self.settings.get("hooks") or {}).get(name)
        if not command:
            return
        told = {"RELEVO_RUN_ID": self.run_id, "RELEVO_COMPONENT": self.provider.name, "RELEVO_HOOK": name}
        environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8", **told}
        limit = min(float(self.settings.get("hook_seconds") or 30.0), deadline.left())
        try:
            done = subprocess.run(
                [str(word) for word in command], capture_output=True, check=False, timeout=limit, env=environment, cwd="/"
            )
        except subprocess.TimeoutExpired:
            raise ApplicationError("hook %s (%s) did not end within %g s" % (name, command[0], limit)) from None
        except OSError as error:
            raise ApplicationError("hook %s (%s) cannot be run: %s" % (name, command[0], error.strerror)) from None
        if done.returncode != 0:
            # What it printed is its own: it may be a secret.
            raise ApplicationError("hook %s (%s) ended with %d" % (name, command[0], done.returncode))


def _is_command(command: Any) -> bool:
    if not isinstance(command, list) or not command or not all(isinstance(word, str) for word in command):
        return False
    return os.path.isabs(command[0]) and os.access(command[0], os.X_OK)
