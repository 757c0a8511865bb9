"""The history of a store: each question is put to the database, which counts, sorts and finds by its indices."""

from __future__ import annotations

import heapq
from itertools import islice
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql

from relevo import tables
from relevo.clock import utc
from relevo.history import Led, Summary, Tally
from relevo.trend import MOST_POINTS, Trend, point
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from relevo.policy import Run
    from relevo.store import Store

_column = tables.summary.c
_NEWEST_FIRST = (_column.opened_at.desc(), _column.run_id.desc())
# Not "= false": an index that knows it would be taken for that alone, and its rows be sorted.
_RAN = _column.check_mode.is_not(True)
# A question may name only so many.
_BATCH = 500


class StoredHistory:
    """The runs of a store, optionally of those from before a time."""

    def __init__(self, store: Store, *limits: sql.ColumnElement[bool]) -> None:
        self._store, self._limits = store, limits

    def clusters(self) -> list[str]:
        """Those that have runs, by name."""
        found = self._store.rows(sql.select(_column.cluster).where(_column.cluster.is_not(None), *self._limits).distinct())
        return sorted(row[0] for row in found)

    def tallies(self) -> list[Tally]:
        """By cluster, runbook, check mode and verdict how many runs there are, and the newest of them."""
        by = (_column.cluster, _column.runbook, _column.check_mode, _column.verdict)
        counted = sql.select(*by, sql.func.count().label("runs")).where(*self._limits).group_by(*by).subquery()
        found = [row for home in (True, False) for row in self._store.rows(self._with_the_newest(counted, home=home))]
        newest = self.named([row.run_id for row in found])
        return [Tally(newest[row.run_id], row.runs) for row in found if row.run_id in newest]

    def measured(self) -> list[Summary]:
        """Of each cluster and runbook the newest run with a recovery time."""
        by = (_column.cluster, _column.runbook)
        also = (_column.rto_seconds.is_not(None), _RAN)
        kinds = sql.select(*by).where(*also, *self._limits).group_by(*by).subquery()
        found = [row for home in (True, False) for row in self._store.rows(self._with_the_newest(kinds, *also, home=home))]
        newest = self.named([row.run_id for row in found])
        return [newest[row.run_id] for row in found if row.run_id in newest]

    def runs(self, cluster: str | None, limit: int, *, ran_only: bool = False) -> list[Summary]:
        """The newest of one cluster; None: of those that ended before anybody named one."""
        own = _column.cluster.is_(None) if cluster is None else _column.cluster == cluster
        return self._runs(own, *([_RAN] if ran_only else []), limit=limit)

    def up_to(self, run: Summary, limit: int) -> list[Summary]:
        """A run and those of its cluster before it."""
        place = sql.tuple_(_column.opened_at, _column.run_id) <= sql.tuple_(sql.literal(run.opened_at), sql.literal(run.run_id))
        return self._runs(_column.cluster == run.cluster, place, limit=limit)

    def attempts(
        self, cluster: str, kinds: Sequence[Run], until: datetime, limit: int, measure: str | None = None
    ) -> list[Summary]:
        """The newest of these kinds that began and ended by then; measure: and that measured this."""
        also = [_column.cluster == cluster, _column.opened_at <= utc(until), _column.closed_at <= utc(until), _RAN]
        if measure is not None:
            also.append(_column[measure].is_not(None))
        # Each kind by itself: of several at once a database would sort all there are.
        found = [self._runs(_is_of(one), *also, limit=limit) for one in kinds]
        merged = heapq.merge(*found, key=lambda run: (run.opened_at, run.run_id), reverse=True)
        return list(islice({run.run_id: run for run in merged}.values(), limit))

    def ended(self, cluster: str, since: datetime) -> list[Summary]:
        """Those that ended since then."""
        own = (_column.cluster == cluster, _column.closed_at >= utc(since), _RAN, *self._limits)
        found = self._store.each_row(sql.select(*tables.SUMMARY).where(*own), Summary._make)
        # Sorted here: a database would go through the whole cluster in that order.
        return sorted(found, key=lambda run: (run.opened_at, run.run_id), reverse=True)

    def named(self, run_ids: Collection[str]) -> dict[str, Summary]:
        """Those of these runs that there are."""
        wanted = list(dict.fromkeys(run_ids))
        found: dict[str, Summary] = {}
        for first in range(0, len(wanted), _BATCH):
            query = sql.select(*tables.SUMMARY).where(_column.run_id.in_(wanted[first : first + _BATCH]), *self._limits)
            found |= {run.run_id: run for run in self._store.each_row(query, Summary._make)}
        return found

    def trend(self, cluster: str, measure: str, target_seconds: float | None, runbooks: Sequence[str] = ()) -> Trend:
        """A measure over time; runbooks: of these alone."""
        value = _column[measure]
        own = [_column.cluster == cluster, value.is_not(None), _RAN, *self._limits]
        if runbooks:
            own.append(_column.runbook.in_(runbooks))
        over = sql.false() if target_seconds is None else value > target_seconds
        counted = self._store.rows(sql.select(sql.func.count(), sql.func.count().filter(over)).where(*own))
        count, missed = counted[0] if counted else (0, 0)
        newest = sql.select(_column.run_id, _column.opened_at, _column.runbook, value).where(*own).order_by(*_NEWEST_FIRST)
        rows = self._store.rows(newest.limit(MOST_POINTS))
        points = tuple(point(run_id, at, name, seconds, target_seconds) for run_id, at, name, seconds in reversed(rows))
        half = count // 2
        if not half:
            return Trend(measure, target_seconds, points, count, missed)
        by_time = sql.select(value.label("seconds")).where(*own).order_by(_column.opened_at, _column.run_id)
        before = self._median(by_time.limit(half), half)
        since = self._median(by_time.limit(count - half).offset(half), count - half)
        return Trend(measure, target_seconds, points, count, missed, before, since)

    def leaders(
        self, clusters: Sequence[str], kinds: Iterable[Run], period: tuple[datetime, datetime], machines: Collection[str]
    ) -> list[Led]:
        """By operator, those who led a passed run of these kinds in that time, without the accounts of machines."""
        begin, end = period
        passed = [
            *(_column.cluster.in_(clusters), _column.closed_at >= utc(begin), _column.closed_at <= utc(end)),
            *(sql.or_(sql.false(), *map(_is_of, kinds)), _column.verdict == Verdict.PASSED.value, _RAN),
            *(_column.operator.not_in(list(machines)), *self._limits),
        ]
        last = sql.func.max(_column.opened_at)
        found = self._store.rows(sql.select(_column.operator, sql.func.count(), last).where(*passed).group_by(_column.operator))
        led = []
        for operator, count, opened_at in sorted(found, key=lambda row: str(row[0])):
            (newest,) = self._runs(_column.operator == operator, _column.opened_at == opened_at, *passed, limit=1)
            led.append(Led(newest, count))
        return led

    def before(self, at: datetime) -> StoredHistory:
        """The history as it was at that time."""
        return StoredHistory(self._store, *self._limits, _column.opened_at < utc(at), _column.closed_at < utc(at))

    def _runs(self, *conditions: sql.ColumnElement[bool], limit: int) -> list[Summary]:
        query = sql.select(*tables.SUMMARY).where(*conditions, *self._limits).order_by(*_NEWEST_FIRST)
        return self._store.each_row(query.limit(limit), Summary._make)

    def _with_the_newest(self, groups: sql.Subquery, *also: sql.ColumnElement[bool], home: bool) -> sql.Select[Any]:
        """Each group with the id of its newest run. home: of those with a cluster, or of those without."""
        keys = [column for column in groups.c if column.name in _column]
        same = [_column[key.name] == key for key in keys if key.name != "cluster"]
        cluster = _column.cluster == groups.c.cluster if home else _column.cluster.is_(None)
        newest = sql.select(_column.run_id).where(cluster, *same, *also, *self._limits).order_by(*_NEWEST_FIRST).limit(1)
        chosen = groups.c.cluster.is_not(None) if home else groups.c.cluster.is_(None)
        return sql.select(groups, newest.correlate(groups).scalar_subquery().label("run_id")).where(chosen)

    def _median(self, values: sql.Select[Any], count: int) -> float:
        """The middle one, or the mean of the two in the middle."""
        inner = values.subquery()
        middle = sql.select(inner.c.seconds).order_by(inner.c.seconds).offset((count - 1) // 2).limit(2 - count % 2)
        found = [float(row[0]) for row in self._store.rows(middle)]
        return sum(found) / len(found)


def _is_of(kind: Run) -> sql.ColumnElement[bool]:
    exactly: Mapping[str, str | None] = {"mode": kind.mode, "scope": kind.scope}
    return sql.and_(
        _column.runbook == kind.runbook, *(_column[name] == value for name, value in exactly.items() if value is not None)
    )
