# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Bring a host's data back into the primary's lineage, once what only it has is kept."""

from __future__ import annotations

from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.gates import PASS, Gate
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.module_utils.plan import read_plan
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction, went_wrong

_TAKEN = (
    "system_identifier",
    "host_name",
    "cluster_version",
    "cluster_name",
    "data_directory",
    "config_directory",
    "bin_directory",
    "unit",
    "port",
    "config",
    "stanza",
    "restore_timeout",
    "source",
    "replication",
)


NOTHING = "nothing to do: the data are of the primary's lineage"


class ActionModule(RunAction):
    """Arguments: those of standby_build, source, replication."""

    def act(self) -> dict[str, Any]:
        plan = read_plan(self.control.read("plan"))
        if self.host not in plan.fence or plan.done or self._task.check_mode:
            return {"msg": "has no part in it"}
        # Not without: this is what says that the old WAL is sealed.
        kept = self.control.read("salvage/%s" % self.host)["salvage"]
        primary = self.control.read("database/%s" % plan.promote)["facts"]["cluster"]
        started = Milestone("REBUILD", self.host)
        arguments = {
            **{name: self._task.args[name] for name in _TAKEN},
            "method": self.control.read("inputs")["method"],
            "run_id": self.control.run_id,
            "timeline": primary["timeline"],
            "history": primary.get("history") or [],
            "births": primary.get("births") or {},
            "primary_bytes": primary.get("size_bytes") or 0,
            "divergent_bytes": divergent_bytes(kept),
        }
        answer = self.ask("relevo.dr.standby_rebuild", {**arguments, "step": "choose"})
        rebuild = {"method": "none", "ways": {}, "failed": {}, "seconds": 0.0}
        if not went_wrong(answer) and answer["choice"]["methods"]:
            choice = answer["choice"]
            # Before the data are touched, for whoever would rather have them another way.
            self._display.display("%s: %s" % (self.host, predicted(choice)))
            answer = self.ask("relevo.dr.standby_rebuild", {**arguments, "step": "act", "methods": choice["methods"]})
            sizes = {name: arguments[name] for name in ("primary_bytes", "divergent_bytes")}
            rebuild = {"ways": choice["ways"], **sizes, **(answer.get("rebuild") or {})}
        wrong = went_wrong(answer)
        if wrong:
            said = "%s. It stays fenced and stopped. Next: mend that, then start the same runbook again" % wrong
            return {"failed": True, "msg": said, **told(phases=[answer.get("phase") or started.ended("failed", said)])}
        gate = Gate(
            "METHOD",
            "how the data come back",
            self.host,
            sentence(rebuild),
            "the quickest that is possible, or the one asked for",
            PASS,
        )
        self._display.display("%s: %s" % (self.host, gate.observed))
        # Who follows as it is has lost nothing, and people are not told that there is no way back.
        phase = (
            started.ended(detail="by %s" % rebuild["method"])
            if rebuild["ways"]
            else {**started.ended("skipped", NOTHING), "required": False}
        )
        return {
            "changed": bool(answer["changed"]),
            "msg": gate.observed,
            **told(phases=[phase], gates=[{**gate.as_dict(), "phase": "REBUILD"}], measures={"rebuild": {self.host: rebuild}}),
        }


def divergent_bytes(kept: dict[str, Any]) -> int:
    """How much WAL lies behind the fork."""
    if not kept["fork_lsn"] or not kept["end_lsn"]:
        return 0
    return max(0, lsn_bytes(kept["end_lsn"]) - lsn_bytes(kept["fork_lsn"]))


def predicted(choice: dict[str, Any]) -> str:
    """What will be done to the data, and how long that will take."""
    first = choice["methods"][0]
    seconds = choice["ways"][first]["predicted_seconds"]
    return "its data come back by %s, in about %.0f s; %s. The old data end now" % (first, seconds, ways(choice["ways"]))


def sentence(rebuild: dict[str, Any]) -> str:
    """What was chosen, what it was chosen from, and what failed before it."""
    if rebuild["method"] == "none":
        return NOTHING
    failed = "".join(", after %s had failed (%s)" % (name, said) for name, said in rebuild["failed"].items())
    return "by %s in %.0f s%s; %s" % (rebuild["method"], rebuild["seconds"], failed, ways(rebuild["ways"]))


def ways(found: dict[str, Any]) -> str:
    """All of them, with their times and their obstacles."""
    return "predicted: " + "; ".join(
        "%s %s" % (name, "not possible (%s)" % way["obstacle"] if way["obstacle"] else "in about %.0f s" % way["predicted_seconds"])
        for name, way in found.items()
    )
