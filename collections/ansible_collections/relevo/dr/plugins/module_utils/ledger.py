# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The ledger's arithmetic: what was acknowledged, what of it is present, how long writes were impossible. Pure functions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc
from ansible_collections.relevo.dr.plugins.module_utils.percentile import percentile

ACKNOWLEDGED, FAILED, INDETERMINATE = "acknowledged", "failed", "indeterminate"
LONGEST_ATTEMPT_SECONDS = 10.0
# How many acknowledged writes on each side of an outage are compared.
COMPARED_WRITES = 100


@dataclass(frozen=True)
class Entry:
    """One numbered write. at, mono: when it ended, or when it began if no end was logged. boot: which boot `mono` belongs to.

    seconds: from its beginning to its end.
    """

    number: int
    reference: str
    outcome: str
    at: str
    mono: float
    boot: str = ""
    endpoint: Optional[str] = None
    server: Optional[str] = None
    error: Optional[str] = None
    ended: bool = True
    seconds: Optional[float] = None


@dataclass(frozen=True)
class Outage:
    """From the last acknowledgement before the hole to the first one after it; `after` is None while writes are still impossible."""

    before: Entry
    after: Optional[Entry]
    seconds: Optional[float]


@dataclass(frozen=True)
class Account:
    """What became of the acknowledged entries. Numbers are sorted."""

    acknowledged: int
    present: int
    lost: tuple[int, ...]
    indeterminate: tuple[int, ...]
    indeterminate_present: int
    failed: int
    unexpected: tuple[int, ...]
    rpo_seconds: Optional[float]
    first_number: Optional[int]
    last_number: Optional[int]


def parse(lines: Iterable[Mapping[str, Any]]) -> list[Entry]:
    """Intents and outcomes joined, in order of number. An intent without an outcome is indeterminate."""
    entries: dict[int, Entry] = {}
    boot = ""
    for line in lines:
        if line.get("kind") == "start":
            boot = str(line["boot_id"])
        elif line.get("kind") == "intent":
            number = int(line["n"])
            entries[number] = Entry(
                number,
                str(line["reference"]),
                INDETERMINATE,
                str(line["at"]),
                float(line["mono"]),
                boot,
                error="no outcome was logged",
                ended=False,
            )
        elif line.get("kind") == "outcome" and int(line["n"]) in entries:
            intent = entries[int(line["n"])]
            outcome = line["outcome"] if line["outcome"] in (ACKNOWLEDGED, FAILED) else INDETERMINATE
            entries[intent.number] = Entry(
                intent.number,
                intent.reference,
                outcome,
                str(line["at"]),
                float(line["mono"]),
                boot,
                line.get("endpoint"),
                line.get("server"),
                line.get("error"),
                seconds=max(0.0, float(line["mono"]) - intent.mono) if intent.boot == boot else None,
            )
    return [entries[number] for number in sorted(entries)]


def acknowledged(entries: Iterable[Entry]) -> list[Entry]:
    """The acknowledged entries in the order in which the acknowledgements came."""
    found = [entry for entry in entries if entry.outcome == ACKNOWLEDGED]
    return sorted(found, key=lambda entry: (entry.at, entry.mono))


def tried_within(entries: Sequence[Entry], now: str, seconds: float) -> bool:
    """Whether the writer was at work of late, whatever came of it. now: UTC by the witness's own clock."""
    newest = max((entry.at for entry in entries), default=None)
    return newest is not None and (parse_utc(now) - parse_utc(newest)).total_seconds() <= seconds


def seconds_between(earlier: Entry, later: Entry) -> float:
    """On the monotonic clock within one boot of the witness, on the wall clock across boots."""
    if earlier.boot == later.boot:
        return max(0.0, later.mono - earlier.mono)
    return max(0.0, (parse_utc(later.at) - parse_utc(earlier.at)).total_seconds())


def outage(entries: Sequence[Entry], not_before: str = "") -> Optional[Outage]:
    """The longest hole between two acknowledgements that ends after `not_before`; a hole that has not ended yet counts when it is the longest.

    None when there is no acknowledgement at all: nothing can be said then.
    """
    chain = acknowledged(entries)
    if not chain:
        return None
    holes = [
        Outage(before, after, seconds_between(before, after)) for before, after in zip(chain, chain[1:]) if after.at >= not_before
    ]
    longest = max(holes, key=lambda hole: hole.seconds or 0.0, default=None)
    # Attempts after the last acknowledgement that all went wrong: the writes are still impossible.
    last_attempt = max(entries, key=lambda entry: (entry.at, entry.mono))
    open_seconds = seconds_between(chain[-1], last_attempt)
    if last_attempt.outcome != ACKNOWLEDGED and (longest is None or open_seconds > (longest.seconds or 0.0)):
        return Outage(chain[-1], None, None)
    return longest


