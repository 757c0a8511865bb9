"""Every number of the dashboard, of one look at the store: what the pages show and `data.json` says. Pure; the fields are in docs/dashboard.md."""

from __future__ import annotations

import hashlib
import re
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import relevo
from relevo import due
from relevo.clock import utc
from relevo.findings import Severity, State
from relevo.trend import FAILOVERS
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from relevo.findings import Finding
    from relevo.history import Summary
    from relevo.overview import Overview
    from relevo.prediction import Prediction
    from relevo.trend import Point, Series, Trend

SCHEMA = "relevo-dashboard/1"
# Of each cluster: so many of its newest runs are listed and have a page.
RUNS = 25
# As file names they are the same everywhere, also where letters have no case.
_PLAIN_CLUSTER = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_PLAIN_RUN = re.compile(r"\d{8}T\d{6}Z-[a-z0-9_-]{1,80}")
_UNSAFE = re.compile(r"[^a-z0-9]+")
_STATES = list(due.State)
_SEVERITIES = list(Severity)


@dataclass(frozen=True)
class Run:
    """A run in a list. page: of this run, None where there is none here: `relevo report` makes it."""

    summary: Summary
    page: str | None

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        return {**self.summary._asdict(), "page": self.page}


@dataclass(frozen=True)
class Measure:
    """A measure of a cluster over time. moved: of the runs that moved production, which alone are counted; course: of all runs."""

    moved: Trend
    course: Trend

    @property
    def newest(self) -> Point | None:
        """The last run that moved production and measured it; None when none did."""
        return self.moved.points[-1] if self.moved.points else None

    @property
    def rehearsed(self) -> Point | None:
        """A newer one, that moved nothing."""
        newest = self.course.points[-1] if self.course.points else None
        return newest if newest and newest.runbook not in FAILOVERS else None

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        found = self.moved
        return {
            "target_seconds": found.target_seconds,
            "newest": asdict(self.newest) if self.newest else None,
            "rehearsed": asdict(self.rehearsed) if self.rehearsed else None,
            "moved": found.count,
            "measured": self.course.count,
            "missed": found.missed,
            "before_seconds": found.before_seconds,
            "since_seconds": found.since_seconds,
            "points": [asdict(point) for point in self.course.points],
        }


@dataclass(frozen=True)
class Runbook:
    """What became of the runs of one runbook. passed: the newest that passed."""

    name: str
    newest: Run
    passed: Run | None
    counts: Mapping[str, int]

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        passed = self.passed.summary.run_id if self.passed else None
        return {"runbook": self.name, "newest": self.newest.summary.run_id, "passed": passed, "counts": dict(self.counts)}


@dataclass(frozen=True)
class Cluster:
    """One cluster. page: its file, from the top of the site; tests: the worst first; findings: open ones first; runs: the newest of runs_total."""

    name: str
    page: str
    tier: str | None
    tests: tuple[due.Entry, ...]
    recovery: Measure
    loss: Measure
    predictions: tuple[Prediction, ...]
    findings: tuple[Finding, ...]
    runbooks: tuple[Runbook, ...]
    runs: tuple[Run, ...]
    runs_total: int

    @property
    def state(self) -> due.State | None:
        """The state of its worst test; None where it owes none."""
        return self.tests[0].state if self.tests else None

    @property
    def current(self) -> int:
        """How many tests are passed and not late."""
        return sum(test.state in {due.State.CURRENT, due.State.DUE} for test in self.tests)

    @property
    def overdue(self) -> int:
        """How many tests should have been passed by now."""
        return sum(test.overdue for test in self.tests)

    @property
    def next(self) -> due.Entry | None:
        """The test whose date comes next, of those that are not late."""
        coming = [test for test in self.tests if test.due_at and not test.overdue]
        return min(coming, key=lambda test: str(test.due_at), default=None)

    @property
    def open_findings(self) -> tuple[Finding, ...]:
        """Those that nobody closed."""
        return tuple(one for one in self.findings if one.state is not State.CLOSED)


