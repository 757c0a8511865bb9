# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify the backups: the primary proves its archive, then one host reads the repositories; the judgement is kept for the task that speaks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import archive_proof
from ansible_collections.relevo.dr.plugins.module_utils.gates import UNKNOWN, Gate
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.plugin_utils.history import protected_since
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction, went_wrong

PROBED = "verify/probed"


class ActionModule(RunAction):
    """Arguments: config, repositories, probe_seconds, limits (options of the module repository_verify), lag_seconds. Changes nothing but WAL."""

    def act(self) -> dict[str, Any]:
        known = self.control.read_all("database")
        primary = next((host for host, entry in known.items() if _role(entry) == "primary"), None)
        # A standby spares the primary the work.
        readers = [host for role in ("standby", "primary", "stopped") for host, entry in known.items() if _role(entry) == role]
        if not readers:
            return self._judged(["VERIFY: no database host answers, so nobody can read the repositories. Next: bring one back"])
        material: dict[str, Any] = {"gates": []}
        if self.host == primary:
            material["gates"] += self._probe(known[self.host]["settings"])
        if self.host == readers[0]:
            if primary:
                self.control.wait([PROBED], float(self._task.args["probe_seconds"]) + 60)
            material.update(self._read(known[self.host]["settings"], has_primary=primary is not None))
        if not material["gates"]:
            return {"msg": "has no part in it"}
        return {"msg": "judged", **told(**material)}

    def _probe(self, settings: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A marker written now, read back from every repository: what an archive_command that only pretends cannot do."""
        repositories = self._task.args["repositories"]
        answer = self.ask(
            "relevo.dr.archive_probe",
            {
                **{name: settings[name] for name in ("stanza", "bin_directory", "port")},
                "config": self._task.args["config"],
                "repositories": repositories,
                "host_name": self.host,
                "timeout": float(self._task.args["probe_seconds"]),
                "required": False,
            },
        )
        wrong = went_wrong(answer)
        if wrong:
            gate = {**archive_proof.gate(None, self.host), "observed": wrong, "verdict": "fail"}
            self.control.write(PROBED, {"until": {}, "gate": gate})
            return [gate]
        gate = answer["ansible_stats"]["data"]["relevo"]["gates"][0]
        until = {
            str(repository["id"]): answer["switched_at"]
            for repository in repositories
            if answer["switched_at"] and "repository %s" % repository["id"] not in answer["missing"]
        }
        self.control.write(PROBED, {"until": until, "gate": gate})
        return [gate]

    def _read(self, settings: Mapping[str, Any], *, has_primary: bool) -> dict[str, Any]:
        phase = Milestone("VERIFY", self.host)
        probed = self.control.read(PROBED) if has_primary else {"until": {}, "gate": self._no_primary()}
        landscape = self.control.read("landscape")
        limits = dict(self._task.args["limits"])
        if landscape["given"].get("dr_backup_full", "").lower() in {"true", "yes"}:
            limits["full"] = True
        answer = self.ask(
            "relevo.dr.repository_verify",
            {
                **{name: settings[name] for name in ("stanza", "data_directory", "bin_directory")},
                **limits,
                "config": self._task.args["config"],
                "repositories": self._task.args["repositories"],
                "protected_since": protected_since(landscape["cluster"]),
                "archived_until": probed["until"],
            },
        )
        wrong = went_wrong(answer)
        if wrong:
            sentence = "VERIFY on %s: %s. Next: mend what is named, then verify again" % (self.host, wrong)
            self._judged([sentence])
            return {"phases": [phase.ended("failed", wrong)]}
        silent = [_silent(host, entry) for host, entry in self.control.read_all("database").items() if not entry.get("reachable")]
        gates = [probed["gate"], *answer["gates"], *silent]
        bad = [gate for gate in gates if gate["verdict"] in ("fail", "unknown")]
        summary = "%d of %d gates do not pass" % (len(bad), len(gates)) if bad else "all %d gates pass" % len(gates)
        sentences = [
            "%(id)s on %(host)s: %(title)s. Observed: %(observed)s; expected: %(expected)s. Next: %(next_action)s" % gate
            for gate in bad
        ]
        self._judged(sentences, summary)
        return {
            "gates": gates,
            "phases": [phase.ended("failed" if bad else "ok", summary)],
            "measures": {"backup_verification": answer["repositories"]},
        }

    def _judged(self, sentences: list[str], summary: str = "") -> dict[str, Any]:
        """Keep the judgement for the task that speaks it."""
        judgement = {"heading": "The backups are not proven.", "sentences": sentences, "summary": summary, "enforce": False}
        self.control.write("judgement", judgement)
        return {"msg": summary or sentences[0]}

    def _no_primary(self) -> dict[str, Any]:
        gate = archive_proof.gate(None, self.host)
        return {**gate, "observed": "no primary answers", "next_action": "bring the primary back, or fail over; then verify again"}


def _silent(host: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    """A host that nobody could ask may see other repositories than those that answer."""
    observed = str(entry.get("error") or "no answer")
    fix = "try: ansible -i INVENTORY %s -b -m ping" % host
    return Gate("REACH", "database host answers", host, observed, "answers", UNKNOWN, fix, "VERIFY").as_dict()


def _role(entry: Mapping[str, Any]) -> str:
    """What a database host said of itself: primary, standby, stopped (it can still read repositories), or empty when it does not answer."""
    cluster = (entry.get("facts") or {}).get("cluster") or {}
    if not entry.get("reachable") or not cluster.get("system_identifier"):
        return ""
    return str(cluster["role"]) if cluster.get("state") == "running" else "stopped"
