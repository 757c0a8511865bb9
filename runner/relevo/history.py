"""A cluster's past in short: of each run what lists, trends, calendars and predictions are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, Self

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime

    from relevo.policy import Run
    from relevo.record import Record
    from relevo.trend import Trend


class Summary(NamedTuple):
    """One run. Times as in its record; seconds and counts are None where nobody measured them.

    A row as it is read, with names: a list may hold a hundred thousand.
    """

    run_id: str
    runbook: str
    cluster: str | None
    mode: str | None
    scope: str | None
    verdict: str
    objectives_met: bool | None
    check_mode: bool
    opened_at: str
    closed_at: str
    duration_seconds: float
    operator: str
    rto_seconds: float | None
    rpo_seconds: float | None
    acknowledged: int | None
    lost: int | None


@dataclass(frozen=True)
class Tally:
    """The runs that have cluster, runbook, check mode and verdict in common: the newest, and how many there are."""

    newest: Summary
    runs: int


@dataclass(frozen=True)
class Led:
    """What one operator led: the newest run, and how many there are."""

    newest: Summary
    runs: int


class History(Protocol):
    """The runs of a store, in questions that a long history answers as quickly as a short one.

    Lists stand newest first. A run in check mode did nothing: it is left out but where it says otherwise.
    """

    def clusters(self) -> Sequence[str]:
        """Those that have runs, by name."""

    def tallies(self) -> Sequence[Tally]:
        """By cluster, runbook, check mode and verdict how many runs there are, and the newest of them."""

    def measured(self) -> Sequence[Summary]:
        """Of each cluster and runbook the newest run with a recovery time."""

    def runs(self, cluster: str | None, limit: int, *, ran_only: bool = False) -> Sequence[Summary]:
        """The newest of one cluster, in check mode too; None: of those that ended before anybody named one."""

    def up_to(self, run: Summary, limit: int) -> Sequence[Summary]:
        """A run and those of its cluster before it, in check mode too."""

    def attempts(
        self, cluster: str, kinds: Sequence[Run], until: datetime, limit: int, measure: str | None = None
    ) -> Sequence[Summary]:
        """The newest of these kinds that began and ended by then; measure: and that measured this."""

    def ended(self, cluster: str, since: datetime) -> Sequence[Summary]:
        """Those that ended since then."""

    def named(self, run_ids: Collection[str]) -> Mapping[str, Summary]:
        """Those of these runs that there are, in check mode too."""

    def trend(self, cluster: str, measure: str, target_seconds: float | None, runbooks: Sequence[str] = ()) -> Trend:
        """A measure over time; runbooks: of these alone."""

    def leaders(
        self, clusters: Sequence[str], kinds: Iterable[Run], period: tuple[datetime, datetime], machines: Collection[str]
    ) -> Sequence[Led]:
        """By operator, those who led a passed run of these kinds in that time, without the accounts of machines."""

    def before(self, at: datetime) -> Self:
        """The history as it was at that time."""


def summarize(record: Record) -> Summary:
    """The same record, in short."""
    measures, ledger = record.measures, record.measures.get("ledger") or {}
    return Summary(
        record.run_id,
        record.runbook,
        record.cluster,
        record.mode,
        record.scope,
        record.verdict.value,
        record.objectives_met,
        record.check_mode,
        record.opened_at,
        record.closed_at,
        record.duration_seconds,
        record.operator,
        _number(measures.get("rto_seconds")),
        _number(measures.get("rpo_seconds")),
        ledger.get("acknowledged"),
        ledger.get("lost"),
    )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else None