@dataclass(frozen=True)
class Board:
    """The whole of it, of one moment. homeless: the newest runs that ended before a cluster was known; pages: by run id where its page lies."""

    at: str
    policy: Mapping[str, str | None]
    clusters: tuple[Cluster, ...]
    homeless: tuple[Run, ...]
    homeless_total: int
    runs_total: int
    pages: Mapping[str, str]
    overview: Overview

    @property
    def calendar(self) -> list[tuple[Cluster, due.Entry]]:
        """Every test by its date; what was never passed is due now and stands first."""
        found = [(cluster, test) for cluster in self.clusters for test in cluster.tests]
        return sorted(found, key=lambda one: (one[1].due_at or "", one[0].name, one[1].test))

    @cached_property
    def late_findings(self) -> frozenset[Finding]:
        """Those that should have been closed by now."""
        today = self.overview.at.date()
        return frozenset(finding for finding in self.overview.findings if finding.is_overdue(today))

    def document(self) -> dict[str, Any]:
        """What `data.json` holds."""
        return {
            "schema": SCHEMA,
            "relevo": relevo.__version__,
            "at": self.at,
            "policy": dict(self.policy),
            "runs_total": self.runs_total,
            "clusters": [self._cluster(cluster) for cluster in self.clusters],
            "without_cluster": {"runs_total": self.homeless_total, "runs": [run.document() for run in self.homeless]},
        }

    def _cluster(self, cluster: Cluster) -> dict[str, Any]:
        return {
            "cluster": cluster.name,
            "page": cluster.page,
            "tier": cluster.tier,
            "state": cluster.state.value if cluster.state else None,
            "tests_current": cluster.current,
            "tests_overdue": cluster.overdue,
            "next": {"test": cluster.next.test, "due_at": cluster.next.due_at} if cluster.next else None,
            "tests": [test.document() for test in cluster.tests],
            "rto": cluster.recovery.document(),
            "rpo": cluster.loss.document(),
            "predictions": [asdict(prediction) for prediction in cluster.predictions],
            "findings_open": len(cluster.open_findings),
            "findings_overdue": sum(finding in self.late_findings for finding in cluster.findings),
            "findings": [finding.document(self.overview.at.date()) for finding in cluster.findings],
            "runbooks": [runbook.document() for runbook in cluster.runbooks],
            "runs_total": cluster.runs_total,
            "runs": [run.document() for run in cluster.runs],
        }


def page_of_cluster(name: str) -> str:
    """Where the page of a cluster lies: a name of its own for each, whatever the cluster is called."""
    return f"clusters/{_file_name(name, _PLAIN_CLUSTER)}.html"


def page_of_run(run_id: str) -> str:
    """Where the page of a run lies."""
    return f"runs/{_file_name(run_id, _PLAIN_RUN)}.html"


def _file_name(name: str, plain: re.Pattern[str]) -> str:
    if plain.fullmatch(name):
        return name
    # Only these names hold a tilde, so that no plain one is taken for them.
    readable = _UNSAFE.sub("-", name.lower()).strip("-")[:40]
    return f"{readable}~{hashlib.sha256(name.encode(errors='surrogatepass')).hexdigest()[:16]}"


def board(seen: Overview, policy: Mapping[str, str | None], runs: int = RUNS) -> Board:
    """What the pages show of an overview. policy: where it was read; runs: so many of the newest of each cluster have a page."""
    trends = {name: _measures(seen, name) for name in seen.clusters}
    homeless = seen.history.runs(None, runs)
    newest = {name: seen.history.runs(name, runs) for name in trends}
    named = list(_named(seen, trends))
    known = seen.history.named(named)
    listed_runs = [summary.run_id for some in (homeless, *newest.values()) for summary in some]
    pages = {run_id: page_of_run(run_id) for run_id in (*listed_runs, *(run_id for run_id in named if run_id in known))}

    def listed(summaries: Iterable[Summary]) -> tuple[Run, ...]:
        return tuple(Run(summary, pages.get(summary.run_id)) for summary in summaries)

    def cluster(name: str) -> Cluster:
        recovery, loss = trends[name]
        return Cluster(
            name,
            page_of_cluster(name),
            seen.policy.clusters[name].tier if name in seen.policy.clusters else None,
            tuple(sorted(seen.calendar_of(name), key=lambda test: (_STATES.index(test.state), test.due_at or ""))),
            recovery,
            loss,
            tuple(seen.predictions.get(name, ())),
            tuple(sorted(seen.findings_of(name), key=_urgency)),
            tuple(_runbook(one, pages) for one in seen.series_of(name)),
            listed(newest[name]),
            seen.totals.get(name, 0),
        )

    return Board(
        utc(seen.at),
        policy,
        tuple(map(cluster, trends)),
        listed(homeless),
        seen.totals.get("", 0),
        sum(seen.totals.values()),
        pages,
        seen,
    )


def _measures(seen: Overview, cluster: str) -> list[Measure]:
    return [Measure(*both) for both in zip(seen.trends_of(cluster, FAILOVERS), seen.trends_of(cluster), strict=True)]


def _named(seen: Overview, trends: Mapping[str, Sequence[Measure]]) -> Iterator[str]:
    """Runs that a page names, however old they are."""
    for test in seen.calendar:
        yield from (attempt.run_id for attempt in (test.passed, test.attempt) if attempt)
    for one in seen.series:
        yield from (run.run_id for run in (one.newest, one.last.get(Verdict.PASSED)) if run)
    for measured in trends.values():
        yield from (point.run_id for one in measured for point in (one.newest, one.rehearsed) if point)
    for finding in seen.findings:
        yield from filter(None, (finding.run_id, *(retest.run_id for retest in finding.retests)))


def _runbook(one: Series, pages: Mapping[str, str]) -> Runbook:
    passed = one.last.get(Verdict.PASSED)
    newest = Run(one.newest, pages.get(one.newest.run_id))
    return Runbook(one.runbook, newest, Run(passed, pages.get(passed.run_id)) if passed else None, one.counts)


def _urgency(finding: Finding) -> tuple[bool, int, str]:
    return finding.state is State.CLOSED, _SEVERITIES.index(finding.severity), finding.due
