"""Vantage points for tests: what their streams say of two database hosts, second by second."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from relevo.decision import Automatic, Policy, Sight
from relevo.sight import Feed

A, B = "a-db1", "b-db1"
POLICY = Policy(Automatic.ACT, "b", {A: "a", B: "b"}, window_seconds=3.0, restart_seconds=20.0)
# What a cluster looks like that is well.
WELL = {A: "accepted", B: "read_only"}


@dataclass(frozen=True)
class Says:
    """One vantage point. world: at a second of the test, by address what it sees; boot: its boot clock at second 0; late: how long a line is under way."""

    name: str
    site: str
    world: Callable[[float], dict[str, str]]
    boot: float = 1000.0
    silent_from: float = float("inf")
    late: Callable[[float], float] = lambda _: 0.0
    clock: Callable[[float], float] = lambda _: 0.0


def seen(address: str, outcome: str, began: float, ended: float, timeline: int = 1) -> dict[str, Any]:
    at = f"2026-11-28T03:{int(began) // 60 % 60:02d}:{began % 60:09.6f}Z"
    return {
        "address": address,
        "outcome": outcome,
        "at": at,
        "mono": began,
        "end_mono": ended,
        "boot_id": "boot",
        "timeline": timeline if outcome == "accepted" else None,
    }


def lines(says: Says, until: float, pace: float = 1.0) -> list[tuple[float, dict[str, Any]]]:
    """(arrival by the watcher's clock, line), in the order of their arrival."""
    found: list[tuple[float, dict[str, Any]]] = []

    def send(moment: float, line: dict[str, Any]) -> None:
        sent = says.boot + moment + says.clock(moment)
        if moment < says.silent_from:
            found.append((moment + says.late(moment), {"now": sent, "boot_id": "boot", **line}))

    for half in range(int(until * 2) + 1):
        send(half / 2, {"kind": "tick", "lock": None, "alarms": []})
    for address in (A, B):
        moment = 0.1
        while moment < until:
            outcome = says.world(moment)[address]
            took = 1.0 if outcome == "unreachable" else 0.01
            began = says.boot + moment + says.clock(moment)
            line = seen(address, outcome, began, began + took, 2 if address == B else 1)
            if moment + took <= until:
                send(moment + took, {"kind": "seen", "seen": line})
            moment += max(pace, took)
    return sorted((entry for entry in found if entry[0] <= until), key=lambda entry: entry[0])


def feed(says: Says, until: float) -> Feed:
    told = Feed(says.name, says.site)
    for arrived, line in lines(says, until):
        told = told.take(line, arrived)
    return told


def database(name: str, site: str, until: float, holder: str | None = None) -> Feed:
    told = Feed(name, site)
    for half in range(int(until * 2) + 1):
        told = told.take({"kind": "tick", "now": half / 2, "boot_id": "boot", "lock": holder}, half / 2)
    return told


def sight(observers: Iterable[Says], until: float, databases: Iterable[Feed] | None = None) -> Sight:
    held = [database(B, "b", until)] if databases is None else list(databases)
    return Sight([feed(says, until) for says in observers], held, until)


def dead_from(at: float, kind: str = "unreachable") -> Callable[[float], dict[str, str]]:
    return lambda moment: WELL if moment < at else {**WELL, A: kind}


def well(_: float) -> dict[str, str]:
    return WELL


def cut_off_from(at: float) -> Callable[[float], dict[str, str]]:
    """The vantage point itself has no network."""
    return lambda moment: WELL if moment < at else {A: "unreachable", B: "unreachable"}


def moments(observers: list[Says], begin: float, end: float, step: float) -> Iterator[Sight]:
    """What is seen at each step, each line taken once."""
    told = [Feed(says.name, says.site) for says in observers]
    waiting = [lines(says, end) for says in observers]
    held = database(B, "b", begin)
    moment = begin
    while moment <= end:
        for number, due in enumerate(waiting):
            while due and due[0][0] <= moment:
                arrived, line = due.pop(0)
                told[number] = told[number].take(line, arrived)
        held = held.take({"kind": "tick", "now": moment, "boot_id": "boot", "lock": None}, moment)
        yield Sight(list(told), [held], moment)
        moment += step
