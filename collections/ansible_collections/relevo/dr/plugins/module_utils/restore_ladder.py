# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The rungs by which a backup is proven, each with its time and what was seen. After one that fails no higher one is tried."""

from __future__ import annotations

import datetime
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import END, LSN, NAME, TIME

RESTORE, PROVE = "RESTORE", "PROVE"
LEDGER = "LEDGER"
RUNGS = {
    "R1": (RESTORE, "exists", "the backup's manifest and every segment of WAL up to the target"),
    "R2": (RESTORE, "checksums", "every file as its checksum says, and no page error when it was taken"),
    "R3": (RESTORE, "restores", "a data directory, whole"),
    "R4": (PROVE, "starts and replays", "a server that replays, archives nothing and listens to nobody else"),
    "R5": (PROVE, "target reached", "the target reached, and nothing after it present"),
    "R6": (PROVE, "pages and indexes", "pg_amcheck and page checksums without a finding"),
    "R7": (PROVE, "application invariants", "every declared query with the declared answer"),
    "R8": (PROVE, "a user logs in", "the application on the copy lets a user in"),
    LEDGER: (
        PROVE,
        "every acknowledged transaction",
        "all that the witness saw acknowledged before the point, nothing that began after it",
    ),
}
PASS, FAIL, UNKNOWN, NOT_APPLICABLE = "pass", "fail", "unknown", "not_applicable"


class RungFailed(Exception):
    """What was seen instead, and what to do."""

    def __init__(self, observed: str, next_action: str = "read docs/runbooks/restore_test.md, When it stops") -> None:
        super().__init__(observed)
        self.observed, self.next_action = observed, next_action


class RungSkipped(Exception):
    """Why a rung was not tried; unknown is never a pass."""

    def __init__(self, reason: str, next_action: str, verdict: str = UNKNOWN) -> None:
        super().__init__(reason)
        self.observed, self.next_action, self.verdict = reason, next_action, verdict


@dataclass(frozen=True)
class Rung:
    """One rung as it was climbed."""

    id: str
    name: str
    verdict: str
    seconds: float
    evidence: str
    next_action: str = ""


def verdict(rungs: Sequence[Rung]) -> str:
    """Of one test: a rung that is unknown makes it partial."""
    verdicts = {rung.verdict for rung in rungs}
    return "failed" if FAIL in verdicts else "partial" if UNKNOWN in verdicts else "passed"


class Ladder:
    """The rungs of one restore. skip: ids that the inventory leaves out."""

    def __init__(self, rungs: Sequence[Mapping[str, Any]] = (), skip: Sequence[str] = ()) -> None:
        self.rungs = [Rung(**rung) for rung in rungs]
        self._skip = tuple(skip)

    @property
    def broken(self) -> str:
        """The rung that failed, or an empty text."""
        return next((rung.id for rung in self.rungs if rung.verdict == FAIL), "")

    @property
    def reached(self) -> str:
        """The highest rung below which nothing failed or is unknown."""
        name = "none"
        for rung in self.rungs:
            if rung.verdict not in (PASS, NOT_APPLICABLE):
                break
            name = rung.name
        return name

    def climb(self, rung: str, act: Callable[[], str]) -> bool:
        """Try a rung. act: returns what was seen, or raises RungFailed or RungSkipped. Whether it holds."""
        began = time.monotonic()
        name = RUNGS[rung][1]
        if self.broken:
            self.rungs.append(Rung(rung, name, UNKNOWN, 0.0, "not tried: %s failed before" % self.broken, "mend that first"))
            return False
        if rung in self._skip:
            self.rungs.append(
                Rung(rung, name, UNKNOWN, 0.0, "left out by dr_backup_prove_skip", "take it out of dr_backup_prove_skip")
            )
            return False
        try:
            evidence = act()
        except RungSkipped as skipped:
            self.rungs.append(Rung(rung, name, skipped.verdict, 0.0, skipped.observed, skipped.next_action))
            return False
        except RungFailed as failed:
            self.rungs.append(Rung(rung, name, FAIL, round(time.monotonic() - began, 3), failed.observed, failed.next_action))
            return False
        self.rungs.append(Rung(rung, name, PASS, round(time.monotonic() - began, 3), evidence))
        return True

    def told(self) -> list[dict[str, Any]]:
        """For the next step, and for the record's measures."""
        return [asdict(rung) for rung in self.rungs]

    def gates(self, host: str, what: str, suffix: str, phase: str) -> list[dict[str, Any]]:
        """The rungs of one phase as gates."""
        return [
            {
                "id": rung.id,
                "title": "%s: %s" % (rung.name, what),
                "phase": phase + suffix,
                "host": host,
                "observed": rung.evidence,
                "expected": RUNGS[rung.id][2],
                "verdict": rung.verdict,
                "next_action": rung.next_action,
            }
            for rung in self.rungs
            if RUNGS[rung.id][0] == phase
        ]

    def outcome(self, phase: str) -> tuple[str, str]:
        """ok, failed, or skipped when something of it is not known; and why."""
        mine = [rung for rung in self.rungs if RUNGS[rung.id][0] == phase]
        failed = [rung for rung in mine if rung.verdict == FAIL]
        unknown = [rung for rung in mine if rung.verdict == UNKNOWN]
        if failed:
            return "failed", "%s: %s" % (failed[0].id, failed[0].evidence)
        if self.broken:
            return "skipped", "%s failed before" % self.broken
        if unknown:
            return "ok", "%s not proven" % ", ".join(rung.id for rung in unknown)
        return "ok", self.reached


