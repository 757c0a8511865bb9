"""How long one run took, phase by phase and as a whole, and which shares of that grow with bytes. Pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from relevo.sizes import DATABASE, LAG, WAL, number
from relevo.timeline import FIRST, spans
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from relevo.record import Record

OUTAGE, RECOVERY, TOTAL = "outage", "recovery", "total"
WHOLES = (OUTAGE, RECOVERY, TOTAL)
PROMOTE, RESTORE, ONE_WAY = "promote", "restore", "all"
# Below one WAL segment a phase takes what it takes: its bytes are not what it waits for.
FIXED_BYTES = float(16 << 20)
# The rung of a restore test that reads every page, and runs after the user's clock has stopped.
_PAGES = "R6"


@dataclass(frozen=True)
class Share:
    """Seconds that grow with bytes of a kind (see ``sizes``). proof: a user does not wait for them."""

    seconds: float
    kind: str
    bytes: float
    proof: bool = False


@dataclass(frozen=True)
class Took:
    """seconds as measured, of which the shares are a part."""

    run_id: str
    seconds: float
    shares: tuple[Share, ...] = ()


def counts(record: Record) -> bool:
    """Whether a run says how long such a run takes: it did the work, all of it, and came through."""
    whole = record.verdict in {Verdict.PASSED, Verdict.PARTIAL} and not record.check_mode
    return whole and not record.parent_run_id and not record.run.get("done") and not record.run.get("resume")


def way(record: Record) -> str:
    """Which of several ways a run took that have little in common: a failover by promotion or restore, a failback by its method."""
    if record.runbook == "failover":
        return str(record.measures.get("path") or PROMOTE)
    if record.runbook == "failback":
        return " and ".join(sorted({str(entry.get("method")) for entry in _rebuilds(record)})) or ONE_WAY
    return ONE_WAY


def phases(record: Record) -> dict[str, Took]:
    """By name, in the order in which they began: where several hosts did it side by side the one that took longest."""
    began = {id(phase): (ended - start).total_seconds() for phase, start, ended in spans(record.phases, record.opened_at)}
    found: dict[str, Took] = {}
    for phase in record.phases:
        name = str(phase.get("name"))
        # The first one begins with the command; its own clock only sees the judgement.
        seconds = began.get(id(phase)) if name == FIRST else number(phase.get("duration_seconds"))
        if phase.get("outcome") == "ok" and seconds is not None and (name not in found or seconds > found[name].seconds):
            found[name] = Took(record.run_id, seconds)
    return {name: replace(one, shares=tuple(_shares(record, name, one.seconds))) for name, one in found.items()}


def wholes(record: Record, parts: Mapping[str, Took]) -> dict[str, Took]:
    """outage: as a client saw it; recovery: from the command to the first write or login; total: the run. Left out: not measured.

    parts: the phases of this record.
    """
    shares = tuple(share for one in parts.values() for share in one.shares)
    waited = tuple(share for share in shares if not share.proof)
    measured = {OUTAGE: number(record.measures.get("outage_seconds")), RECOVERY: _recovery(record), TOTAL: record.duration_seconds}
    return {
        name: Took(record.run_id, seconds, shares if name == TOTAL else waited)
        for name, seconds in measured.items()
        if seconds is not None
    }


def copies(record: Record) -> list[Took]:
    """Restores of a whole backup with the replay behind it, wherever they were made: what a failover by restore would wait for."""
    made = []
    for one in [*(record.measures.get("restore_tests") or []), _renamed(record.measures.get("restore") or {})]:
        copied, replayed = number(one.get("restore_seconds")), number(one.get("replay_seconds"))
        if copied is not None and replayed is not None and not one.get("delta"):
            made.append(Took(record.run_id, copied + replayed, tuple(_restored(one))))
    return made


def _recovery(record: Record) -> float | None:
    machine = number(record.measures.get("machine_seconds"))
    # A rehearsal's clock starts with the command: nobody had to notice anything.
    return (
        number(record.measures.get("rto_seconds")) if machine is None and record.measures.get("t0_source") == "command" else machine
    )


def _shares(record: Record, name: str, seconds: float) -> Iterable[Share]:
    kind, _, suffix = name.partition(" ")
    if kind == "DRAIN":
        replayed = number((record.measures.get("drain") or {}).get("replayed_bytes"))
        if replayed is not None:
            yield Share(seconds, LAG, replayed)
    elif kind == "REBUILD":
        longest = max(_rebuilds(record), key=lambda entry: number(entry.get("seconds")) or 0.0, default={})
        if longest.get("method") in {"full", "delta"}:
            yield from _share(longest.get("seconds"), DATABASE, longest.get("primary_bytes"))
    elif kind == "RESTORE" and record.runbook == "failover":
        yield from _restored(_renamed(record.measures.get("restore") or {}))
    elif kind in {"RESTORE", "PROVE"}:
        tests = [test for test in record.measures.get("restore_tests") or [] if str(test.get("number")) == (suffix or "1")]
        for test in tests:
            shares = list(_restored(test))
            yield from (share for share in shares if share.kind == (DATABASE if kind == "RESTORE" else WAL))
            if kind == "PROVE":
                pages: Mapping[str, Any] = next((rung for rung in test.get("rungs") or [] if rung.get("id") == _PAGES), {})
                yield from _share(pages.get("seconds"), DATABASE, test.get("restored_bytes"), proof=True)


def _restored(one: Mapping[str, Any]) -> Iterable[Share]:
    # What was there already was only compared: nobody knows how much of it came.
    if not one.get("delta"):
        yield from _share(one.get("restore_seconds"), DATABASE, one.get("restored_bytes"))
    yield from _share(one.get("replay_seconds"), WAL, one.get("replay_bytes"))


def _renamed(restore: Mapping[str, Any]) -> dict[str, Any]:
    """A failover's own restore in the words of a restore test."""
    return {**restore, "restore_seconds": restore.get("seconds"), "restored_bytes": restore.get("bytes")}


def _share(seconds: Any, kind: str, size: Any, *, proof: bool = False) -> Iterable[Share]:
    known, counted = number(seconds), number(size)
    if known is not None and counted is not None:
        yield Share(known, kind, counted, proof)


def _rebuilds(record: Record) -> list[Mapping[str, Any]]:
    return [entry for entry in (record.measures.get("rebuild") or {}).values() if isinstance(entry, dict)]
