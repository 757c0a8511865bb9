"""A year of a cluster, by honest replay: what runs once said goes through the real recording code again, at other times and paces.

:func:`fill` puts the records into a store, signed and in its chain; :func:`records` hands them over without one. Seeded by the cluster's name,
so that a year is the same each time.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import cache
from random import Random
from typing import Any
from zlib import crc32

from relevo import feed, journal, keyring, record, signature
from relevo.clock import parse_utc, utc
from relevo.evidence import collect
from relevo.record import Closing, Record, canonical
from relevo.store import Store
from relevo.verdict import Ending
from tests.unit.runner.examples import BACKUP, REBUILD, RESTORE_TEST, SALVAGE, VERIFIED
from tests.unit.runner.past import MEASURED
from tests.unit.runner.streams import STREAMS

# All that was said at another time is said relative to this one: of the streams, and of what the other modules wrote on the laboratory.
_SAID_AT = "2026-11-28T00:27:00.000000Z"
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)([T ])(\d\d:\d\d:\d\d(?:\.\d+)?)(Z|\+00)")
_LABEL = re.compile(r"(?<!\d)(\d{8}-\d{6})(?=[FDI])")
_SCALED = re.compile(r"(?:^|_)seconds$|^duration$")
_GROWN = re.compile(r"(?:^|_)bytes$")
_RUNGS = (
    "exists",
    "checksums",
    "restores",
    "starts and replays",
    "target reached",
    "pages and indexes",
    "invariants",
    "a user logs in",
)
_VERIFIED = ("INFO", "ENCRYPTION", "COVERAGE", "G05", "PAGES", "OBJECTS", "CONTENT", "G04", "WAL", "G03", "G02", "SAME", "WINDOW")
_PEOPLE = ("ana", "bruno", "mira")
# A quarter apart; the newest is of the last quarter.
_KEYS_DAYS = (60, 151, 242, 333)


@dataclass(frozen=True)
class Planned:
    """One run of the year. pace: how many times as long as it was; growth: how many times as large; how: passed, failed, ..."""

    at: datetime
    cluster: str
    runbook: str
    how: str = "passed"
    scope: str | None = None
    operator: str = "root"
    pace: float = 1.0
    growth: float = 1.0
    basis: Mapping[str, Any] = field(default_factory=dict)

    @property
    def run_id(self) -> str:
        """As the recorder names a run; the last four are made of the cluster's name and the moment, so that they stay."""
        made_of = f"{self.cluster} {self.at}".encode()
        return f"{self.at:%Y%m%dT%H%M%SZ}-{self.runbook}-{crc32(made_of) % 16**4:04x}"


def fill(store: Store, until: datetime, clusters: Sequence[str] = ("minimarket",), *, measured: bool = True) -> None:
    """The year that ends at a moment, into a store. measured: also what tests ask of the application."""
    key = _old_key(store)
    for made in records(until, tuple(clusters), key.fingerprint, measured=measured):
        document = canonical(made.document())
        store.add(made, document, signature.sign(key, document))


@cache
def records(
    until: datetime, clusters: tuple[str, ...] = ("minimarket",), key: str = "SHA256:x", *, measured: bool = True
) -> tuple[Record, ...]:
    """The records of that year, oldest first."""
    planned = sorted((one for cluster in clusters for one in plan(cluster, until)), key=lambda one: (one.at, one.run_id))
    return tuple(replay(one, key, measured=measured) for one in planned)


def _old_key(store: Store) -> signature.SigningKey:
    """A key that was believed a year ago already."""
    key = signature.ready_key(store._keys)
    key.allowed_signers.write_text(keyring.text([keyring.Signer(signature.public(key.path))]), encoding="ascii")
    return key


