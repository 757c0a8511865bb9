"""The way back after a drill: which runbooks bring the service home, with which words. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from relevo import request
from relevo.errors import InputRefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from relevo.record import Record

AFTER = "dr_after"
STAY, RETURN = "stay", "return"
REHEARSAL, PRODUCTION = "rehearse", "failover"
# What moves the service, and what must come between it and the way home: a failover leaves an old primary that follows nobody.
_BEFORE_HOME: dict[str, tuple[str, ...]] = {"failover": ("failback",), "switchover": ()}


@dataclass(frozen=True)
class Step:
    """One run on the way home. inputs: what `-e` would carry."""

    runbook: str
    inputs: Mapping[str, str]


def split(pairs: Sequence[str]) -> tuple[str, list[str]]:
    """What is to come after the run, and the other `-e` arguments: no playbook has to know of it."""
    kept = [pair for pair in pairs if not pair.startswith(f"{AFTER}=")]
    found = [pair.partition("=")[2] for pair in pairs if pair.startswith(f"{AFTER}=")]
    return (found[-1] if found else STAY), kept


def check(runbook: str, after: str, inputs: Mapping[str, str]) -> None:
    """InputRefusedError where there is no way home: from a disaster nobody returns at once."""
    if after not in {STAY, RETURN}:
        message = f"-e {AFTER} is {after!r}: expected stay or return."
        raise InputRefusedError(message)
    if after == RETURN and runbook not in _BEFORE_HOME:
        message = f"-e {AFTER}=return has no meaning for {runbook}: only a failover or a switchover moves the service."
        raise InputRefusedError(message)
    if after == RETURN and inputs.get("dr_mode") == "disaster":
        message = f"-e {AFTER}=return is for a drill: from a disaster the way home is failback and switchover, when the old site is trusted again."
        raise InputRefusedError(message)


def way_home(record: Record) -> list[Step]:
    """The runs that make the site that served before the drill the primary again, and prove it, each by its own record."""
    home, cluster = record.run.get("source_site"), record.cluster
    if record.runbook not in _BEFORE_HOME or not home or not cluster:
        return []
    return [
        Step(
            runbook, _words(runbook, {**more, "dr_target_site": str(home), "dr_reason": f"returns after {record.run_id}"}, cluster)
        )
        for runbook, more in (
            *((runbook, {}) for runbook in _BEFORE_HOME[record.runbook]),
            ("switchover", {"dr_mode": "drill", "dr_scope": str(record.scope)}),
        )
    ]


def _words(runbook: str, inputs: dict[str, str], cluster: str) -> dict[str, str]:
    """Whoever confirmed a drill that returns has confirmed its return."""
    return {**inputs, "dr_confirm": request.confirmation(request.judge(inputs), cluster, runbook)}
