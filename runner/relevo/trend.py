"""Many runs in a few numbers: the newest of each kind, how many ended how, and RTO and RPO over time against objectives. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from statistics import median
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from relevo.history import Summary

RTO, RPO = "rto_seconds", "rpo_seconds"
MEASURES = (RTO, RPO)
# Those that move production to another site: each is a test of a failover.
FAILOVERS = ("failover", "switchover")
# Of the runs that were refused before anybody named a cluster.
NO_CLUSTER = "unknown"


@dataclass(frozen=True)
class Series:
    """The runs of one runbook on one cluster. last: by verdict the newest run that ended so; measured: the newest with a recovery time."""

    cluster: str
    runbook: str
    newest: Summary
    last: Mapping[str, Summary]
    counts: Mapping[str, int]
    measured: Summary | None


@dataclass(frozen=True)
class Point:
    """One measurement. met: None where there is no target."""

    run_id: str
    at: str
    runbook: str
    seconds: float
    met: bool | None


@dataclass(frozen=True)
class Trend:
    """One measure over time, oldest first. before_seconds, since_seconds: the medians of the older and the newer half; None with fewer than two points."""

    measure: str
    target_seconds: float | None
    points: tuple[Point, ...] = field(default=())
    before_seconds: float | None = None
    since_seconds: float | None = None

    @property
    def missed(self) -> int:
        """How many points are over the target."""
        return sum(point.met is False for point in self.points)


def that_ran(summaries: Iterable[Summary]) -> list[Summary]:
    """Without those in check mode, which did nothing."""
    return [summary for summary in summaries if not summary.check_mode]


def series(summaries: Iterable[Summary]) -> list[Series]:
    """By cluster and runbook. summaries: newest first, as the store lists them."""
    groups: dict[tuple[str, str], list[Summary]] = {}
    for summary in that_ran(summaries):
        groups.setdefault((summary.cluster or NO_CLUSTER, summary.runbook), []).append(summary)
    return [_series(cluster, runbook, runs) for (cluster, runbook), runs in sorted(groups.items())]


def newest(summaries: Iterable[Summary], runbooks: Iterable[str], verdicts: Iterable[str]) -> dict[str, Summary]:
    """By cluster the newest run of any of these runbooks that ended as one of these verdicts. summaries: newest first."""
    wanted, ends = set(runbooks), set(verdicts)
    found: dict[str, Summary] = {}
    for summary in that_ran(summaries):
        if summary.cluster and summary.runbook in wanted and summary.verdict in ends:
            found.setdefault(summary.cluster, summary)
    return found


def trend(summaries: Iterable[Summary], measure: str, target_seconds: float | None) -> Trend:
    """One measure of one cluster over time. summaries: newest first; measure: rto_seconds or rpo_seconds."""
    points = tuple(reversed([point for summary in that_ran(summaries) if (point := _point(summary, measure, target_seconds))]))
    values = [point.seconds for point in points]
    half = len(values) // 2
    if not half:
        return Trend(measure, target_seconds, points)
    return Trend(measure, target_seconds, points, median(values[:half]), median(values[half:]))


def _point(summary: Summary, measure: str, target_seconds: float | None) -> Point | None:
    seconds = summary.rto_seconds if measure == RTO else summary.rpo_seconds
    if seconds is None:
        return None
    met = None if target_seconds is None else seconds <= target_seconds
    return Point(summary.run_id, summary.opened_at, summary.runbook, seconds, met)


def _series(cluster: str, runbook: str, runs: Sequence[Summary]) -> Series:
    last: dict[str, Summary] = {}
    for run in runs:
        last.setdefault(run.verdict, run)
    measured = next((run for run in runs if run.rto_seconds is not None), None)
    return Series(cluster, runbook, runs[0], last, Counter(run.verdict for run in runs), measured)
