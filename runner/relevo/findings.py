"""Findings: what a run showed to be deficient, folded from entries that are only ever added. Pure."""

from __future__ import annotations

import secrets
from dataclasses import asdict, dataclass, replace
from datetime import date
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from relevo.clock import parse_utc
from relevo.errors import StoreError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relevo.entries import Entry
    from relevo.record import Record

KIND = "finding"
OPENED, RETESTED, CLOSED = "opened", "retested", "closed"


class Severity(StrEnum):
    """How bad it is, the worst first."""

    CRITICAL = "critical"
    HIGH = "high"
    MEDIUM = "medium"
    LOW = "low"


class State(StrEnum):
    """open: to be mended; retested: a later run passed; closed: somebody said so."""

    OPEN = "open"
    RETESTED = "retested"
    CLOSED = "closed"


@dataclass(frozen=True)
class Retest:
    """A later run that looked again."""

    run_id: str
    verdict: str
    at: str
    by: str


@dataclass(frozen=True)
class Finding:
    """One deficiency. run_id: the run that showed it; due: a date, YYYY-MM-DD; accepted_without_retest: why it was closed without one."""

    id: str
    cluster: str
    deficiency: str
    severity: Severity
    owner: str
    due: str
    run_id: str | None
    opened_at: str
    opened_by: str
    state: State = State.OPEN
    retests: tuple[Retest, ...] = ()
    closed_at: str | None = None
    closed_by: str | None = None
    resolution: str | None = None
    accepted_without_retest: str | None = None

    def is_overdue(self, today: date) -> bool:
        """Not closed, and its date is over (UTC)."""
        return self.state is not State.CLOSED and date.fromisoformat(self.due) < today

    def document(self, today: date) -> dict[str, Any]:
        """As a JSON tree."""
        return {**asdict(self), "retests": [asdict(one) for one in self.retests], "overdue": self.is_overdue(today)}


def new_id() -> str:
    """Such as F-1f3a9c."""
    return f"F-{secrets.token_hex(3)}"


def opened(deficiency: str, severity: Severity, owner: str, due: str, where: tuple[str, str | None]) -> dict[str, Any]:
    """What the first entry says. where: the cluster, and the run that showed it. UsageError for a date that is none."""
    try:
        date.fromisoformat(due)
    except ValueError as error:
        message = f"The due date is {due!r}; expected a date such as 2026-12-31."
        raise UsageError(message) from error
    if not (deficiency.strip() and owner.strip()):
        message = "A finding needs a deficiency in words, and an owner."
        raise UsageError(message)
    cluster, run_id = where
    return {
        "deficiency": deficiency.strip(),
        "severity": severity.value,
        "owner": owner.strip(),
        "due": due,
        "cluster": cluster,
        "run_id": run_id,
    }


def retested(finding: Finding, run: Record) -> dict[str, Any]:
    """What the entry of a re-test says. UsageError when that run cannot be one."""
    _still_open(finding)
    if run.cluster != finding.cluster:
        message = f"Run {run.run_id} is of the cluster {run.cluster}; {finding.id} is of {finding.cluster}."
        raise UsageError(message)
    if run.check_mode:
        message = f"Run {run.run_id} was in check mode and did nothing; expected a run that tests {finding.id} again."
        raise UsageError(message)
    if run.run_id == finding.run_id or parse_utc(run.opened_at) < parse_utc(finding.opened_at):
        message = f"Run {run.run_id} began before {finding.id} was opened ({finding.opened_at}); expected a later one."
        raise UsageError(message)
    return {"run_id": run.run_id, "verdict": run.verdict.value}


def closed(finding: Finding, resolution: str, without_retest: str | None) -> dict[str, Any]:
    """What the closing entry says. UsageError without a passed re-test, unless a reason stands in for it."""
    _still_open(finding)
    if not resolution.strip():
        message = f"Say what was done about {finding.id}."
        raise UsageError(message)
    if finding.state is not State.RETESTED and not (without_retest or "").strip():
        message = f"{finding.id} has no passed re-test: relevo findings retest {finding.id} --run RUN, or say why none is needed with --without-retest."
        raise UsageError(message)
    return {
        "resolution": resolution.strip(),
        "accepted_without_retest": without_retest if finding.state is not State.RETESTED else None,
    }


def _still_open(finding: Finding) -> None:
    if finding.state is State.CLOSED:
        message = f"{finding.id} was closed at {finding.closed_at} by {finding.closed_by}; open a new finding."
        raise UsageError(message)


def fold(entries: Iterable[Entry]) -> list[Finding]:
    """The findings as their entries left them, in the order in which they were opened."""
    found: dict[str, Finding] = {}
    for entry in entries:
        if entry.event == OPENED:
            found.setdefault(entry.subject, _first(entry))
        elif entry.subject in found:
            found[entry.subject] = _next(found[entry.subject], entry)
    return list(found.values())


def _first(entry: Entry) -> Finding:
    try:
        said = {**entry.said, "severity": Severity(entry.said["severity"])}
        return Finding(id=entry.subject, opened_at=entry.at, opened_by=entry.by, **said)
    except (KeyError, ValueError, TypeError) as error:
        message = f"The entry {entry.entry_id} opens no finding: {error}."
        raise StoreError(message) from error


def _next(finding: Finding, entry: Entry) -> Finding:
    # Two persons who close it at once: the first word holds.
    if finding.state is State.CLOSED:
        return finding
    if entry.event == RETESTED:
        retest = Retest(str(entry.said.get("run_id")), str(entry.said.get("verdict")), entry.at, entry.by)
        # A later run that did not pass takes an earlier one's word back.
        state = State.RETESTED if retest.verdict == "passed" else State.OPEN
        return replace(finding, retests=(*finding.retests, retest), state=state)
    if entry.event == CLOSED:
        return replace(
            finding,
            state=State.CLOSED,
            closed_at=entry.at,
            closed_by=entry.by,
            resolution=entry.said.get("resolution"),
            accepted_without_retest=entry.said.get("accepted_without_retest"),
        )
    return finding


def choose(findings: Iterable[Finding], wanted: str) -> Finding:
    """The finding of that id. UsageError that says what there is."""
    known = {finding.id: finding for finding in findings}
    if wanted in known:
        return known[wanted]
    message = f"There is no finding {wanted!r}. Findings: {', '.join(known) or 'none'}."
    raise UsageError(message)
