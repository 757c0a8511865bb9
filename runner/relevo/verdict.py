"""The verdict of a run, and the sentences that say why. Pure, and never better than the evidence."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from relevo.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relevo.evidence import Evidence

# Once one of these has begun, something was changed: such a run can fail, but no longer be refused.
CHANGING = frozenset({"QUIESCE", "FENCE", "DRAIN", "PROMOTE", "CUTOVER", "PROTECT", "REOPEN", "FOLLOW", "SALVAGE", "REBUILD"})


class Verdict(StrEnum):
    """How a run ended; whether it met its objectives is another answer."""

    PASSED = "passed"
    PARTIAL = "partial"
    FAILED = "failed"
    REFUSED = "refused"
    INTERRUPTED = "interrupted"
    CANCELLED = "cancelled"

    @property
    def exit(self) -> Exit:
        """The exit code of `relevo run`."""
        return Exit[self.name]


@dataclass(frozen=True)
class Ending:
    """What is known of a run's end besides its events.

    refusal: the runner's own reason not to start; started: whether a playbook began; missed: journal lines that could not
    be written, and missed_reason why; reason: how a run without closing statistics came to its end.
    """

    refusal: str | None = None
    started: bool = True
    reason: str | None = None
    missed: int = 0
    missed_reason: str | None = None


@dataclass(frozen=True)
class Decision:
    """A verdict and its reasons, the weightiest first."""

    verdict: Verdict
    reasons: tuple[str, ...]


def decide(evidence: Evidence, ending: Ending) -> Decision:
    """Judge a run. A check that was skipped or never observed is never a pass."""
    if ending.refusal:
        return Decision(Verdict.REFUSED, (ending.refusal,))
    if not evidence.finished:
        return _without_statistics(evidence, ending)
    cancelled = [failure.message for failure in evidence.failures if failure.cancelled]
    if cancelled and not _changed(evidence):
        return Decision(Verdict.CANCELLED, _unique(cancelled))
    refusals = _refusals(evidence)
    if refusals:
        return Decision(Verdict.REFUSED, _unique(refusals))
    for verdict, reasons in ((Verdict.FAILED, _failures(evidence)), (Verdict.PARTIAL, _doubts(evidence, ending))):
        if reasons:
            return Decision(verdict, _unique(reasons))
    return Decision(Verdict.PASSED, ())


def _refusals(evidence: Evidence) -> list[str]:
    """Why nothing was changed; empty when something was, or when the run went on."""
    refusals = [failure.message for failure in evidence.failures if failure.refused and not failure.tolerated]
    if refusals and not _changed(evidence):
        return refusals
    if not evidence.opened:
        return [
            "The playbook's own opening task did not run: nothing was changed.",
            *(failure.message for failure in evidence.failures),
        ]
    return []


def _changed(evidence: Evidence) -> bool:
    return any(name in CHANGING and phase.get("outcome") != "skipped" for (name, _), phase in evidence.phases.items())


def _without_statistics(evidence: Evidence, ending: Ending) -> Decision:
    if not ending.started:
        return Decision(Verdict.REFUSED, (ending.reason or "The playbook could not be started: nothing was changed.",))
    last = evidence.last
    where = f" The last thing seen was {last.task!r} in {last.play!r} at {last.at}." if last and last.task else ""
    return Decision(Verdict.INTERRUPTED, (f"{ending.reason or 'The run ended without its closing statistics.'}{where}",))


def _failures(evidence: Evidence) -> list[str]:
    lost_or_failed = {*evidence.failed_hosts, *evidence.lost_hosts}
    failures = [failure for failure in evidence.failures if failure.host in lost_or_failed]
    reasons = [f"{failure.host}: {failure.task}: {failure.message}" for failure in failures]
    if evidence.part and evidence.part[0] < evidence.part[1] and not reasons:
        # Ansible ends a playbook early without a failure on record: an unreachable host that was ignored is enough.
        reasons = [f"The runbook ended after its part {evidence.part[0]} of {evidence.part[1]}."]
    if lost_or_failed and not reasons:
        reasons = [f"These hosts failed: {', '.join(sorted(lost_or_failed))}."]
    for (name, host), phase in evidence.phases.items():
        detail = str(phase.get("detail") or "")
        told = detail and any(failure.host == host and detail in failure.message for failure in failures)
        if phase.get("outcome") not in {"ok", "skipped"} and not told:
            reasons.append(f"Phase {name} on {host} ended as {phase.get('outcome') or 'unknown'}: {detail or 'no detail'}.")
    for gate in _required(list(evidence.gates.values())):
        if gate.get("verdict") == "fail":
            reasons.append(f"Gate {_gate(gate)} fails: observed {gate.get('observed')}, expected {gate.get('expected')}.")
    return reasons


def _doubts(evidence: Evidence, ending: Ending) -> list[str]:
    doubts = []
    gates = list(evidence.gates.values())
    doubts += [f"Gate {_gate(gate)} was accepted by name." for gate in gates if gate.get("verdict") == "accepted"]
    for gate in _required(gates):
        if gate.get("verdict") not in {"pass", "fail", "accepted", "not_applicable"}:
            doubts.append(f"Gate {_gate(gate)} is unknown: observed {gate.get('observed') or 'nothing'}.")
    for (name, host), phase in evidence.phases.items():
        if phase.get("outcome") == "skipped" and phase.get("required", True):
            doubts.append(f"Phase {name} on {host} was skipped: {phase.get('detail') or 'no reason given'}.")
    if ending.missed:
        doubts.append(f"{ending.missed} events could not be written to the journal: {ending.missed_reason}.")
    return doubts


def _required(gates: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    return [gate for gate in gates if gate.get("required", True)]


def _gate(gate: dict[str, Any]) -> str:
    return f"{gate.get('id') or 'unnamed'} on {gate.get('host') or 'an unnamed host'}"


def _unique(reasons: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(reasons))
