# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Judge the salvage before anything is rewound: is every lost transaction of the ledger in what was sealed?"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import salvage
from ansible_collections.relevo.dr.plugins.module_utils.gates import ACCEPTED, FAIL, PASS, Gate, verdict
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.plan import read_plan
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction


class ActionModule(RunAction):
    """No arguments. Runs on the controller, once for all hosts."""

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        plan = read_plan(self.control.read("plan"))
        if plan.done or not plan.fence:
            return {"msg": "nothing was to be kept"}
        kept, ledgers = self.control.read_all("salvage"), self.control.read_all("lost")
        gates = [whole(host, kept[host]["salvage"]) for host in plan.fence]
        gate, measures = found(plan.fence, kept, ledgers)
        gates.append(gate)
        if "G21" in self.control.read("inputs")["accept_unknown"]:
            gates = [gate if gate.verdict == PASS else replace(gate, verdict=ACCEPTED) for gate in gates]
        wrong = [gate for gate in gates if gate.verdict not in (PASS, ACCEPTED)]
        sentences = [
            "%s on %s: %s. Observed: %s; expected: %s. Nothing was rewound. Next: %s"
            % (gate.id, gate.host, gate.title, gate.observed, gate.expected, gate.next_action)
            for gate in wrong
        ]
        said = "\n".join(sentences) or "; ".join(gate.observed for gate in gates)
        return {"failed": bool(wrong), "msg": said, **told(gates=[gate.as_dict() for gate in gates], measures=measures)}


_ACCEPT = "look into /var/lib/relevo-salvage on that host; to go on without it give -e dr_accept_unknown=G21 -e dr_reason=..."


def whole(host: str, kept: dict[str, Any]) -> Gate:
    """Whether what is kept is all that only this host had."""
    wrong = salvage.shortfall(kept)
    follows = "it follows the primary's timeline %s: it has nothing of its own" % kept["timeline"]
    counted = "%d committed transactions from %s to %s" % (kept["committed"], kept["fork_lsn"], kept["end_lsn"])
    observed = wrong or "%s, sealed by %s" % (counted if kept["fork_lsn"] else follows, kept["digest"][:16])
    return Gate("G21", "the WAL behind the fork is kept", host, observed, "all of it", FAIL if wrong else PASS, _ACCEPT, "SALVAGE")


def found(
    hosts: tuple[str, ...], kept: dict[str, dict[str, Any]], ledgers: dict[str, dict[str, Any]]
) -> tuple[Gate, dict[str, Any]]:
    """The ledger's lost transactions in what these hosts have sealed; what another database host acknowledged is not theirs."""
    references = {reference for host in hosts for reference in kept[host]["references"]}
    lost = {
        int(entry["n"]): str(entry["reference"])
        for ledger in ledgers.values()
        for entry in ledger["lost"]
        if entry.get("server") in (None, *hosts)
    }
    away = sorted(number for number, reference in lost.items() if reference not in references)
    observed = "%d lost, %d of them found" % (len(lost), len(lost) - len(away)) if ledgers else "the ledger was not read"
    gate = Gate(
        "G21",
        "every lost transaction of the ledger is in the sealed WAL",
        ", ".join(hosts),
        observed,
        "all of them",
        verdict(not away if ledgers else None),
        _ACCEPT,
        "SALVAGE",
    )
    return gate, {"salvaged": {"lost_numbers": sorted(lost), "not_found_numbers": away} if ledgers else None}
