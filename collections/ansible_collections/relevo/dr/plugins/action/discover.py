# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Ask one host about its part, and keep the answer in the run's directory. A host that does not answer is an answer, never an error."""

from __future__ import annotations

import socket
import time
from typing import Any, Optional

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible_collections.relevo.dr.plugins.module_utils import inputs
from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc
from ansible_collections.relevo.dr.plugins.module_utils.milestone import beginning
from ansible_collections.relevo.dr.plugins.module_utils.plan import Landscape
from ansible_collections.relevo.dr.plugins.module_utils.way_out import PROMOTE, wants_restore, words_of
from ansible_collections.relevo.dr.plugins.plugin_utils import controller
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction, went_wrong

# Longer than any host takes to answer, or to be given up.
ANSWER_SECONDS = 60.0
DENIED = (
    "Permission denied",
    "Host key verification failed",
    "HOST IDENTIFICATION HAS CHANGED",
    "No supported authentication",
    "password",
)


class ActionModule(RunAction):
    """Arguments: kinds (of database, application, witness, observer), module, arguments, settings, ask_databases, restore.

    With ask_databases (all, reachable) the database hosts are waited for, and the module gets ``databases: [{host, name, port, reachable}]``.
    With restore (arguments of ``restore_info``) a host of the target site is asked what it could restore, where a failover may need that.
    """

    def act(self) -> dict[str, Any]:
        self.remember("%s/%s" % (self.host, "-".join(self._task.args["kinds"])))
        arguments = dict(self._task.args["arguments"])
        silent = self._silent()
        if self._task.args.get("ask_databases") and not silent:
            arguments["databases"] = self._databases(every=self._task.args["ask_databases"] == "all")
        entry = {"observed": beginning(), "settings": self._task.args.get("settings") or {}, **self._answer(arguments, silent)}
        lock = entry.get("facts", {}).get("host", {}).get("lock")
        entry["lock_owner_dead"], entry["lock_owner_alive"] = controller.owner_dead(lock), controller.owner_alive(lock)
        for kind in self._task.args["kinds"]:
            self.control.write("%s/%s" % (kind, self.host), entry)
        if self._task.args.get("restore") and entry["reachable"]:
            self._ask_for_a_restore(dict(self._task.args["restore"]))
        return {"reachable": entry["reachable"], "msg": entry.get("error") or "answers"}

    def _ask_for_a_restore(self, arguments: dict[str, Any]) -> None:
        """In this task and no other: a failover that promotes a standby must not wait for a question that it does not need."""
        known = self.control.read("landscape")
        wish, site = inputs.wish(known["given"]), known["given"].get("dr_target_site")
        if (
            inputs.meant(known["runbook"], known["given"]) != "failover"
            or wish.path == PROMOTE
            or known["sites"].get(self.host) != site
        ):
            return
        candidates = [host for host in known["groups"]["dr_database"] if known["sites"].get(host) == site]
        self.control.came(["database/%s" % host for host in candidates], ANSWER_SECONDS)
        landscape = Landscape(known["groups"], known["sites"], self.control.read_all("database"), {}, {}, {}, {})
        if not wants_restore(landscape, candidates, wish):
            return
        answer = self.ask("relevo.dr.restore_info", {**arguments, "words": words_of(landscape, self.host, wish)})
        wrong = went_wrong(answer)
        self.control.write("restore/%s" % self.host, {"error": wrong} if wrong else answer["restore"])

    def _databases(self, *, every: bool) -> list[dict[str, Any]]:
        """The database hosts, when they have answered or were given up; one that never comes is missed by the judgement."""
        self.make_ready(self._task.args["module"])
        hosts = self.control.read("landscape")["groups"]["dr_database"]
        self.control.came(["database/%s" % host for host in hosts], ANSWER_SECONDS)
        return [
            {"host": name, "reachable": known["reachable"], **{key: known["settings"][key] for key in ("name", "port")}}
            for name, known in self.control.read_all("database").items()
            if every or known["reachable"]
        ]

    def _answer(self, arguments: dict[str, Any], silent: Optional[str]) -> dict[str, Any]:
        if silent:
            return {"reachable": False, "denied": False, "error": silent}
        asked = time.time()
        try:
            answer = self._execute_module(module_name=self._task.args["module"], module_args=arguments, task_vars=self.variables)
        except AnsibleConnectionFailure as error:
            return {"reachable": False, "denied": any(word in str(error) for word in DENIED), "error": _short(str(error))}
        except AnsibleError as error:
            return {"reachable": False, "denied": True, "error": _short(str(error))}
        answered = time.time()
        if answer.get("unreachable") or answer.get("failed"):
            said = _short(str(answer.get("msg") or answer.get("module_stderr") or "no reason given"))
            return {"reachable": False, "denied": not answer.get("unreachable"), "error": said}
        facts = {
            name: value
            for name, value in answer.items()
            if name in ("cluster", "host", "guard", "repository", "application", "ledger", "last_accepted", "leases")
        }
        wall = facts.get("host", {}).get("wall_at")
        offset = clock_offset_seconds(asked, parse_utc(wall).timestamp(), answered) if wall else None
        return {"reachable": True, "denied": False, "error": None, "facts": facts, "clock_offset_seconds": offset}

    def _silent(self) -> Optional[str]:
        """A quick look before ssh, whose own time-outs are long: a dead host must not cost ten seconds of the outage."""
        if not str(self._connection.transport).endswith("ssh"):
            return None
        address = self._templar.template(self.variables.get("ansible_host") or self.host)
        port = int(self._templar.template(self.variables.get("ansible_port") or 22))
        last = ""
        for _ in range(2):
            try:
                with socket.create_connection((address, port), timeout=0.7):
                    return None
            except OSError as error:
                last = str(error)
        return "no connection to port %d of %s: %s" % (port, address, last)


def clock_offset_seconds(asked: float, wall: float, answered: float) -> float:
    """How far a host's clock is surely off: its reading lies between question and answer, or that far outside."""
    return min(0.0, wall - asked) or max(0.0, wall - answered)


def _short(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return " ".join(lines)[:400]
