# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who plays which group of components in a hand-over, when its turn is, and with which arguments. Waits by files of the run, as everything there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import app_components
from ansible_collections.relevo.dr.plugins.module_utils.app_components import Component
from ansible_collections.relevo.dr.plugins.module_utils.plan import Plan
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control

MODULE = "relevo.dr.app_component"


class ApplicationParts:
    """One host's components, in the order in which it plays them."""

    def __init__(self, control: Control, plan: Plan, host: str) -> None:
        self._control, self._plan, self._host = control, plan, host
        self.components = app_components.load(control.read("components"))
        self.groups = app_components.parts(self.components, host)

    def name(self, step: str, number: int) -> str:
        """Of a module that is started ahead of time; the first has a plain one."""
        return step if not self.groups or number == self.groups[0][0] else "%s-%d" % (step, number + 1)

    def phase(self, phase: str, position: int) -> str:
        """A host's second group is a phase of its own."""
        return phase if position == 0 else "%s %d" % (phase, position + 1)

    def arguments(self, group: Sequence[Component], step: str, **more: Any) -> dict[str, Any]:
        """Of the module that plays a group here."""
        played = [{**one.settings[self._host], "name": one.name, "provider": one.provider} for one in group]
        return {"components": played, **more, "step": step, "run_id": self._control.run_id, "host": self._host}

    def target(self) -> dict[str, Any]:
        """What a cutover leads to, and away from."""
        database = self._control.read("database/%s" % self._plan.promote)["settings"]
        old = [self._control.read("database/%s" % host)["settings"] for host in self._plan.others()]
        return {
            "address": database["name"],
            "port": database["port"],
            "system_identifier": self._plan.system_identifier,
            "old": [
                {"host": host, **{name: entry[name] for name in ("name", "address", "port")}}
                for host, entry in zip(self._plan.others(), old)
            ],
        }

    def stopped(self, number: int, *, wait_seconds: float) -> None:
        """Until what stands in front of a group has stopped on every host; one that does not stop must not keep the rest from it."""
        self._control.came(self._marks("stopped", app_components.behind(self.components, number), self._plan.quiesce), wait_seconds)

    def has_stopped(self, number: int) -> None:
        """This host's part of a group is over, however it ended."""
        self._control.write("handover/stopped/%d-%s" % (number, self._host), {})

    def begin(self, number: int, group: Sequence[Component], limit_seconds: float) -> None:
        """Until it is a group's turn. Aborted when another host's part failed, or nothing came."""
        sees = all(one.hosts for one in group) and app_components.sees_the_primary(group, self._host)
        first = ["handover/authorised"] if sees else ["handover/promoted"]
        self._control.wait(
            [*first, *self._marks("served", app_components.before(self.components, number), self._plan.cutover)], limit_seconds
        )

    def serves(self, number: int, said: dict[str, Any]) -> None:
        """This host's part of a group uses the new primary."""
        self._control.write("handover/served/%d-%s" % (number, self._host), said)

    def _marks(self, what: str, players: list[tuple[int, str]], hosts: Sequence[str]) -> list[str]:
        """What has no host is played for the promoted one."""
        wanted = [(number, host or self._plan.promote) for number, host in players if not host or host in hosts]
        return ["handover/%s/%d-%s" % (what, number, host) for number, host in dict.fromkeys(wanted)]
