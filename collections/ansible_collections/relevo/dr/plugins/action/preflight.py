# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Judge what was discovered: make the plan and evaluate every gate. The action refuse speaks the judgement."""

from __future__ import annotations

import importlib
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import (
    app_components,
    approval,
    clock,
    dependencies,
    failback_plan,
    past_proofs,
    way_out,
)
from ansible_collections.relevo.dr.plugins.module_utils import gates as gate_rules
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import ApplicationError
from ansible_collections.relevo.dr.plugins.module_utils.failback_plan import make_failback_plan
from ansible_collections.relevo.dr.plugins.module_utils.handover_gates import demanded
from ansible_collections.relevo.dr.plugins.module_utils.inputs import Inputs, armed, meant, read_inputs
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone, told
from ansible_collections.relevo.dr.plugins.module_utils.plan import Landscape, Plan, make_plan
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.status import status
from ansible_collections.relevo.dr.plugins.plugin_utils import approvals, contacts, controller
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction

# Of the store, which is slow to import: only who needs it waits for it.
_HISTORY = "ansible_collections.relevo.dr.plugins.plugin_utils.history"
_ESCAPE_PACK = "ansible_collections.relevo.dr.plugins.plugin_utils.escape_pack"
# Of boto3, for the same reason.
_NAMES = "ansible_collections.relevo.dr.plugins.plugin_utils.route53"

KINDS = {
    "database": "dr_database",
    "application": "dr_application",
    "witness": "dr_witness",
    "observer": "dr_observer",
    "fence": "dr_database",
}


