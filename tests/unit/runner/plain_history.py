"""A history as a plain list: what the database's answers are held against, and what runs that lie in no store are judged by."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from statistics import median

from relevo import criteria
from relevo.clock import utc
from relevo.history import Led, Summary, Tally
from relevo.policy import Run
from relevo.trend import MOST_POINTS, Trend, point


class PlainHistory:
    """The same questions as :class:`relevo.history.History`, each answered by going through all runs."""

    def __init__(self, runs: Iterable[Summary]) -> None:
        self.summaries = sorted(runs, key=lambda run: (run.opened_at, run.run_id), reverse=True)

    @property
    def _ran(self) -> list[Summary]:
        return [run for run in self.summaries if not run.check_mode]

    def clusters(self) -> list[str]:
        return sorted({run.cluster for run in self.summaries if run.cluster is not None})

    def tallies(self) -> list[Tally]:
        groups: dict[object, list[Summary]] = {}
        for run in self.summaries:
            groups.setdefault((run.cluster, run.runbook, run.check_mode, run.verdict), []).append(run)
        return [Tally(own[0], len(own)) for own in groups.values()]

    def measured(self) -> list[Summary]:
        found: dict[object, Summary] = {}
        for run in self._ran:
            if run.rto_seconds is not None:
                found.setdefault((run.cluster, run.runbook), run)
        return list(found.values())

    def runs(self, cluster: str | None, limit: int, *, ran_only: bool = False) -> list[Summary]:
        return [run for run in (self._ran if ran_only else self.summaries) if run.cluster == cluster][:limit]

    def up_to(self, run: Summary, limit: int) -> list[Summary]:
        own = [one for one in self.summaries if one.cluster == run.cluster]
        return own[own.index(run) :][:limit]

    def attempts(
        self, cluster: str, kinds: Sequence[Run], until: datetime, limit: int, measure: str | None = None
    ) -> list[Summary]:
        return [
            run
            for run in self._ran
            if run.cluster == cluster
            and criteria.is_of(kinds, run)
            and max(run.opened_at, run.closed_at) <= utc(until)
            and (measure is None or getattr(run, measure) is not None)
        ][:limit]

    def ended(self, cluster: str, since: datetime) -> list[Summary]:
        return [run for run in self._ran if run.cluster == cluster and run.closed_at >= utc(since)]

    def named(self, run_ids: Collection[str]) -> dict[str, Summary]:
        return {run.run_id: run for run in self.summaries if run.run_id in run_ids}

    def trend(self, cluster: str, measure: str, target_seconds: float | None, runbooks: Sequence[str] = ()) -> Trend:
        own = [run for run in reversed(self._ran) if run.cluster == cluster and (not runbooks or run.runbook in runbooks)]
        found = [(run, getattr(run, measure)) for run in own if getattr(run, measure) is not None]
        points = [point(run.run_id, run.opened_at, run.runbook, seconds, target_seconds) for run, seconds in found]
        about = (tuple(points[-MOST_POINTS:]), len(points), sum(one.met is False for one in points))
        half = len(points) // 2
        if not half:
            return Trend(measure, target_seconds, *about)
        halves = (median(one.seconds for one in some) for some in (points[:half], points[half:]))
        return Trend(measure, target_seconds, *about, *halves)

    def leaders(
        self, clusters: Sequence[str], kinds: Iterable[Run], period: tuple[datetime, datetime], machines: Collection[str]
    ) -> list[Led]:
        begin, end = map(utc, period)
        kinds = list(kinds)
        led: dict[str, list[Summary]] = {}
        for run in self._ran:
            counts = run.cluster in clusters and run.verdict == "passed" and criteria.is_of(kinds, run)
            if counts and begin <= run.closed_at <= end and run.operator not in machines:
                led.setdefault(run.operator, []).append(run)
        return [Led(own[0], len(own)) for _, own in sorted(led.items())]

    def before(self, at: datetime) -> PlainHistory:
        return PlainHistory(run for run in self.summaries if run.opened_at < utc(at) and run.closed_at < utc(at))