@dataclass(frozen=True)
class Arrival:
    """Where recovery came to rest.

    log: of the server; replayed: position after the last record; last_commit: of pg_last_xact_replay_timestamp;
    marker: newest row of the observers' table, None where there is no such table.
    """

    log: str
    replayed: str
    last_commit: Optional[datetime.datetime] = None
    marker: Optional[datetime.datetime] = None


_STOP_TIME = re.compile(r"recovery stopping (before|after) (?:commit|abort) of (?:prepared )?transaction \d+, time (\S+ \S+)")
_STOP_LSN = re.compile(r'recovery stopping (before|after) WAL location \(LSN\) "([0-9A-F]+/[0-9A-F]+)"')
_STOP_NAME = re.compile(r'recovery stopping at restore point "(.*)", time (.+)')


def arrived(kind: str, value: str, arrival: Arrival, end_position: str, end_commit: Optional[str]) -> str:
    """What proves that recovery stopped exactly there. Raises RungFailed.

    end_*: the archive's end as it was when the test was planned; end_commit None: nothing was committed after the backup.
    """
    if kind == TIME:
        return _arrived_at_time(clock.parse_utc(value), arrival)
    if kind == LSN:
        return _arrived_at_lsn(value, arrival)
    if kind == NAME:
        match = _last(_STOP_NAME, arrival.log)
        if not match or match[0] != value:
            raise RungFailed("the log does not say that recovery stopped at restore point %s" % value)
        return 'log: "recovery stopping at restore point "%s", time %s"; replayed to %s%s' % (
            *match,
            arrival.replayed,
            _row(arrival),
        )
    assert kind == END
    if lsn_bytes(arrival.replayed) < lsn_bytes(end_position):
        raise RungFailed(
            "replay ended at %s, before the archive's end at %s" % (arrival.replayed, end_position),
            "read the server's log in the evidence",
        )
    if end_commit and (arrival.last_commit is None or arrival.last_commit < clock.parse_utc(end_commit)):
        raise RungFailed("the last commit is of %s, the archive's of %s" % (_text(arrival.last_commit), end_commit))
    return "replayed to %s, the archive ended at %s; last commit %s%s" % (
        arrival.replayed,
        end_position,
        _text(arrival.last_commit),
        _row(arrival),
    )


