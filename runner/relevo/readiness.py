"""What a readiness report says of one cluster at one moment: whether it could fail over now, and what speaks against it. Pure.

What nobody measured is None here and says so in words; it is never a zero. `assessment.py` finds it out, `reasons.py` judges it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from relevo import criteria, due, wording
from relevo.clock import parse_utc
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from relevo.checklist import Checklist
    from relevo.contacts import Standing, Team
    from relevo.findings import Finding
    from relevo.history import Summary
    from relevo.trend import Trend


class Outcome(StrEnum):
    """The verdict in words."""

    READY = "ready"
    DOUBTS = "ready with doubts"
    NOT_READY = "not ready"


class Weight(StrEnum):
    """How much a reason weighs; the first kind stands against any failover that is counted on."""

    BLOCKS = "blocks"
    DOUBT = "doubt"


@dataclass(frozen=True)
class Reason:
    """What speaks against it, in a sentence."""

    weight: Weight
    sentence: str


@dataclass(frozen=True)
class Measured:
    """One objective.

    newest: of a run that moved production, None where none measured it; rehearsed: of a rehearsal in the sandbox, if it is newer; trend: of those
    that moved production alone, since a rehearsal goes another way; course: of all.
    """

    measure: str
    target_seconds: float
    newest: Summary | None
    rehearsed: Summary | None
    trend: Trend
    course: Trend

    @property
    def name(self) -> str:
        """In words."""
        return wording.NAMES[self.measure]

    @property
    def seconds(self) -> float | None:
        """The newest value."""
        return seconds_of(self.newest, self.measure) if self.newest else None

    @property
    def met(self) -> bool | None:
        """Whether it is within the target; None where nobody measured it."""
        return None if self.seconds is None else self.seconds <= self.target_seconds

    @property
    def tendency(self) -> str:
        """The older half against the newer one, in words."""
        before, since = self.trend.before_seconds, self.trend.since_seconds
        if before is None or since is None:
            return f"no trend from {wording.count(self.trend.count, 'measurement')}"
        way = "unchanged at" if before == since else "longer:" if since > before else "shorter:"
        typical = (
            wording.seconds(since)
            if before == since
            else f"typically {wording.seconds(before)} before, {wording.seconds(since)} since"
        )
        return f"{way} {typical}, {wording.count(self.trend.count, 'measurement')}"


@dataclass(frozen=True)
class Loss:
    """How much of what is no database may be lost, and how old its newest copy was when a verification looked; None where none said."""

    kind: str
    target_seconds: float
    seconds: float | None
    run: Summary | None

    @property
    def met(self) -> bool | None:
        """Whether it is within the target; None where nobody measured it."""
        return None if self.seconds is None else self.seconds <= self.target_seconds

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        return {
            "kind": self.kind,
            "target_seconds": self.target_seconds,
            "measured_seconds": self.seconds,
            "verdict": _met(met=self.met) or "unknown",
            "run_id": self.run.run_id if self.run else None,
            "at": self.run.closed_at if self.run else None,
        }


@dataclass(frozen=True)
class Coverage:
    """Of one repository: how many periods (hours, unless the inventory says otherwise) verifications looked at, and those with a usable backup."""

    repository: str
    periods: int
    covered: int
    missing: tuple[str, ...]

    @property
    def share(self) -> float | None:
        """Between 0 and 1; None where no period was looked at."""
        return self.covered / self.periods if self.periods else None


@dataclass(frozen=True)
class Backups:
    """Of the period. runs, passed: of the runbook backup; verifications: of verify_backup; newest: the newest one ever that came to an end."""

    runs: int
    passed: int
    verifications: int
    verifications_passed: int
    newest: Summary | None
    coverage: tuple[Coverage, ...]

    @property
    def success_rate(self) -> float | None:
        """Of the repository where it is worst, between 0 and 1; None where no verification says."""
        return min((one.share for one in self.coverage if one.share is not None), default=None)

    @property
    def runs_rate(self) -> float | None:
        """Of backups that were started by hand or by a schedule elsewhere; None where there was none."""
        return self.passed / self.runs if self.runs else None


@dataclass(frozen=True)
class Rung:
    """One step that a restored copy had to take."""

    id: str
    name: str
    verdict: str


@dataclass(frozen=True)
class Copy:
    """One restored copy. target: up to where, in the words of the run."""

    repository: str
    label: str
    target: str
    verdict: str
    rungs: tuple[Rung, ...]


@dataclass(frozen=True)
class Integrity:
    """The newest restore test that came to its end."""

    run_id: str
    at: str
    verdict: str
    copies: tuple[Copy, ...]

    @property
    def holds(self) -> bool:
        """Whether every rung of every copy passed, and the run did."""
        rungs = [rung for copy in self.copies for rung in copy.rungs]
        return self.verdict == Verdict.PASSED and bool(rungs) and all(rung.verdict == criteria.PASS for rung in rungs)


@dataclass(frozen=True)
class Failovers:
    """Runs that moved production, passed; planned, drill or disaster."""

    in_period: int
    in_all: int
    tried_in_period: int
    newest: Summary | None


@dataclass(frozen=True)
class Expected:
    """A prediction in one line. p50_seconds, p90_seconds: of the recovery or else of the run, by its likeliest way; runs: that they rest on."""

    runbook: str
    line: str
    p50_seconds: float | None
    limit_seconds: float | None
    p90_seconds: float | None = None
    runs: int = 0

    @property
    def late(self) -> bool:
        """Whether half of them, or more than one in ten, will take longer than the limit."""
        known = [seconds for seconds in (self.p50_seconds, self.p90_seconds) if seconds is not None]
        return self.limit_seconds is not None and bool(known) and max(known) > self.limit_seconds


@dataclass(frozen=True)
class Date:
    """Something with a date. over: it is past."""

    at: str
    what: str
    over: bool = False


@dataclass(frozen=True)
class Readiness:
    """The report of one cluster; since: the beginning of the period that it tells of."""

    cluster: str
    at: str
    since: str
    reasons: tuple[Reason, ...]
    tests: tuple[due.Entry, ...]
    measured: tuple[Measured, ...]
    losses: tuple[Loss, ...]
    backups: Backups
    integrity: Integrity | None
    failovers: Failovers
    expected: tuple[Expected, ...]
    runs: tuple[tuple[str, dict[str, int]], ...]
    changes: tuple[str, ...]
    findings: tuple[Finding, ...]
    documents: tuple[str, ...] | None
    pages: int | None
    contacts: tuple[Standing, ...]
    team: Team
    dates: tuple[Date, ...]
    checklist: Checklist

    @property
    def outcome(self) -> Outcome:
        """By the heaviest reason."""
        weights = {reason.weight for reason in self.reasons}
        return Outcome.NOT_READY if Weight.BLOCKS in weights else Outcome.DOUBTS if weights else Outcome.READY

    @property
    def rto(self) -> Measured:
        """Recovery time."""
        return next(one for one in self.measured if one.measure == "rto_seconds")

    @property
    def rpo(self) -> Measured:
        """Data loss."""
        return next(one for one in self.measured if one.measure == "rpo_seconds")

    def document(self) -> dict[str, Any]:
        """As a JSON tree, with the names that the customer's document uses."""
        today, iso = parse_utc(self.at).date(), parse_utc(self.at).isocalendar()
        return {
            "cluster": self.cluster,
            "at": self.at,
            "since": self.since,
            "week": f"{iso.year}-W{iso.week:02d}",
            "verdict": self.outcome.value,
            "reasons": [asdict(reason) for reason in self.reasons],
            "tests": {
                "backup_verification": self.backups.newest.verdict if self.backups.newest else None,
                "recovery_time": _met(met=self.rto.met),
                "data_integrity": None if self.integrity is None else "passed" if self.integrity.holds else "failed",
                "documentation": None if self.documents is None else "failed" if self.documents else "passed",
                "team_readiness": "ready" if self.team.ready else "not ready",
            },
            "metrics": {
                "rpo_achieved_seconds": self.rpo.seconds,
                "rto_achieved_seconds": self.rto.seconds,
                "backup_success_rate": self.backups.success_rate,
                "failover_tests_completed": self.failovers.in_period,
                "failover_tests_completed_in_all": self.failovers.in_all,
            },
            "calendar": [entry.document() for entry in self.tests],
            "objectives": [_objective(one) for one in self.measured],
            "losses": [one.document() for one in self.losses],
            "backups": _backups(self.backups),
            "data_integrity": None if self.integrity is None else {**asdict(self.integrity), "holds": self.integrity.holds},
            "predicted": [{**asdict(one), "late": one.late} for one in self.expected],
            "runs": dict(self.runs),
            "changes": list(self.changes),
            "findings": [finding.document(today) for finding in self.findings],
            "documentation": {"pages": self.pages, "problems": None if self.documents is None else list(self.documents)},
            "contacts": [standing.document() for standing in self.contacts],
            "team": self.team.document(),
            "dates": [asdict(one) for one in self.dates],
            "checklist": {key: value for key, value in self.checklist.document().items() if key in {"ready", "status", "counts"}},
        }