def account(entries: Sequence[Entry], present: Collection[int], last_before: Optional[Entry] = None) -> Account:
    """Compare the ledger with the database. present: the numbers of `entries` that are there. last_before: the last acknowledgement before the outage.

    The loss in seconds runs from the last acknowledgement before the *first* missing one: a later entry that is present makes it no smaller.
    It is None when the oldest known acknowledgement is missing too, since the loss may then begin earlier.
    """
    there = set(present)
    chain = acknowledged(entries)
    lost = [entry for entry in chain if entry.number not in there]
    rpo: Optional[float] = 0.0
    if lost:
        begin = chain.index(lost[0])
        end = max([lost[-1], *([last_before] if last_before else [])], key=lambda entry: (entry.at, entry.mono))
        rpo = seconds_between(chain[begin - 1], end) if begin else None
    indeterminate = [entry.number for entry in entries if entry.outcome == INDETERMINATE]
    failed = [entry.number for entry in entries if entry.outcome == FAILED]
    numbers = [entry.number for entry in entries]
    return Account(
        acknowledged=len(chain),
        present=len(chain) - len(lost),
        lost=tuple(sorted(entry.number for entry in lost)),
        indeterminate=tuple(sorted(indeterminate)),
        indeterminate_present=len(there.intersection(indeterminate)),
        failed=len(failed),
        unexpected=tuple(sorted(there.intersection(failed))),
        rpo_seconds=rpo,
        first_number=min(numbers, default=None),
        last_number=max(numbers, default=None),
    )


def more_may_be_lost(oldest: Optional[int], present: Collection[int]) -> bool:
    """Whether the loss may begin before what was compared. oldest: the number of the oldest acknowledged entry of that, None when there is none."""
    return oldest is not None and oldest not in present


def settled(entries: Iterable[Entry], mono: float) -> list[Entry]:
    """Entries whose outcome can no longer change: ended, or begun so long ago that no end will ever be logged."""
    return [entry for entry in entries if entry.ended or mono - entry.mono > LONGEST_ATTEMPT_SECONDS or mono < entry.mono]


def measures(
    entries: Sequence[Entry], asked: Collection[int], present: Optional[Collection[int]], not_before: str = "", failed_at: str = ""
) -> dict[str, Any]:
    """The record's measures.

    asked: the numbers that were looked for. present: those that were found, None when no database was asked; later entries are not judged.
    not_before: an outage that ended earlier is not this one. failed_at: the operator's word, used only without a ledger.
    """
    hole = outage(entries, not_before)
    seconds = hole.seconds if hole else None
    book: dict[str, Any] = {
        "outage_seconds": _rounded(seconds),
        "rto_seconds": _rounded(seconds),
        "t0_at": hole.before.at if hole else failed_at or None,
        "t0_source": "ledger" if hole else "attested" if failed_at else None,
        "first_write_at": hole.after.at if hole and hole.after else None,
        "rpo_seconds": None,
        "ledger": None,
        "writes": None if hole is None else _writes(entries, hole),
    }
    wanted = set(asked)
    judged = [entry for entry in entries if entry.number in wanted]
    if present is not None and judged:
        result = account(judged, present, hole.before if hole and hole.before.number in wanted else None)
        book["rpo_seconds"] = _rounded(result.rpo_seconds)
        book["ledger"] = {
            "acknowledged": result.acknowledged,
            "present": result.present,
            "lost": len(result.lost),
            "indeterminate": len(result.indeterminate),
            "indeterminate_present": result.indeterminate_present,
            "failed": result.failed,
            "lost_numbers": list(result.lost),
            "unexpected_numbers": list(result.unexpected),
            "first_number": result.first_number,
            "last_number": result.last_number,
        }
    return book


def _writes(entries: Sequence[Entry], hole: Outage) -> dict[str, Any]:
    """How long the acknowledged writes next to the outage took, on either side: what a user feels, where nobody could measure before."""
    chain = acknowledged(entries)
    split = chain.index(hole.before) + 1
    # The first one behind it waited for the service.
    before, after = chain[:split][-COMPARED_WRITES:], chain[split + 1 :][:COMPARED_WRITES]

    def p95(side: Sequence[Entry]) -> Optional[float]:
        return _rounded(percentile([entry.seconds for entry in side if entry.seconds is not None], 0.95))

    return {"p95_before_seconds": p95(before), "p95_after_seconds": p95(after), "before": len(before), "after": len(after)}


def ranges(numbers: Iterable[int]) -> list[list[int]]:
    """Sorted numbers as [first, last] pairs."""
    result: list[list[int]] = []
    for number in sorted(set(numbers)):
        if result and number == result[-1][1] + 1:
            result[-1][1] = number
        else:
            result.append([number, number])
    return result


def expand(pairs: Iterable[Sequence[int]]) -> list[int]:
    """The inverse of :func:`ranges`."""
    return [number for first, last in pairs for number in range(first, last + 1)]


def lsn_loss_bytes(last_seen: Optional[str], promoted_at: Optional[str]) -> Optional[int]:
    """WAL that the old primary had flushed and the new one never had; None when one of the positions was not seen."""
    if not last_seen or not promoted_at:
        return None
    return max(0, _lsn(last_seen) - _lsn(promoted_at))


def _lsn(text: str) -> int:
    high, _, low = text.partition("/")
    return (int(high, 16) << 32) + int(low, 16)


def _rounded(seconds: Optional[float]) -> Optional[float]:
    return None if seconds is None else round(seconds, 6)