class ActionModule(RunAction):
    """Arguments: limits (see Limits), certificate_min_days, inventory (its sources), enforce (false: no wish of an operator, only show).

    approval: {kind, approvers, directory, limit_seconds}. secrets_directory: of what the controller changes by itself.

    Runs on the controller; changes nothing anywhere.
    """

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        self.remember("judge")
        known = self.control.read("landscape")
        phase, given = Milestone("PREFLIGHT", "controller", known["began"]), known["given"]
        landscape = read_landscape(self.control)
        runbook = meant(known["runbook"], given)
        enforce = bool(self._task.args["enforce"])
        limits = gate_rules.Limits(**self._task.args["limits"])
        past = what_was_proven(known)
        measured = {"clock_offset_seconds": landscape.clock_offsets()}
        try:
            check_that_all_were_asked(self.control)
            inputs = read_inputs(given, runbook) if runbook != "check" else _inputs_of_a_check(given, landscape)
            wish = way_out.Wish(inputs.path, inputs.restore) if runbook == "failover" else None
            plan = (
                make_failback_plan(landscape, inputs.target_site)
                if runbook == "failback"
                else make_plan(landscape, inputs.target_site, inputs.scope, planned=runbook == "switchover", wish=wish)
            )
            components = declared_components(landscape)
            names = self._names(components, plan)
            self.control.write("names_seen", names)
            if any(seen["serves"] is False for seen in names.values()):
                plan = replace(plan, done=False)
        except Refusal as refusal:
            return self._judged(
                [str(refusal)],
                phase.ended("failed", str(refusal)),
                gates=[refusal.gate],
                status=status(landscape, past, limits),
                measures=measured,
            )
        evaluate = failback_plan.evaluate if runbook == "failback" else gate_rules.evaluate
        gates = evaluate(plan, landscape, inputs, limits, _controller())
        if runbook == "check":
            gates += [
                gate_rules.archived_in_time(host, landscape.cluster(host)["settings"], limits) for host in landscape.primaries()
            ]
        if plan.planned:
            gates = demanded(gates, plan, landscape, limits)
        gates += self._proofs(past, limits)
        material, asked_gates = self._agreement(approval.subject(runbook, known["cluster"], plan, inputs), given)
        gates += asked_gates
        gates += [name_gate(name, seen, inputs.accept_unknown) for name, seen in names.items()]
        gates.append(contacts.seen(self.control))
        gates += self._dependencies(plan)
        gates += self.more_gates(plan)
        blocking = self.blocking(gates)
        if enforce and not blocking:
            # Without these files no later step does anything.
            self.control.write("inputs", asdict(inputs))
            self.control.write("plan", plan.as_dict())
            self.control.write("components", [component.as_dict() for component in components])
            self.control.write("repositories", {"leave_out": gate_rules.to_leave_out(landscape, plan.promote)})
            if known["runbook"] == "failback":
                self.control.write("handover/promoted", _promotion(landscape, plan.promote))
        sentences = [
            "%s on %s: %s. Observed: %s; expected: %s. Next: %s"
            % (gate.id, gate.host, gate.title, gate.observed, gate.expected, gate.next_action)
            for gate in blocking
        ]
        summary = _summary(plan, gates, blocking)
        about = {
            name: getattr(plan, name)
            for name in ("source_site", "target_site", "parent_run_id", "done", "resume", "system_identifier")
        }
        about["stanza"] = landscape.database.get(plan.promote, {}).get("settings", {}).get("stanza")
        judged = self._judged(
            sentences,
            phase.ended("failed" if blocking else "ok", summary),
            gates=[gate.as_dict() for gate in gates],
            run=about,
            measures=measured,
            plan=plan.as_dict(),
            status=status(landscape, past, limits),
            **material,
        )
        if not enforce and material and not blocking:
            # A workflow of AWX hands it to the run itself, as an extra variable.
            judged["ansible_stats"]["data"]["dr_approved_%s" % runbook] = material["approval"]["digest"]
        return judged

    def blocking(self, gates: list[gate_rules.Gate]) -> list[gate_rules.Gate]:
        """What keeps the run from going on. One that waits for a word may wait for the second person too."""
        awaited = ["APPROVAL"] if armed(self.control.read("landscape")["given"]) else []
        return [gate for gate in gate_rules.blocking(gates) if gate.id not in awaited]

    def more_gates(self, plan: Plan) -> list[gate_rules.Gate]:
        """Of a run that is judged again while it waits."""
        return []

    def _proofs(self, past: Optional[past_proofs.Past], limits: gate_rules.Limits) -> list[gate_rules.Gate]:
        """Of a check: when a restore and the keys were proven, and how old the escape pack is."""
        cluster, gates = self.control.read("landscape")["cluster"], []
        if past:
            gates.append(past_proofs.gate(past, limits.proof_age_seconds, required=False))
            if self.variables.get("dr_keys_paths"):
                gates.append(importlib.import_module(_HISTORY).keys_gate(cluster, past, limits.keys_proof_age_seconds))
        if not self._task.args["enforce"]:
            gates.append(importlib.import_module(_ESCAPE_PACK).gate(cluster, self._task.args["inventory"]))
        return gates

    def _agreement(self, asked: dict[str, Any], given: Mapping[str, str]) -> tuple[dict[str, Any], list[gate_rules.Gate]]:
        """What somebody is to agree to, where anybody is asked, and whether somebody has."""
        enforce, runbook, gates = bool(self._task.args["enforce"]), asked["runbook"], []
        dual = enforce and self._task.args["approval"]["kind"] == approval.DUAL
        if dual:
            gates.append(self._approval(asked))
        if enforce and given.get("dr_approved_%s" % runbook):
            gates.append(approval.same_plan(asked, given["dr_approved_%s" % runbook]))
        if not dual and (enforce or runbook == "check"):
            return {}, gates
        # For who sees a job's artifacts and not this controller's files.
        return {"approval": {"subject": asked, "digest": approval.digest(asked)}}, gates

    def _dependencies(self, plan: Plan) -> list[gate_rules.Gate]:
        """Of a check, and where a whole site is left: who looks at nothing else leaves no name behind."""
        if not self.control.exists("dependencies"):
            return [dependencies.unseen()] if plan.scope == "site" else []
        found = self.control.read("dependencies")
        seen = {dependencies.Need(**entry["need"]): dependencies.Seen(**entry["seen"]) for entry in found["looked"]}
        judged = dependencies.judge(list(seen), seen, plan.source_site.split(","), float(self._task.args["certificate_min_days"]))
        return [*judged, *(dependencies.unseen(why) for why in found["unread"])]

    def _names(self, components: Sequence[app_components.Component], plan: Plan) -> dict[str, dict[str, Any]]:
        """What the controller sees of the components that it will change by itself, by name. A failback changes none."""
        if self.control.read("landscape")["runbook"] == "failback":
            return {}
        found = {}
        for _, component in app_components.of_controller(components):
            try:
                provider = importlib.import_module(_NAMES).of(component, str(self._task.args.get("secrets_directory") or ""))
                found[component.name] = provider.check(plan.target_site)
            except ApplicationError as error:
                found[component.name] = {"address": None, "serves": None, "wrong": [str(error)]}
        return found

    def _approval(self, asked: dict[str, Any]) -> gate_rules.Gate:
        """What a second person is asked for is kept, and is looked for among the approvals on this controller."""
        asks = self._task.args["approval"]
        self.control.write("approval", {"subject": asked, "digest": approval.digest(asked)})
        approvers = approval.read_approvers(asks["approvers"])
        return approval.judge(
            asked,
            approvals.found(asks["directory"] or approvals.default_directory(self.control), approvers),
            approvers,
            controller.identity()["owner"],
            clock.utc_now(),
            float(asks["limit_seconds"]),
            self.control.run_id,
        )

    def _judged(self, sentences: list[str], phase: dict[str, Any], **material: Any) -> dict[str, Any]:
        """Keep the judgement for the task that speaks it: this one shows nothing, so that an operator reads sentences and not data."""
        self.control.write(
            "judgement", {"sentences": sentences, "summary": phase["detail"], "enforce": bool(self._task.args["enforce"])}
        )
        return {"msg": phase["detail"], **told(phases=[phase], **material)}


