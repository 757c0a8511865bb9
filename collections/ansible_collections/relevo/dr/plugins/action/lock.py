# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Take, or give back, this host's part of the run's lock."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, beginning, told
from ansible_collections.relevo.dr.plugins.module_utils.plan import read_plan
from ansible_collections.relevo.dr.plugins.module_utils.stale_lock import sign_of_life
from ansible_collections.relevo.dr.plugins.plugin_utils import armed_files, controller
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control, ControlError
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction, went_wrong


class ActionModule(RunAction):
    """Arguments: state (held, free), lease_seconds, orphan_wait_seconds (held), accounted (free).

    The promoting host decides: every other host takes its part only after that one did, so that two operators never hold half each.
    """

    def act(self) -> dict[str, Any]:
        host, plan = self.host, read_plan(self.control.read("plan"))
        known = entry_of(self.control, host)
        if host not in plan.hosts() or host in plan.witness or not known.get("reachable"):
            return {"msg": "has no part in the lock"}
        if self._task.args["state"] == "free":
            return self._free(plan.promote)
        if armed_files.acted(self.control, host):
            return {"msg": "held, since the word was said"}
        armed_files.require_word(self.control)
        return self._hold(plan.promote, known)

    def _hold(self, first: str, known: dict[str, Any]) -> dict[str, Any]:
        phase = Milestone("LOCK", self.host)
        wait_seconds = float(self._task.args["orphan_wait_seconds"])
        if self.host != first and not self.control.wait(["lock/%s" % first], wait_seconds + 30)[0]["held"]:
            return {"msg": "%s did not give the lock" % first}
        lock = known.get("facts", {}).get("host", {}).get("lock") or {}
        dead, alive = controller.owner_dead(lock), self._sign_of_life(lock)
        arguments = {
            **held_by(self.control, known, self._task.args),
            "dead_run_id": lock.get("run_id", "") if dead else "",
            "living_run_id": lock.get("run_id", "") if alive and not dead else "",
            "sign_of_life": alive or "",
        }
        # Before the question: the lease on the host begins no earlier.
        asked = beginning()
        answer = self.ask("relevo.dr.run_lock", arguments)
        wrong = went_wrong(answer)
        lease = float(self._task.args["lease_seconds"])
        self.control.write("lock/%s" % self.host, {"held": wrong is None, "began": asked, "lease_seconds": lease})
        if wrong is None:
            detail = "taken over from %s" % answer["taken_over"] if answer.get("taken_over") else "held"
            return {"msg": detail, **told(phases=[phase.ended(detail=detail)])}
        said = "G10 on %s: %s" % (self.host, wrong)
        return {"failed": True, "msg": said, **told(refused=True, phases=[phase.ended("failed", said)])}

    def _sign_of_life(self, lock: dict[str, Any]) -> Optional[str]:
        """Of the run that holds this host's part: its process as it is now, and what the other hosts said; this one will tell for itself."""
        if not lock:
            return None
        seen = {**self.control.read_all("database"), **self.control.read_all("application")}
        mine = {"facts": {"host": {"lock": lock, "lock_expired": True}}, "lock_owner_alive": controller.owner_alive(lock)}
        return sign_of_life(lock["run_id"], {**seen, self.host: mine}.items())

    def _free(self, first: str) -> dict[str, Any]:
        missing = self._unaccounted() if self._task.args["accounted"] else []
        if missing and self.host != first:
            return {"msg": "keeps its part of the lock, as %s tells" % first}
        if missing:
            # Ansible goes on with the next play when the only host of one fell silent.
            said = "the lock of run %s stays on %s: %s made no account of it. Next: bring %s back, then start this runbook again; it makes it"
            return {"failed": True, "msg": said % (self.control.run_id, self.host, *[", ".join(missing)] * 2)}
        wrong = went_wrong(self.ask("relevo.dr.run_lock", {"state": "free", "run_id": self.control.run_id}))
        return {"failed": wrong is not None, "msg": wrong or "free"}

    def _unaccounted(self) -> list[str]:
        """Witnesses that answered when this run began, and have not accounted for its promotion; what they said is registered by dr_ledger."""
        if not self.control.exists("handover/promoted"):
            return []
        known = self.variables["hostvars"]
        witnesses = [host for host, entry in self.control.read_all("witness").items() if entry["reachable"]]
        return [host for host in witnesses if not (known[host].get("dr_ledger_measures") or {}).get("ansible_stats")]


def held_by(control: Control, known: Mapping[str, Any], limits: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with which this run takes a host's part of a lock that is free. known: what the host said."""
    settings, cluster = known.get("settings", {}), known.get("facts", {}).get("cluster", {})
    return {
        "state": "held",
        "run_id": control.run_id,
        "dead_run_id": "",
        "living_run_id": "",
        "sign_of_life": "",
        "lease_seconds": limits["lease_seconds"],
        "orphan_wait_seconds": limits["orphan_wait_seconds"],
        "checkpoint": cluster.get("role") == "primary",
        **{name: settings[name] for name in ("bin_directory", "port") if "bin_directory" in settings},
        **control.read("landscape")["controller"],
    }


def entry_of(control: Control, host: str) -> dict[str, Any]:
    """What a host said that has a part in the lock; empty where it was not asked."""
    for kind in ("database", "application"):
        try:
            value: dict[str, Any] = control.read("%s/%s" % (kind, host))
            return value
        except ControlError:
            continue
    return {}
