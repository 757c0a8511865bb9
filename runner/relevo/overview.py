"""What readiness, checklist, calendar, dashboard and metrics speak of: gathered once, of one moment, so that all of them say the same."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relevo import changes, contacts, documents, due, findings, forecast, sign_offs, trend
from relevo.clock import utc
from relevo.console import heard
from relevo.stored_history import StoredHistory

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from relevo.contacts import Standing, Team
    from relevo.findings import Finding
    from relevo.history import History, Summary
    from relevo.policy import Policy
    from relevo.prediction import Prediction
    from relevo.sign_offs import SignOff
    from relevo.store import Store

# Those whose time people plan with.
PLANNED = frozenset({"failover", "switchover", "failback", "rehearse", "restore_test"})


@dataclass(frozen=True)
class Overview:
    """One look at a store, all of it.

    past: asked for whatever the rest does not say; totals: by cluster how many runs there are, "" for those that ended before anybody named one;
    predictions: by cluster, of what it has run; same: whether two different values mean the same, see changes.Same; known: every cluster, also where
    only one was looked at.
    """

    at: datetime
    policy: Policy
    past: due.Past
    totals: Mapping[str, int]
    calendar: Sequence[due.Entry]
    series: Sequence[trend.Series]
    predictions: Mapping[str, Sequence[Prediction]]
    findings: Sequence[Finding]
    contacts: Sequence[Standing]
    team: Team
    sign_offs: Sequence[SignOff]
    same: changes.Same
    known: Sequence[str] = ()

    @property
    def clusters(self) -> list[str]:
        """Those that the policy names, that have run, or are seen now; of these the one that was asked for."""
        return sorted({entry.cluster for entry in self.calendar})

    @property
    def history(self) -> History:
        """The runs in short."""
        return self.past.history

    @property
    def records(self) -> due.Records:
        """Reads whole ones."""
        return self.past.records

    def series_of(self, cluster: str) -> list[trend.Series]:
        """What it has run, by runbook."""
        return [one for one in self.series if one.cluster == cluster]

    def newest(self, cluster: str, runbook: str, verdicts: Iterable[str]) -> Summary | None:
        """The newest run of a runbook that ended as one of these."""
        return next((one.newest_of(verdicts) for one in self.series_of(cluster) if one.runbook == runbook), None)

    def calendar_of(self, cluster: str) -> list[due.Entry]:
        """The tests that it owes."""
        return [entry for entry in self.calendar if entry.cluster == cluster]

    def findings_of(self, cluster: str) -> list[Finding]:
        """Open and closed, in the order in which they were opened."""
        return [finding for finding in self.findings if finding.cluster == cluster]

    def trends_of(self, cluster: str, runbooks: Sequence[str] = ()) -> list[trend.Trend]:
        """Recovery time and data loss over time, against what the policy wants of this cluster now; runbooks: of these alone."""
        targets = self.policy.objectives_of(cluster)
        return [self.history.trend(cluster, measure, targets[measure], runbooks) for measure in trend.MEASURES]


def gather(store: Store, policy: Policy, now: due.Now, only: str | None = None) -> Overview:
    """Look at the store. StoreError when it is away.

    only: tests and predictions of this cluster alone. What is asked of it later is of this moment within `store.one_view`, else of its own.
    """
    history, records = StoredHistory(store), documents.of(store)
    tallies = history.tallies()
    totals: Counter[str] = Counter()
    for tally in tallies:
        totals[tally.newest.cluster or ""] += tally.runs
    ran = sorted(filter(None, totals))
    past, series = due.Past(history, records), trend.series(tallies, history.measured())
    known = due.known(policy, ran, now)
    asked = [name for name in known if only in {None, name}]
    planned: dict[str, list[str]] = {}
    for one in series:
        if one.runbook in PLANNED and one.cluster != trend.NO_CLUSTER and only in {None, one.cluster}:
            planned.setdefault(one.cluster, []).append(one.runbook)
    at = utc(now.at)
    return Overview(
        now.at,
        policy,
        past,
        totals,
        [entry for name in asked for entry in due.of_cluster(policy, past, name, now)],
        series,
        {cluster: forecast.look(store, cluster, runbooks, at, records) for cluster, runbooks in planned.items()},
        findings.fold(heard(store, findings.KIND)),
        contacts.standings(policy, heard(store, contacts.KIND), now.at),
        contacts.team(policy, history, ran, now.at),
        sign_offs.fold(heard(store, sign_offs.KIND)),
        now.same,
        known,
    )