def declared_components(landscape: Landscape) -> tuple[app_components.Component, ...]:
    """The components as all application hosts declare them. Raises Refusal."""
    declared = {host: entry.get("settings", {}).get("components") for host, entry in landscape.application.items()}
    components = app_components.read(declared, landscape.groups["dr_application"])
    idle = set(landscape.groups["dr_application"]) - {host for component in components for host in component.hosts}
    if idle:
        raise Refusal(
            "COMPONENT",
            ", ".join(sorted(idle)),
            "no component runs there",
            "one on every application host",
            "add it to the hosts of a component, or take it out of the group dr_application",
        )
    return components


def name_gate(name: str, seen: Mapping[str, Any], accepted: Sequence[str]) -> gate_rules.Gate:
    """A name that cannot be read is unknown: whoever fails over may have to go on without it."""
    wrong, unread = seen["wrong"], seen["serves"] is None
    observed = "; ".join(wrong) or "%s, TTL %s s" % (seen["address"], seen["ttl_seconds"])
    judged = gate_rules.verdict(None if unread else not wrong)
    fix = ""
    if wrong:
        fix = "mend that, or start again with dr_accept_unknown=DNS and change the record by hand" if unread else "mend that"
    if unread and "DNS" in accepted:
        judged = gate_rules.ACCEPTED
    return gate_rules.Gate(
        "DNS", "%s can be changed" % name, "controller", observed, "a record that can be read and changed", judged, fix
    )


def check_that_all_were_asked(control: Control) -> None:
    """A host whose question itself went wrong is no silent host: nobody may be fenced or passed over for that."""
    groups = control.read("landscape")["groups"]
    for kind, group in KINDS.items():
        for host in groups[group]:
            if not control.exists("%s/%s" % (kind, host)):
                raise Refusal(
                    "REACH",
                    host,
                    "it was not asked as %s: its part of the play before this one failed" % kind,
                    "every host asked, whether or not it answers",
                    "mend what the error above names, and start again",
                )


