"""What readiness, checklist, calendar, dashboard and metrics speak of: gathered once, of one moment, so that all of them say the same."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from relevo import changes, contacts, due, findings, forecast, sign_offs, trend
from relevo.clock import utc
from relevo.console import documents, heard

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from relevo.contacts import Standing, Team
    from relevo.findings import Finding
    from relevo.history import Summary
    from relevo.policy import Policy
    from relevo.prediction import Prediction
    from relevo.sign_offs import SignOff
    from relevo.store import Store

# Those whose time people plan with.
PLANNED = frozenset({"failover", "switchover", "failback", "rehearse", "restore_test"})


@dataclass(frozen=True)
class Overview:
    """One look at a store, all of it. runs: newest first, of all clusters; records: reads whole ones; predictions: by cluster, of what it has run.

    same: whether two different values mean the same, see changes.Same.
    """

    at: datetime
    policy: Policy
    runs: Sequence[Summary]
    records: due.Records
    calendar: Sequence[due.Entry]
    series: Sequence[trend.Series]
    predictions: Mapping[str, Sequence[Prediction]]
    findings: Sequence[Finding]
    contacts: Sequence[Standing]
    team: Team
    sign_offs: Sequence[SignOff]
    same: changes.Same

    @property
    def clusters(self) -> list[str]:
        """Those that the policy names, that have run, or are seen now."""
        return sorted({entry.cluster for entry in self.calendar})

    def runs_of(self, cluster: str) -> Sequence[Summary]:
        """Newest first."""
        return self._by_cluster.get(cluster, ())

    @property
    def runs_without_cluster(self) -> Sequence[Summary]:
        """Those that ended before anybody named one, newest first."""
        return self._by_cluster.get("", ())

    def calendar_of(self, cluster: str) -> list[due.Entry]:
        """The tests that it owes."""
        return [entry for entry in self.calendar if entry.cluster == cluster]

    def findings_of(self, cluster: str) -> list[Finding]:
        """Open and closed, in the order in which they were opened."""
        return [finding for finding in self.findings if finding.cluster == cluster]

    def trends_of(self, cluster: str) -> list[trend.Trend]:
        """Recovery time and data loss over time, against what the policy wants of this cluster now."""
        runs, targets = self.runs_of(cluster), self.policy.objectives_of(cluster)
        return [trend.trend(runs, measure, targets[measure]) for measure in trend.MEASURES]

    @cached_property
    def _by_cluster(self) -> Mapping[str, Sequence[Summary]]:
        """Sorted once: a long history has as many runs as many clusters ask for theirs."""
        found: dict[str, list[Summary]] = {}
        for run in self.runs:
            found.setdefault(run.cluster or "", []).append(run)
        return found


def gather(store: Store, policy: Policy, now: due.Now) -> Overview:
    """Look at the store. StoreError when it is away."""
    runs, records = store.summaries(), documents(store)
    series = trend.series(runs)
    planned: dict[str, list[str]] = {}
    for one in series:
        if one.runbook in PLANNED and one.cluster != trend.NO_CLUSTER:
            planned.setdefault(one.cluster, []).append(one.runbook)
    at = utc(now.at)
    return Overview(
        now.at,
        policy,
        runs,
        records,
        due.entries(policy, runs, records, now),
        series,
        {cluster: forecast.look(store, cluster, runbooks, at) for cluster, runbooks in planned.items()},
        findings.fold(heard(store, findings.KIND)),
        contacts.standings(policy, heard(store, contacts.KIND), now.at),
        contacts.team(policy, runs, now.at),
        sign_offs.fold(heard(store, sign_offs.KIND)),
        now.same,
    )