def seconds_of(run: Summary, measure: str) -> float | None:
    """What a run measured."""
    return run.rto_seconds if measure == "rto_seconds" else run.rpo_seconds


def _met(*, met: bool | None) -> str | None:
    return None if met is None else "met" if met else "missed"


def _objective(one: Measured) -> dict[str, Any]:
    return {
        "measure": one.measure,
        "target_seconds": one.target_seconds,
        "measured_seconds": one.seconds,
        "verdict": _met(met=one.met) or "unknown",
        "run_id": one.newest.run_id if one.newest else None,
        "at": one.newest.closed_at if one.newest else None,
        "rehearsed_seconds": seconds_of(one.rehearsed, one.measure) if one.rehearsed else None,
        "rehearsed_run_id": one.rehearsed.run_id if one.rehearsed else None,
        "trend": _course(one.trend),
        "course": {"points": [asdict(point) for point in one.course.points], **_course(one.course)},
    }


def _course(found: Trend) -> dict[str, Any]:
    return {
        "measured": found.count,
        "missed": found.missed,
        "before_seconds": found.before_seconds,
        "since_seconds": found.since_seconds,
    }


def _backups(backups: Backups) -> dict[str, Any]:
    return {
        "success_rate": backups.success_rate,
        "coverage": [{**asdict(one), "missing": list(one.missing), "share": one.share} for one in backups.coverage],
        "runs": backups.runs,
        "runs_passed": backups.passed,
        "verifications": backups.verifications,
        "verifications_passed": backups.verifications_passed,
        "newest_verification": backups.newest._asdict() if backups.newest else None,
    }