def _arrived_at_time(target: datetime.datetime, arrival: Arrival) -> str:
    match = _last(_STOP_TIME, arrival.log)
    if not match:
        raise RungFailed("the log does not say that recovery stopped at a time")
    where, text = match
    moment = clock.parse_utc(text.replace(" UTC", "").strip() + ("" if re.search(r"[+-]\d\d(:?\d\d)?$", text) else "+00"))
    if where == "before" and moment <= target:
        raise RungFailed("recovery stopped before a transaction of %s, which is not after the target" % clock.utc(moment))
    if arrival.last_commit is not None and arrival.last_commit > target:
        raise RungFailed("the last commit is of %s, after the target" % clock.utc(arrival.last_commit))
    if arrival.marker is not None and arrival.marker > target:
        raise RungFailed("the observers' newest row is of %s, after the target" % clock.utc(arrival.marker))
    return "the last commit present is of %s, the first one left out of %s; replayed to %s%s" % (
        _text(arrival.last_commit),
        clock.utc(moment),
        arrival.replayed,
        _row(arrival),
    )


def _arrived_at_lsn(value: str, arrival: Arrival) -> str:
    match = _last(_STOP_LSN, arrival.log)
    if not match:
        raise RungFailed("the log does not say that recovery stopped at an LSN")
    where, text = match
    if where != "before" or lsn_bytes(text) < lsn_bytes(value):
        raise RungFailed("recovery stopped %s the record at %s" % (where, text))
    if lsn_bytes(arrival.replayed) > lsn_bytes(text):
        raise RungFailed("replayed to %s, past the record at %s" % (arrival.replayed, text))
    return "the first record left out begins at %s; replayed to %s, last commit %s%s" % (
        text,
        arrival.replayed,
        _text(arrival.last_commit),
        _row(arrival),
    )


def _last(pattern: re.Pattern[str], log: str) -> Optional[tuple[str, str]]:
    found = pattern.findall(log)
    return (str(found[-1][0]), str(found[-1][1]).strip()) if found else None


def _row(arrival: Arrival) -> str:
    return "; the observers' newest row is of %s" % clock.utc(arrival.marker) if arrival.marker else "; no observers' row in it"


def _text(moment: Optional[datetime.datetime]) -> str:
    return clock.utc(moment) if moment else "not seen"


_EXPLANATIONS = (
    (
        r"recovery ended before configured recovery target was reached",
        "the archive ended before the target was reached",
        "choose a target inside the window that the test shows at its start, or look which segment is missing",
    ),
    (
        r"requested recovery stop point is before consistent recovery point",
        "the target is before the end of this backup",
        "choose an older backup with dr_restore_set",
    ),
    (
        r"recovery aborted because of insufficient parameter settings",
        "a parameter is lower than on the primary",
        "raise it in dr_backup_sandbox_parameters",
    ),
    (
        r"could not locate a valid checkpoint record|could not locate required checkpoint record",
        "WAL that the backup needs is missing or damaged",
        "verify the archive; choose another backup meanwhile",
    ),
    (
        r"could not load library|could not access file",
        "a library of an extension is missing on the sandbox",
        "install the same extensions there as on the primary",
    ),
    (r"No space left on device", "the sandbox's disk is full", "give the sandbox room for the whole database and its WAL"),
)


def explained(log: str) -> RungFailed:
    """Why a server ended, from its log."""
    lines = [line for line in log.splitlines() if re.search(r"\b(FATAL|PANIC)\b", line)]
    last = lines[-1].split(":  ", 1)[-1] if lines else " | ".join(log.strip().splitlines()[-3:])
    for pattern, meaning, next_action in _EXPLANATIONS:
        if re.search(pattern, log):
            return RungFailed("%s (%s)" % (meaning, last[:300]), next_action)
    return RungFailed(
        "the server ended: %s" % (last[:300] or "without a word"), "read the server's log below dr_backup_sandbox_directory"
    )


def predicted_rto(
    live_bytes: Optional[int], restored_bytes: Optional[int], restore_seconds: Optional[float], other_seconds: Optional[float]
) -> Optional[float]:
    """Seconds to have the live database back at the rate that was measured; None when no whole restore was."""
    if not live_bytes or not restored_bytes or not restore_seconds:
        return None
    return round(live_bytes / (restored_bytes / restore_seconds) + (other_seconds or 0.0), 1)
