"""A small fleet for the pages that show one: a cluster with a past, one with a hostile name, one that never ran."""

from __future__ import annotations

from datetime import datetime, timedelta

from relevo import dashboard, due, entries, findings, overview, policy_file, signature
from relevo.clock import utc
from relevo.dashboard import Board
from relevo.entries import Speaker
from relevo.findings import Severity
from relevo.record import Record, canonical
from relevo.store import Store
from tests.unit.runner.past import run

# Whatever a name may do to a page, a path or a terminal.
HOSTILE = "../x & <b onclick=alert(1)>\u202eünïcode</b> \"'"
SCRIPT = "<script>document.title='taken'</script><img src=x onerror=alert(1)>"
# A store takes it, and two file systems in three would take it for another.
ODD_RUN = "RUN..of.NOBODY-"
POLICY = """
schema: relevo-policy/1
clusters:
  minimarket: {tier: critical}
  payroll: {tier: secondary}
tiers:
  fast: {rto: 10 s}
"""
REASON = "the desk said so " + "without a space ".replace(" ", "_") * 12


def records(until: datetime, often: int = 9) -> list[Record]:
    """often: so many failovers of minimarket, the newest a day old; a failed one, one over the objective and one without a cluster among them."""

    def at(days: float) -> str:
        return utc(until - timedelta(days=days))

    def name(days: float, runbook: str, number: int) -> str:
        return f"{until - timedelta(days=days):%Y%m%dT%H%M%SZ}-{runbook}-{number:04x}"

    found = []
    for number in range(often):
        days = 1 + 30 * number
        measures = {"rto_seconds": 15000.0 if number == 3 else 20.0 + number, "rpo_seconds": 0.0 if number % 2 else 1.5}
        scope = "site" if number % 2 else "database"
        found.append(run(name(days, "failover", number), at(days), measures=measures, scope=scope))
        rehearsed = {"rto_seconds": 40.0 + number, "rpo_seconds": 8.0}
        found.append(run(name(days + 9, "rehearse", number), at(days + 9), runbook="rehearse", scope=None, measures=rehearsed))
        found.append(run(name(days + 3, "check", number), at(days + 3), "check_passed", runbook="check", mode=None, scope=None))
    found += [
        run(name(4, "failover", 0xF0), at(4), "failover_failed"),
        run(name(2, "failover", 0xF1), at(2), "failover_refused", cluster=None),
        run(name(5, "failover", 0xF2), at(5), check_mode=True),
        run(name(6, "failover", 0xF3), at(6), cluster=HOSTILE, operator=SCRIPT),
        run(ODD_RUN, at(400), cluster=HOSTILE),
    ]
    return found


def fill(store: Store, until: datetime, often: int = 9) -> None:
    """The fleet in a store, with three findings: one late, one of a run that this store never had, one with a hostile text."""
    key = signature.ready_key(store._keys)
    for record in records(until, often):
        document = canonical(record.document())
        store.add(record, document, signature.sign(key, document))
    speaker = Speaker("mira", "ctl1", until)
    late, coming = (f"{until + timedelta(days=days):%Y-%m-%d}" for days in (-3, 40))
    newest = records(until, 1)[0].run_id
    for number, (words, severity, when, cluster, run_id) in enumerate(
        [
            ("DNS keeps the old address for five minutes", Severity.HIGH, late, "minimarket", newest),
            (SCRIPT, Severity.LOW, coming, "minimarket", "of-another-store"),
            (REASON, Severity.MEDIUM, coming, HOSTILE, None),
        ]
    ):
        said = findings.opened(words, severity, SCRIPT if number else "mira", when, (cluster, run_id))
        entries.append(store, entries.make(speaker, findings.KIND, f"F-00000{number}", findings.OPENED, said), key)


def board(store: Store, now: datetime, runs: int = dashboard.RUNS) -> Board:
    """What the dashboard shows of it."""
    policy = policy_file.parse(POLICY, "policy.yml")
    return dashboard.board(
        overview.gather(store, policy, due.Now(now, {}, lambda *_: None)), {"source": "policy.yml", "sha256": None}, runs
    )