def plan(cluster: str, until: datetime) -> Iterator[Planned]:
    """Each night a backup and its verification, each week a look, each month a restore, each quarter a failover, the way home, and the keys."""
    chance = Random(cluster)  # noqa: S311 - a test wants the same chance again
    first = (until - timedelta(days=365)).replace(hour=0, minute=0, second=0, microsecond=0)
    for day in range(366):
        for one in _of_a_day(cluster, first + timedelta(days=day), day, chance):
            if first <= one.at and one.at + timedelta(hours=3) <= until:
                yield replace(
                    one, pace=round(one.pace * chance.uniform(0.8, 1.3), 3), growth=round(1 + day / 500, 4), basis=_basis(day)
                )
    for number, day in enumerate(_KEYS_DAYS):
        at = first + timedelta(days=day, hours=11, minutes=5 * number)
        if at + timedelta(hours=3) <= until:
            yield Planned(at, cluster, "recover_keys", operator=_PEOPLE[number % 3], pace=1 + number / 10, basis=_basis(day))


def _of_a_day(cluster: str, day: datetime, number: int, chance: Random) -> Iterator[Planned]:
    def run(hour: int, runbook: str, how: str = "passed", **more: Any) -> Planned:
        return Planned(day + timedelta(hours=hour, seconds=chance.randrange(900)), cluster, runbook, how, **more)

    yield run(2, "backup", "failed" if chance.random() < 0.02 else "passed")
    yield run(3, "verify_backup", _of_a_night(chance.random()))
    if number % 7 == 1:
        yield run(6, "check")
    if number % 30 == 4:
        yield run(5, "restore_test", "failed" if number == 124 else "passed", operator="root")
    if number % 60 == 20:
        yield run(9, "rehearse", operator=chance.choice(_PEOPLE))
    # A quarter is 91 days; the newest failover of the whole site is of the second half of the year.
    if number % 91 == 50:
        scope, leader = ("site" if number % 182 == 50 else "database"), _PEOPLE[number // 91 % 3]
        if number == 141:
            yield run(8, "failover", "failed", scope=scope, operator=leader)
        if number == 232:
            yield run(7, "failover", "refused", operator=leader)
            yield run(8, "failover", "interrupted", scope=scope, operator=leader)
        yield run(10, "failover", scope=scope, operator=leader, pace=1.6 - number / 400)
        yield run(12, "failback", operator=leader)


def _of_a_night(chance: float) -> str:
    return "failed" if chance < 0.02 else "interrupted" if chance < 0.025 else "passed"


def _basis(day: int) -> dict[str, Any]:
    """What the installation was: PostgreSQL was updated once, and so was the checkout."""
    return {
        "digests": {"commit": ("a" if day < 130 else "b") * 40, "commit_dirty": False, "inventory": "c" * 64},
        "versions": {"postgresql": "17.5" if day < 200 else "17.6", "pgbackrest": "2.55", "restic": "0.18.0"},
    }


# -- one run again --


def replay(one: Planned, key: str = "SHA256:x", *, measured: bool = True) -> Record:
    """The record of one run of the year."""
    lines = _template(one)
    first = json.loads(lines[0])
    text = _moved("\n".join(lines), parse_utc(first["opened_at"]), one)
    opening, later = journal.parse(text)
    opening = replace(
        opening,
        run_id=one.run_id,
        opened_at=utc(one.at),
        operator=one.operator,
        controller="ctl1",
        digests=dict(one.basis["digests"]),
        versions={**opening.versions, "relevo": "0.1.0", "ansible-core": "2.21.5", **one.basis["versions"]},
    )
    events = [
        replace(event, said=tuple({**said, "versions": one.basis["versions"]} for said in event.said))
        for event in (feed.from_line(_scaled(line, one)) for line in later if line.get("event") in feed.KEPT)
    ]
    if measured and one.runbook == "failover" and one.how == "passed":
        events = [replace(event, said=(*event.said, {"measures": MEASURED})) if event.said else event for event in events]
    if one.how == "interrupted":
        events = events[: len(events) * 2 // 3]
    took = (parse_utc(events[-1].at) - one.at).total_seconds() + 0.5
    closing = Closing(
        utc(one.at + timedelta(seconds=took)),
        opening.boottime + took,
        "0" * 64,
        {"principal": "relevo-controller", "namespace": "dr-test", "algorithm": "ssh-ed25519", "key": key},
    )
    return record.build(opening, collect(events), Ending(reason="The process died." if one.how == "interrupted" else None), closing)


def _moved(text: str, said_at: datetime, one: Planned) -> str:
    """Every time as far from the new beginning as it was from the old one, what came after it by the pace; the cluster by its name."""

    def moved(found: re.Match[str]) -> str:
        ago = parse_utc(f"{found[1]}T{found[3]}Z") - said_at
        then = one.at + (ago * one.pace if ago > timedelta() else ago)
        return utc(then) if found[4] == "Z" else f"{then:%Y-%m-%d %H:%M:%S.%f}+00"

    def label(found: re.Match[str]) -> str:
        taken = parse_utc(f"{datetime.strptime(found[1], '%Y%m%d-%H%M%S').isoformat()}Z")  # noqa: DTZ007 - the Z says it
        return f"{one.at + (taken - said_at):%Y%m%d-%H%M%S}"

    return _LABEL.sub(label, _TIME.sub(moved, text)).replace("minimarket", one.cluster)


def _scaled(value: Any, one: Planned, name: str = "") -> Any:
    """What was measured, by pace and growth; thresholds, which only gates hold, stay."""
    if isinstance(value, dict):
        return {key: inner if key == "gates" else _scaled(inner, one, key) for key, inner in value.items()}
    if isinstance(value, list):
        return [_scaled(inner, one, name) for inner in value]
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return value
    if _SCALED.search(name):
        return round(value * one.pace, 3)
    return int(value * one.growth) if _GROWN.search(name) and isinstance(value, int) else value


def _template(one: Planned) -> list[str]:
    """The journal of a run of this kind as it was written."""
    if one.runbook == "check":
        return _stream("check_passed")
    if one.runbook == "failover":
        names = {"refused": "failover_refused", "failed": "failover_failed"}
        lines = _stream(names.get(one.how, "failover_drill"))
        return [line.replace('"scope":"site"', f'"scope":"{one.scope or "site"}"') for line in lines]
    return _written(one)


@cache
def _stream(name: str) -> list[str]:
    return (STREAMS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()


def _written(one: Planned) -> list[str]:
    """A journal of what modules said on the laboratory, for the runbooks of which no stream was kept."""
    opening = json.loads(_stream("check_passed")[0]) | {"runbook": one.runbook, "opened_at": _SAID_AT, "cluster": one.cluster}
    gates, measures, seconds = _MODULES[one.runbook](one.how)
    failed = [gate for gate in gates if gate["verdict"] == "fail"]
    mode = {"mode": "drill"} if one.runbook == "rehearse" else {}
    if failed:
        ending = {
            "event": "runner_on_failed",
            "host": "b-db1",
            "task": "verify | Say what it came to",
            "message": failed[0]["observed"],
        }
    else:
        ending = {"event": "runner_on_ok", "host": "b-db1", "task": "close | Say what it came to"}
    counts = {"ok": {"b-db1": 9}, "failures": {"b-db1": 1} if failed else {}}
    end = utc(parse_utc(_SAID_AT) + timedelta(seconds=seconds))
    run = {"cluster": "minimarket", "runbook": one.runbook, **mode}
    events = [
        {"event": "playbook_on_start", "at": _SAID_AT},
        {"event": "runner_on_ok", "at": _SAID_AT, "host": "localhost", "task": "open | Open the record", "said": [{"run": run}]},
        {"event": "runner_on_ok", "at": end, "host": "b-db1", "task": "Do it", "said": [{"gates": gates, "measures": measures}]},
        {**ending, "at": end},
        {"event": "playbook_on_stats", "at": end, "counts": counts},
    ]
    return [json.dumps(line) for line in ({**opening, "event": "opened"}, *events)]


def _gate(name: str, *, good: bool = True, observed: str = "as it must be", title: str = "") -> dict[str, Any]:
    return {
        "id": name,
        "title": title or name.capitalize(),
        "phase": "VERIFY",
        "host": "repository 1",
        "observed": observed,
        "expected": "a usable backup in each hour" if name == "COVERAGE" else "all of it",
        "verdict": "pass" if good else "fail",
        "next_action": "" if good else "journalctl -u relevo-backup says why",
    }


def _backup(how: str) -> tuple[list[dict[str, Any]], dict[str, Any], float]:
    if how == "failed":
        return [_gate("BACKUP", good=False, observed="repository 1 did not answer within 60 s", title="Backup taken")], {}, 61.0
    return [_gate("BACKUP", title="Backup taken")], {"backups": {"repository_1": BACKUP, "repository_2": BACKUP}}, 14.0


def _verify(how: str) -> tuple[list[dict[str, Any]], dict[str, Any], float]:
    missing = ["2026-11-27T21:00:00Z to 2026-11-27T22:00:00Z"] if how == "failed" else []
    seen = {**VERIFIED, "coverage": "23/24" if missing else "24/24", "missing_periods": missing, "protected_since": None}
    observed = f"{23 if missing else 24}/24 periods of 3600 s{f'; without a backup: {missing[0]}' if missing else ''}"
    gates = [_gate(name) for name in _VERIFIED if name != "COVERAGE"]
    gates.append(_gate("COVERAGE", good=not missing, observed=observed, title="A backup in each period"))
    verified = {"1": seen, "2": {**seen, "missing_periods": [], "coverage": "24/24"}}
    ages = {"configuration": 2412.6, "application": 2410.2, "system": None}
    read = {"age_seconds": ages, "snapshots": 14, "read": "share 3 of 14", "seconds": 2.5}
    return gates, {"backup_verification": verified, "files": {host: {"1": read, "2": read} for host in ("a-db1", "b-db1")}}, 48.0


def _restored(how: str) -> list[dict[str, Any]]:
    good = how != "failed"
    rungs = [
        {"id": f"R{number}", "name": name, "verdict": "pass" if good or number != 6 else "fail", "seconds": 1.2, "evidence": "seen"}
        for number, name in enumerate(_RUNGS, 1)
    ]
    return [{**RESTORE_TEST, "rungs": rungs, "verdict": "passed" if good else "failed"}]


def _restore_test(how: str) -> tuple[list[dict[str, Any]], dict[str, Any], float]:
    gate = _gate("R6", good=how != "failed", observed="pg_amcheck: 1 finding in shop.orders" if how == "failed" else "no finding")
    return [{**gate, "title": "Pages and indexes"}], {"restore_tests": _restored(how)}, 95.0


def _rehearse(how: str) -> tuple[list[dict[str, Any]], dict[str, Any], float]:
    t0 = utc(parse_utc(_SAID_AT) + timedelta(seconds=4))
    measures = {"restore_tests": _restored(how), "rto_seconds": 31.2, "rpo_seconds": 8.4, "proofs_seconds": 4.1, "t0_at": t0}
    return [_gate("SANDBOX", title="No route to production")], {**measures, "t0_source": "command"}, 64.0


def _failback(_how: str) -> tuple[list[dict[str, Any]], dict[str, Any], float]:
    measures = {"salvage": {"a-db1": SALVAGE}, "rebuild": {"a-db1": REBUILD}, "time_to_reprotect_seconds": 306.4}
    return [_gate("G20", title="Protected again")], measures, 310.0


def _recover_keys(_how: str) -> tuple[list[dict[str, Any]], dict[str, Any], float]:
    keys = {"recovered": "pass", "intact": "pass", "decrypted": "pass"}
    return [_gate("KEYSTEST", observed="pass, by 2 of 2 ways", title="Keys are recovered")], {"keys": keys}, 41.0


_MODULES = {
    "backup": _backup,
    "verify_backup": _verify,
    "restore_test": _restore_test,
    "rehearse": _rehearse,
    "failback": _failback,
    "recover_keys": _recover_keys,
}
