# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Judge the account of a hand-over: the first write through the application, what was lost, whether two nodes were writable at once."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.gates import ACCEPTED, Gate, verdict
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction


class ActionModule(RunAction):
    """Arguments: measures (of ledger_reconcile). Runs on the controller."""

    _requires_connection = False

    def act(self) -> dict[str, Any]:
        measures = self._task.args["measures"]
        plan, inputs = self.control.read("plan"), self.control.read("inputs")
        gates = [_first_write(plan, measures), _lost(plan, inputs, measures), _overlap(measures)]
        if not measures and "LOSS" in inputs["accept_unknown"]:
            # The witness did not answer, and that was accepted by name.
            gates = [replace(gate, verdict=ACCEPTED) for gate in gates]
        wrong = [gate for gate in gates if gate.verdict == "fail"]
        said = "; ".join("%s: %s" % (gate.title, gate.observed) for gate in wrong or gates)
        return {"failed": bool(wrong), "msg": said, **told(gates=[gate.as_dict() for gate in gates])}


def _first_write(plan: dict[str, Any], measures: dict[str, Any]) -> Gate:
    at = measures.get("first_write_at")
    observed = (
        "acknowledged at %s, %s s after the last one before" % (at, measures.get("outage_seconds"))
        if at
        else "none acknowledged yet"
    )
    title = "a numbered write through the application is on the new primary"
    return Gate(
        "G13",
        title,
        plan["promote"],
        observed,
        "one",
        verdict(bool(at) if measures else None),
        "look at the application on the new side",
        "CUTOVER",
    )


def _lost(plan: dict[str, Any], inputs: dict[str, Any], measures: dict[str, Any]) -> Gate:
    """Read back on the new primary, number by number; more than was accepted at the start can only have been acknowledged after the drain."""
    ledger = measures.get("ledger") or {}
    lost = ledger.get("lost")
    observed = "not compared" if lost is None else "%d of %d acknowledged are missing" % (lost, ledger["acknowledged"])
    bounds = (inputs["accept_loss_seconds"], inputs["accept_loss_transactions"])
    within = None
    if lost is not None:
        within = lost == 0 or _within(lost, measures.get("rpo_seconds"), *bounds)
    by_name = "LOSS" in inputs["accept_unknown"] and (within is None or bool(plan.get("restore")))
    accepted = ["%g s" % bounds[0]] if bounds[0] is not None else []
    accepted += ["%d transactions" % bounds[1]] if bounds[1] is not None else []
    expected = "at most %s, as accepted" % " and ".join(accepted) if accepted else "none"
    return Gate(
        "LOSS",
        "every acknowledged transaction is accounted for",
        plan["promote"],
        observed,
        expected,
        ACCEPTED if within is not True and by_name else verdict(within),
        "see lost_numbers in the record",
        "CUTOVER",
    )


def _within(
    lost: int, rpo_seconds: Optional[float], accept_seconds: Optional[float], accept_transactions: Optional[int]
) -> Optional[bool]:
    """Whether a loss is inside every bound that was given; None when that cannot be judged.

    rpo_seconds is None when the oldest compared entry is missing too: then the number is no more than the least that is lost.
    """
    if accept_seconds is None and accept_transactions is None:
        return False
    if accept_transactions is not None and lost > accept_transactions:
        return False
    if rpo_seconds is None:
        return None
    return accept_seconds is None or rpo_seconds <= accept_seconds


def _overlap(measures: dict[str, Any]) -> Gate:
    seconds = measures.get("writable_overlap_seconds")
    observed = "not observed throughout" if seconds is None else "%s s" % seconds
    return Gate(
        "OVERLAP",
        "never two writable primaries",
        "observers",
        observed,
        "0 s",
        verdict(None if seconds is None else seconds == 0),
        "compare the observers' logs",
        "CUTOVER",
    )
