"""The way home after a run: which runbooks bring the service home, with which words. Pure."""

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
SCOPE = "dr_scope"
# What moves the service, or makes it able to move, and what must come between it and the way home: a failover leaves an old primary that follows nobody.
_BEFORE_HOME: dict[str, tuple[str, ...]] = {"failover": ("failback",), "switchover": (), "failback": ()}
MOVES, COMES_HOME = ("failover", "switchover"), ("failback",)


@dataclass(frozen=True)
class Step:
    """One run on the way home. inputs: what `-e` would carry."""

    runbook: str
    inputs: Mapping[str, str]


@dataclass(frozen=True)
class After:
    """What is to come after a run. scope: of the way home, where the run itself has none."""

    what: str = STAY
    scope: str = ""


STAYS = After()


def split(runbook: str, pairs: Sequence[str]) -> tuple[After, list[str]]:
    """What is to come after the run, and the other `-e` arguments: no playbook has to know of it."""
    found = dict(pair.partition("=")[::2] for pair in pairs)
    what = found.get(AFTER, STAY)
    # A failback moves no application: what its scope would say is of the switchover home.
    taken = {AFTER, SCOPE} if (runbook, what) == ("failback", RETURN) else {AFTER}
    kept = [pair for pair in pairs if pair.partition("=")[0] not in taken]
    return After(what, found.get(SCOPE, "") if SCOPE in taken else ""), kept


def check(runbook: str, after: After, inputs: Mapping[str, str]) -> None:
    """InputRefusedError where there is no way home: from a disaster nobody returns at once."""
    if after.what not in {STAY, RETURN}:
        message = f"-e {AFTER} is {after.what!r}: expected stay or return."
        raise InputRefusedError(message)
    if after.what == RETURN and runbook not in _BEFORE_HOME:
        message = f"-e {AFTER}=return has no meaning for {runbook}: only after a failover, a switchover or a failback is there a way home."
        raise InputRefusedError(message)
    if after.what == RETURN and runbook == "failback":
        # Before anything is touched, not when the switchover finds it missing.
        request.require("switchover", request.judge({**inputs, SCOPE: after.scope}))
    if after.what == RETURN and inputs.get("dr_mode") == "disaster":
        message = f"-e {AFTER}=return is for a drill: from a disaster the way home is failback and switchover, when the old site is trusted again."
        raise InputRefusedError(message)


def way_home(record: Record, after: After) -> list[Step]:
    """The runs that make the site that served before the primary again, and prove it, each by its own record."""
    back = record.runbook == "failback"
    home, cluster = record.run.get("target_site" if back else "source_site"), record.cluster
    scope = after.scope if back else str(record.scope)
    # Who comes home after a disaster drills nothing.
    mode = {} if back else {"dr_mode": "drill"}
    if record.runbook not in _BEFORE_HOME or not home or not cluster:
        return []
    words = {"dr_target_site": str(home), "dr_reason": f"returns after {record.run_id}", **_occasion(record)}
    runbooks = runbooks_home(record.runbook)
    inputs = [words] * (len(runbooks) - 1) + [{**mode, SCOPE: scope, **words}]
    return [Step(runbook, confirmed(runbook, one, cluster)) for runbook, one in zip(runbooks, inputs, strict=True)]


def runbooks_home(runbook: str) -> tuple[str, ...]:
    """What brings the service home after it, in this order."""
    return (*_BEFORE_HOME[runbook], "switchover")


def _occasion(record: Record) -> dict[str, str]:
    """Of the same change, before the same people."""
    said = {name: record.run.get(name) for name in request.CONTEXT}
    return {f"dr_{name}": ", ".join(value) if isinstance(value, list) else str(value) for name, value in said.items() if value}


def confirmed(runbook: str, inputs: Mapping[str, str], cluster: str) -> dict[str, str]:
    """With the words of the confirmation: whoever confirmed a run that returns has confirmed its return."""
    return {**inputs, "dr_confirm": request.confirmation(request.judge(inputs), cluster, runbook)}
