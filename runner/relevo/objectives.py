"""Objectives and whether the measures meet them. Pure; the verdict of the run is another question."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RTO_SECONDS = 4 * 3600.0
RPO_SECONDS = 3600.0
# Runbooks that move production owe an answer; the others only when they measured one.
MOVES_PRODUCTION = frozenset({"failover", "switchover", "failback", "rehearse"})


@dataclass(frozen=True)
class Objective:
    """name: the measure; target and measured: seconds; verdict: met | missed | unknown (nobody measured it)."""

    name: str
    target: float
    measured: float | None
    verdict: str


def evaluate(runbook: str, measures: Mapping[str, Any], targets: Mapping[str, Any]) -> list[Objective]:
    """The objectives of a run; targets are seconds by measure name, the customer's defaults where none is given."""
    defaults = {"rto_seconds": RTO_SECONDS, "rpo_seconds": RPO_SECONDS}
    found = []
    for name, default in defaults.items():
        measured = _number(measures.get(name))
        if measured is None and runbook not in MOVES_PRODUCTION:
            continue
        target = _number(targets.get(name))
        found.append(_judge(name, default if target is None else target, measured))
    return found


def _judge(name: str, target: float, measured: float | None) -> Objective:
    if measured is None:
        return Objective(name, target, None, "unknown")
    return Objective(name, target, measured, "met" if measured <= target else "missed")


def all_met(objectives: Sequence[Objective]) -> bool | None:
    """True when each is met, False when one is missed, None when one was not measured or there is none."""
    verdicts = {objective.verdict for objective in objectives}
    if "missed" in verdicts:
        return False
    return True if verdicts == {"met"} else None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        return float(value)
    except ValueError:
        return None
