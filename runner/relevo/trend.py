"""Many runs in a few numbers: the newest of each kind, how many ended how, and RTO and RPO over time against objectives. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from relevo.history import Summary, Tally

RTO, RPO = "rto_seconds", "rpo_seconds"
MEASURES = (RTO, RPO)
# Those that move production to another site: each is a test of a failover.
FAILOVERS = ("failover", "switchover")
# Of the runs that were refused before anybody named a cluster.
NO_CLUSTER = "unknown"
# More of them are no chart any more.
MOST_POINTS = 100


@dataclass(frozen=True)
class Series:
    """The runs of one runbook on one cluster. last: by verdict the newest run that ended so; measured: the newest with a recovery time."""

    cluster: str
    runbook: str
    newest: Summary
    last: Mapping[str, Summary]
    counts: Mapping[str, int]
    measured: Summary | None

    def newest_of(self, verdicts: Iterable[str]) -> Summary | None:
        """The newest that ended as one of these."""
        return max((self.last[one] for one in verdicts if one in self.last), key=_place, default=None)


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
    """One measure over time.

    points: the newest, oldest first; count: of all; missed: how many of all are over the target; before_seconds, since_seconds: the medians of the
    older and the newer half of all, None with fewer than two.
    """

    measure: str
    target_seconds: float | None
    points: tuple[Point, ...] = ()
    count: int = 0
    missed: int = 0
    before_seconds: float | None = None
    since_seconds: float | None = None


def series(tallies: Iterable[Tally], measured: Iterable[Summary]) -> list[Series]:
    """By cluster and runbook, without the runs in check mode, which did nothing."""
    groups: dict[tuple[str, str], list[Tally]] = {}
    for tally in tallies:
        if not tally.newest.check_mode:
            groups.setdefault(_kind(tally.newest), []).append(tally)
    known = list(measured)
    return [_series(kind, own, [run for run in known if _kind(run) == kind]) for kind, own in sorted(groups.items())]


def point(run_id: str, opened_at: str, runbook: str, seconds: float, target_seconds: float | None) -> Point:
    """What a run measured, against a target."""
    return Point(run_id, opened_at, runbook, float(seconds), None if target_seconds is None else seconds <= target_seconds)


def _kind(run: Summary) -> tuple[str, str]:
    return run.cluster or NO_CLUSTER, run.runbook


def _place(run: Summary) -> tuple[str, str]:
    return run.opened_at, run.run_id


def _series(kind: tuple[str, str], own: list[Tally], measured: list[Summary]) -> Series:
    last: dict[str, Summary] = {}
    counts: Counter[str] = Counter()
    # A cluster may bear the name that stands for none.
    for tally in sorted(own, key=lambda tally: _place(tally.newest)):
        last[tally.newest.verdict] = tally.newest
        counts[tally.newest.verdict] += tally.runs
    return Series(*kind, max(last.values(), key=_place), last, counts, max(measured, key=_place, default=None))
