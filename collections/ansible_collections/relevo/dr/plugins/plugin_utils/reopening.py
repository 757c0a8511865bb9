# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The way back of a planned run, until something is promoted: who may open the old side again, and when.

One file is claimed by whoever comes first: `promote` by the promoting host just before it asks for the promotion, `reopen` by the first host whose part
failed. After `promote` only that host's own definite no leads back; after the promotion nothing does.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.plan import Plan
from ansible_collections.relevo.dr.plugins.plugin_utils import application_parts
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Aborted, Control
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import went_wrong

PROMOTE, REOPEN = "promote", "reopen"
_TURN = "handover/turn"
Ask = Callable[[str, dict[str, Any]], dict[str, Any]]


class NotReopened(Exception):
    """The old side stays closed; the message is a sentence."""


def claim_promotion(control: Control) -> None:
    """From here only a definite no leads back. Aborted when the way back was taken already."""
    turn = control.claim(_TURN, {"to": PROMOTE})
    if turn["to"] != PROMOTE:
        raise Aborted("%s ended this hand-over: the old side is opened again" % turn["by"])


class Reopening:
    """One host's part in the way back. seconds: how long the others' parts may take."""

    def __init__(self, control: Control, plan: Plan, host: str, ask: Ask, seconds: float) -> None:
        self._control, self._plan, self._host, self._seconds = control, plan, host, seconds
        self._ask_host = ask

    def go(
        self, database: dict[str, Any], application: list[dict[str, Any]], *, refused: bool, served: bool
    ) -> list[dict[str, Any]]:
        """The phases of this host's part. Raises NotReopened.

        database, application: the arguments of this host's modules, empty where it has none; the application's in the order in which it starts.
        refused: whether this host's promotion surely did not begin.
        served: whether this host's application ran before this run, or before the dead one for which it goes on.
        """
        turn = self._control.claim(_TURN, {"to": REOPEN, "by": self._host})
        phases: list[dict[str, Any]] = []
        if self._host == self._plan.promote:
            self._withdraw(database, asked=turn["to"] == PROMOTE, refused=refused)
        self._certain()
        if self._host in self._plan.fence:
            phases.append(self._open(database))
        for host, opened in zip(self._plan.fence, self._wait(["handover/reopened/%s" % host for host in self._plan.fence])):
            if not opened["ok"]:
                raise NotReopened("%s was not opened again (%s)" % (host, opened["said"]))
        phases += [self._started(self._ask(application_parts.MODULE, arguments)) for arguments in (application if served else [])]
        self._ask("relevo.dr.run_lock", {"state": "free", "run_id": self._control.run_id})
        return phases

    def _withdraw(self, database: dict[str, Any], *, asked: bool, refused: bool) -> None:
        """Make this host's challenge void. A host that was never asked to promote, and is gone, promoted nothing for this run."""
        if asked and not refused:
            self._control.write("handover/withdrawn", {"certain": False, "said": "%s was asked to promote itself" % self._host})
            return
        answer = self._ask("relevo.dr.standby_promote", {**database, "step": "withdraw"})
        wrong = went_wrong(answer)
        certain = (not asked) if wrong else bool(answer["in_recovery"])
        said = wrong or "%s is %s" % (self._host, "still a standby" if certain else "a primary")
        self._control.write("handover/withdrawn", {"certain": certain, "said": said})

    def _certain(self) -> None:
        [withdrawn] = self._wait(["handover/withdrawn"])
        if not withdrawn["certain"]:
            raise NotReopened("it is not certain that nothing was promoted (%s)" % withdrawn["said"])

    def _open(self, database: dict[str, Any]) -> dict[str, Any]:
        answer = self._ask("relevo.dr.server_reopen", database)
        wrong = went_wrong(answer)
        self._control.write("handover/reopened/%s" % self._host, {"ok": wrong is None, "said": wrong})
        return self._started(answer)

    def _ask(self, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """An answer in any case: the others wait for what came of it."""
        try:
            return self._ask_host(module, arguments)
        except Aborted:
            raise
        except Exception as error:  # noqa: BLE001 - also what nobody foresaw is an answer, or the others wait out their limit
            return {"failed": True, "msg": "%s: %s" % (type(error).__name__, error)}

    def _started(self, answer: dict[str, Any]) -> dict[str, Any]:
        wrong = went_wrong(answer)
        if wrong:
            raise NotReopened(wrong)
        phase: dict[str, Any] = answer["phase"]
        return phase

    def _wait(self, names: list[str]) -> list[Any]:
        try:
            return self._control.wait(names, self._seconds, regardless=True)
        except Aborted as error:
            raise NotReopened(str(error)) from None
