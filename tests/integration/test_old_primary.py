"""The host of the old primary in the middle of a switchover or a failback: it reboots, it thaws, or its partition heals while the run goes on.

It is never writable again before its fence was lifted, never beside another primary, and what `relevo status` says afterwards leads to the end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Self

import pytest

from .conftest import Bench
from .test_failback import begun, power_on
from .test_sweep import VARIABLES, begin, follow, lost_once, writable_in_turn
from .test_switchover import HOSTS, assert_serves, when

pytestmark = pytest.mark.full

# Longer than a dead connection is believed in, shorter than any deadline of a step.
AWAY_SECONDS = 8.0
ELSEWHERE = ("wit1", "b-db1", "b-app1", "b-store1", "a-store1", "a-app1", "controller")


def power_cycled(bench: Bench) -> None:
    bench.verb("power-off", "a-db1")
    power_on(bench, "a-db1")


def thawed(bench: Bench) -> None:
    with bench.frozen("a-db1"):
        time.sleep(AWAY_SECONDS)


def healed(bench: Bench) -> None:
    for other in ELSEWHERE:
        bench.verb("cut", "a-db1", other)
    time.sleep(AWAY_SECONDS)
    bench.verb("heal-all")


class Watcher(threading.Thread):
    """Asks both database hosts all the time, from outside their network."""

    def __init__(self, bench: Bench) -> None:
        super().__init__(daemon=True)
        self.wrong: list[str] = []
        self._bench, self._ended = bench, threading.Event()

    def run(self) -> None:
        stopped = False
        while not self._ended.is_set():
            marked = bool(self._bench.fence("a-db1"))
            old, new = (self._writable(host) for host in ("a-db1", "b-db1"))
            # Who is stopped is marked before it stops: only what comes afterwards is wrong.
            stopped = marked and (stopped or not old)
            if old and stopped and self._bench.fence("a-db1"):
                self.wrong.append("a-db1 is writable with its fence mark")
            if old and new:
                self.wrong.append("both are writable")
            time.sleep(0.1)

    def _writable(self, host: str) -> bool:
        try:
            return self._bench.writable(host)
        except Exception:  # noqa: BLE001 - a host that stands still, or is being switched off, answers nobody
            return False

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join(90)


def moment(bench: Bench, runbook: str, phase: str, before: int) -> Callable[[], bool]:
    if runbook == "failback":
        return lambda: begun(bench, phase, before)
    return lambda: any(entry["phase"] == phase for entry in bench.journal(HOSTS[phase])[before:])


@pytest.mark.parametrize("happens", [power_cycled, thawed, healed])
@pytest.mark.parametrize(
    ("runbook", "phase"),
    [("switchover", "HANDOVER"), ("switchover", "FENCE"), ("switchover", "FOLLOW"), ("failback", "CHANGE"), ("failback", "FOLLOW")],
)
def test_it_is_never_writable_before_it_was_lifted(protected, runbook, phase, happens):
    bench = protected
    lost_once(bench)
    begin(bench, runbook)
    # Of a failback: its own mark of the failover is older.
    before = len(bench.journal("a-db1"))
    with Watcher(bench) as watcher:
        process = bench.start(runbook, **VARIABLES[runbook])
        when(process, moment(bench, runbook, phase, before))
        happens(bench)
        first = bench.finish(process)
        steps = follow(bench)
        # One that opened the old side again leads back to where it began.
        if not bench.writable("b-db1"):
            steps += [bench.run(runbook, **VARIABLES[runbook])]
    assert watcher.wrong == []
    records = [run.record for run in (first, *steps)]
    assert_serves(bench, "b")
    assert writable_in_turn(bench, records[0]["opened_at"])[-1] == "b-db1"
    if runbook == "switchover":
        # A run that went back has none.
        lost = [record["measures"]["ledger"]["lost"] for record in records if record["measures"]["ledger"]["lost"] is not None]
        assert lost and not any(lost), lost
    again = bench.run(runbook, **VARIABLES[runbook])
    assert "nothing to do" in again.output, again.output[-3000:]