def read_landscape(control: Control) -> Landscape:
    """What the discover tasks kept, as one value."""
    known = control.read("landscape")
    restore = control.read_all("restore")
    # Past results are read only where a restore is looked at: a promotion has no time for them.
    rate = measured_rate(known["cluster"]) if restore else way_out.Rate()
    database, application, witness, observer, fence = (control.read_all(kind) for kind in KINDS)
    return Landscape(known["groups"], known["sites"], database, application, witness, observer, fence, restore, rate)


def what_was_proven(known: Mapping[str, Any]) -> Optional[past_proofs.Past]:
    """Only for a check: who fails over has no time for it, and would not stay because of it."""
    if known["runbook"] != "check":
        return None
    past: past_proofs.Past = importlib.import_module(_HISTORY).past(known["cluster"])
    return past


def measured_rate(cluster: str) -> way_out.Rate:
    """What the newest restore test measured that restored all of a backup."""
    history = importlib.import_module(_HISTORY)
    try:
        records = history.settled(cluster, "restore_test")
    except history.RelevoError:
        return way_out.Rate(said="assumed: no past result can be read")
    for record in records:
        for test in record["measures"].get("restore_tests") or []:
            if test.get("restore_bytes_per_second"):
                return way_out.Rate(float(test["restore_bytes_per_second"]), "measured by %s" % record["run_id"])
    return way_out.Rate()


def _inputs_of_a_check(given: dict[str, str], landscape: Landscape) -> Inputs:
    """A check asks for the site that has no primary, unless one was named."""
    primaries = landscape.primaries()
    others = [host for host in landscape.groups["dr_database"] if host not in primaries]
    other = landscape.sites.get(others[0], "") if others else ""
    return Inputs(mode="drill", scope="site", target_site=given.get("dr_target_site") or other)


def _promotion(landscape: Landscape, host: str) -> dict[str, Any]:
    """What an earlier run made of the host that serves."""
    cluster = landscape.cluster(host)
    parent = (cluster.get("history") or [{"timeline": None, "lsn": None}])[-1]
    return {
        "already": True,
        "promoted_at": landscape.database[host]["facts"]["host"].get("promoted_at"),
        "timeline": cluster["timeline"],
        "parent": parent["timeline"],
        "fork_lsn": parent["lsn"],
        "history": cluster.get("history") or [],
        "births": cluster.get("births") or {},
    }


def _controller() -> gate_rules.Controller:
    key = os.environ["RELEVO_SIGNING_KEY"] + ".pub"
    with open(key, encoding="utf-8") as source:
        public_key = " ".join(source.read().split()[:2])
    return gate_rules.Controller(
        forks=controller.forks(), public_key=public_key, free_bytes=shutil.disk_usage(os.path.dirname(key)).free
    )


def _summary(plan: Plan, gates: list[gate_rules.Gate], blocking: list[gate_rules.Gate]) -> str:
    if blocking:
        return "%d of %d gates do not pass" % (len(blocking), len(gates))
    if plan.done:
        return "%s is the primary already and no run is unfinished: nothing to do" % plan.promote
    if not plan.cutover:
        return "all %d gates pass: %s come back behind %s" % (len(gates), ", ".join(plan.fence or plan.follow), plan.promote)
    said = "all %d gates pass: fence %s, promote %s, serve from %s" % (
        len(gates),
        ", ".join(plan.fence),
        plan.promote,
        ", ".join(plan.cutover),
    )
    # Hours may follow, and what is lost by wish: the operator reads both ways once more.
    return said + "".join(". %s: %s" % (gate.title, gate.observed) for gate in gates if plan.restore and gate.id == "WAYOUT")
