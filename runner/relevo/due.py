"""Which test is due: per cluster its last passed run, its age, the next date, and what has changed since. Pure; all times UTC."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol

from relevo import changes, criteria
from relevo.clock import parse_utc, utc

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from relevo.history import History, Summary
    from relevo.policy import Policy, Test

# How far back is looked for a passed run, and for a value that a run did not say itself.
ATTEMPTS, NEIGHBOURS = 100, 40
# Mostly one of the newest has passed; where none has, all of them are read.
_AT_FIRST = 10
# How far the clocks of two controllers may differ.
LEEWAY = timedelta(minutes=5)


class State(StrEnum):
    """The state of a test, the worst first."""

    NEVER_PASSED = "NEVER PASSED"
    FAILED = "FAILED"
    NEEDS_VERIFIED = "NEEDS VERIFIED"
    OVERDUE = "OVERDUE"
    DUE = "DUE"
    CURRENT = "CURRENT"


# How a reader takes each, in the words of the pages.
MOODS = {
    State.NEVER_PASSED: "bad",
    State.FAILED: "bad",
    State.NEEDS_VERIFIED: "doubt",
    State.OVERDUE: "bad",
    State.DUE: "doubt",
    State.CURRENT: "good",
}


class Records(Protocol):
    """Whole records, as JSON trees."""

    def __call__(self, run_ids: Sequence[str], /) -> Sequence[Mapping[str, Any]]:
        """The documents of these runs, in this order."""


@dataclass(frozen=True)
class Attempt:
    """A run seen as a test."""

    run_id: str
    at: str
    verdict: str
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class Entry:
    """One test of one cluster.

    passed: the last run that passed as this test; attempt: the newest one, whatever came of it; due_at: when it must be passed again, None when
    it never was; changed: why it must be verified before; unobserved: of what nobody can say whether it changed.
    """

    cluster: str
    test: str
    title: str
    every: str
    state: State = State.NEVER_PASSED
    passed: Attempt | None = None
    attempt: Attempt | None = None
    age_seconds: float | None = None
    due_at: str | None = None
    overdue: bool = True
    changed: tuple[changes.Changed, ...] = ()
    unobserved: tuple[str, ...] = ()

    @property
    def reasons(self) -> tuple[str, ...]:
        """What stands against it, in words."""
        found = [one.sentence for one in self.changed]
        if self.attempt is not None and self.attempt != self.passed:
            found = [f"run {self.attempt.run_id}: {reason}" for reason in self.attempt.reasons] + found
        if self.passed is None and self.attempt is None:
            found.append("no run of this test yet")
        return tuple(found)

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        return {
            "cluster": self.cluster,
            "test": self.test,
            "title": self.title,
            "every": self.every,
            "state": self.state.value,
            "last_passed": _tree(self.passed),
            "last_attempt": _tree(self.attempt),
            "age_seconds": self.age_seconds,
            "due_at": self.due_at,
            "overdue": self.overdue,
            "changed": [{"what": one.what, "proven": one.proven, "now": one.now} for one in self.changed],
            "unobserved": list(self.unobserved),
            "reasons": list(self.reasons),
        }


@dataclass(frozen=True)
class Now:
    """What is known of this moment. observed: by measurement what was just seen, per cluster; same: see changes.Same."""

    at: datetime
    observed: Mapping[str, Mapping[str, Any]]
    same: changes.Same


@dataclass(frozen=True)
class Past:
    """What ran: in short, and whole records. judged: by test and run what a record was as that test, which never changes."""

    history: History
    records: Records
    judged: dict[tuple[str, str], criteria.Outcome] = field(default_factory=dict)


def entries(policy: Policy, past: Past, clusters: Collection[str], now: Now) -> list[Entry]:
    """Every test of every cluster, of the policy, of what is seen now, and of these, which have run."""
    return [entry for cluster in known(policy, clusters, now) for entry in of_cluster(policy, past, cluster, now)]


def known(policy: Policy, clusters: Collection[str], now: Now) -> list[str]:
    """Clusters of the policy, of what is seen now, and these, which have run."""
    return sorted({*policy.clusters, *now.observed, *clusters})


def of_cluster(policy: Policy, past: Past, cluster: str, now: Now) -> list[Entry]:
    """Every test of one cluster."""
    look = _Look(policy, past, now)
    return [look.entry(cluster, name) for name in policy.tests_of(cluster)]


@dataclass(frozen=True)
class _Look:
    """One look at all tests."""

    policy: Policy
    past: Past
    now: Now

    def entry(self, cluster: str, name: str) -> Entry:
        """One test of one cluster."""
        test = self.policy.tests[name]
        # A run of tomorrow would prove for too long: a clock that was wrong proves nothing.
        attempts = self.past.history.attempts(cluster, test.counts, self.now.at + LEEWAY, ATTEMPTS)
        newest, decided, passed = _sifted(_judged(test, attempts, self.past))
        entry = Entry(cluster, name, test.title, str(test.every), attempt=newest)
        if passed is None:
            return entry
        compared = self._compare(cluster, next(run for run in attempts if run.run_id == passed.run_id))
        due = test.every.after(parse_utc(passed.at))
        return replace(
            entry,
            state=self._state(compared, due, failed=decided is not None and decided.verdict == criteria.FAILED),
            passed=passed,
            age_seconds=round(max(0.0, (self.now.at - parse_utc(passed.at)).total_seconds()), 6),
            due_at=utc(due),
            overdue=due < self.now.at,
            changed=compared.changed,
            unobserved=compared.unobserved,
        )

    def _compare(self, cluster: str, passed: Summary) -> changes.Comparison:
        history = self.past.history
        neighbours = (history.up_to(passed, NEIGHBOURS), history.runs(cluster, NEIGHBOURS))
        before, after = (self.past.records([run.run_id for run in some]) for some in neighbours)
        observed = self.now.observed.get(cluster, {})
        return changes.compare(self.policy.needs_verified_after, before, after, changes.Present(observed, self.now.same))

    def _state(self, compared: changes.Comparison, due: datetime, *, failed: bool) -> State:
        if failed:
            return State.FAILED
        if compared.changed:
            return State.NEEDS_VERIFIED
        if due < self.now.at:
            return State.OVERDUE
        return State.DUE if self.policy.remind_before.before(due) <= self.now.at else State.CURRENT


def _sifted(judged: Iterator[tuple[Summary, criteria.Outcome]]) -> tuple[Attempt | None, Attempt | None, Attempt | None]:
    """The newest attempt, the newest one that passed or failed, and the newest one that passed."""
    newest, decided = None, None
    for run, outcome in judged:
        newest = newest or _attempt(run, outcome)
        decided = decided or (_attempt(run, outcome) if outcome.verdict != criteria.UNKNOWN else None)
        if outcome.verdict == criteria.PASSED:
            return newest, decided, _attempt(run, outcome)
    return newest, decided, None


def _attempt(run: Summary, outcome: criteria.Outcome) -> Attempt:
    return Attempt(run.run_id, run.closed_at, outcome.verdict, outcome.reasons)


def _judged(test: Test, runs: Sequence[Summary], past: Past) -> Iterator[tuple[Summary, criteria.Outcome]]:
    for some in (runs[:_AT_FIRST], runs[_AT_FIRST:]):
        for run, document in zip(some, past.records([run.run_id for run in some]), strict=True):
            # The site that was asked for served already: such a run tried nothing.
            if (document.get("run") or {}).get("done"):
                continue
            known = (test.title, run.run_id)
            outcome = past.judged[known] = past.judged.get(known) or criteria.judge_run(test, document)
            yield run, outcome


def _tree(attempt: Attempt | None) -> dict[str, Any] | None:
    if attempt is None:
        return None
    return {"run_id": attempt.run_id, "at": attempt.at, "verdict": attempt.verdict, "reasons": list(attempt.reasons)}
