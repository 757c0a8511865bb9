# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""On a host that comes back: see that it is stopped, and keep what only it has, before anything there is touched."""

from __future__ import annotations

from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.module_utils.plan import read_plan
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction, went_wrong


class ActionModule(RunAction):
    """Arguments: timeout_seconds, config. The primary says how its relations are called; the hosts that come back wait for that."""

    def act(self) -> dict[str, Any]:
        plan = read_plan(self.control.read("plan"))
        if plan.done or self._task.check_mode:
            return {"msg": "has no part in it"}
        settings = self.control.read("database/%s" % self.host)["settings"]
        if self.host == plan.promote:
            answer = self.ask("relevo.dr.relation_names", {name: settings[name] for name in ("bin_directory", "port", "database")})
            # Numbers are enough to go on with.
            self.control.write("names", answer.get("names") or {})
        return self._salvage(settings, plan.promote) if self.host in plan.fence else {"msg": "keeps nothing"}

    def _salvage(self, settings: dict[str, Any], primary: str) -> dict[str, Any]:
        run = {"run_id": self.control.run_id, "host": self.host}
        started = Milestone("FENCE", self.host)
        where = {name: settings[name] for name in ("unit", "data_directory", "bin_directory", "port")}
        fenced = self.ask("relevo.dr.server_fence", {**where, **run, "fast_seconds": 60})
        wrong = went_wrong(fenced)
        if wrong:
            return {"failed": True, "msg": wrong, **told(phases=[fenced.get("phase") or started.ended("failed", wrong)])}
        prefixes = [str(entry["prefix"]) for entry in self.control.read_all("lost").values() if entry.get("prefix")]
        [names] = self.control.wait(["names"], 60)
        started = Milestone("SALVAGE", self.host)
        theirs = self.control.read("database/%s" % primary)["facts"]["cluster"]
        answer = self.ask(
            "relevo.dr.wal_salvage",
            {
                **{name: settings[name] for name in ("data_directory", "bin_directory", "stanza")},
                **run,
                "timeline": theirs["timeline"],
                "history": theirs.get("history") or [],
                "births": theirs.get("births") or {},
                "config": self._task.args["config"],
                "prefix": prefixes[0] if prefixes else "",
                "names": names,
                "timeout_seconds": self._task.args["timeout_seconds"],
            },
        )
        wrong = went_wrong(answer)
        if wrong:
            said = "%s. Nothing was rewound. Next: mend that, then start the same runbook again" % wrong
            return {
                "failed": True,
                "msg": said,
                **told(phases=[fenced["phase"], answer.get("phase") or started.ended("failed", said)]),
            }
        kept = answer["salvage"]
        self.control.write("salvage/%s" % self.host, {"salvage": kept, "references": answer["references"]})
        return {
            "changed": bool(fenced.get("changed") or answer["changed"]),
            "msg": answer["phase"]["detail"],
            **told(phases=[fenced["phase"], answer["phase"]], measures={"salvage": {self.host: kept}}),
        }
