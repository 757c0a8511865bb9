# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Verify the backups: the primary proves its archive, then one host reads the repositories; the judgement is kept for the task that speaks it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import archive_proof, past_proofs
from ansible_collections.relevo.dr.plugins.module_utils.gates import UNKNOWN, Gate, Limits, archived_in_time
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.plugin_utils.history import past, protected_since
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction, went_wrong

PROBED = "verify/probed"


class ActionModule(RunAction):
    """Arguments: config, repositories, probe_seconds, archive_timeout_seconds, proof_age_seconds, limits (options of the module repository_verify).

    Changes nothing but WAL.
    """

    def act(self) -> dict[str, Any]:
        known = self.control.read_all("database")
        primary = next((host for host, entry in known.items() if _role(entry) == "primary"), None)
        # A standby spares the primary the work.
        readers = [host for role in ("standby", "primary", "stopped") for host, entry in known.items() if _role(entry) == role]
        if not readers:
            return self._judged(["VERIFY: no database host answers, so nobody can read the repositories. Next: bring one back"])
        material: dict[str, Any] = {"gates": []}
        if self.host == primary:
            material["gates"] += self._probe(known[self.host])
        if self.host == readers[0]:
            if primary:
                self.control.wait([PROBED], float(self._task.args["probe_seconds"]) + 60)
            material.update(self._read(known[self.host]["settings"], has_primary=primary is not None))
        if not material["gates"]:
            return {"msg": "has no part in it"}
        return {"msg": "judged", **told(**material)}

    def _probe(self, primary: Mapping[str, Any]) -> list[dict[str, Any]]:
        """A marker written now, read back from every repository: what an archive_command that only pretends cannot do."""
        repositories, settings = self._task.args["repositories"], primary["settings"]
        limits = Limits(archive_timeout_seconds=float(self._task.args["archive_timeout_seconds"]))
        in_time = archived_in_time(self.host, primary["facts"]["cluster"]["settings"], limits, "VERIFY").as_dict()
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
            self.control.write(PROBED, {"until": {}, "segment": "", "gates": [gate, in_time]})
            return [gate, in_time]
        unused = [int(repository["id"]) for repository in repositories if int(repository["id"]) not in answer["tried"]]
        gate = archive_proof.without(answer["ansible_stats"]["data"]["relevo"]["gates"][0], unused)
        until = {str(number): answer["switched_at"] for number in answer["read_back"]}
        self.control.write(PROBED, {"until": until, "segment": answer["segment"], "gates": [gate, in_time]})
        return [gate, in_time]

    def _read(self, settings: Mapping[str, Any], *, has_primary: bool) -> dict[str, Any]:
        phase = Milestone("VERIFY", self.host)
        probed = self.control.read(PROBED) if has_primary else {"until": {}, "segment": "", "gates": [self._no_primary()]}
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
                "archived_segment": probed["segment"],
            },
        )
        wrong = went_wrong(answer)
        if wrong:
            sentence = "VERIFY on %s: %s. Next: mend what is named, then verify again" % (self.host, wrong)
            self._judged([sentence])
            return {"phases": [phase.ended("failed", wrong)]}
        silent = [_silent(host, entry) for host, entry in self.control.read_all("database").items() if not entry.get("reachable")]
        proven = past_proofs.gate(past(landscape["cluster"]), float(self._task.args["proof_age_seconds"]), "VERIFY").as_dict()
        gates = [*probed["gates"], *answer["gates"], *silent, proven]
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
