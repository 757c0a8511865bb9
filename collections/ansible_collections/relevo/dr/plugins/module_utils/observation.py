# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Who was writable when, as one observer saw it, and whether two nodes ever were at the same time. Pure functions.

Between two observations a node is what both of them say. Where they differ, or an address did not answer, it is unknown: only a fence proof
turns unknown into "not writable".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc

WRITABLE, NOT_WRITABLE, UNKNOWN = "writable", "not_writable", "unknown"
_STATES = {"accepted": WRITABLE, "read_only": NOT_WRITABLE, "refused": NOT_WRITABLE}
# Classes that prove by what was seen; `lease_expired` and `attested` need acceptance by name and prove nothing here.
# `in_recovery` is what the promoting module saw of its own server until the moment it promoted it.
PROVING_CLASSES = ("stopped", "powered_off", "isolated", "in_recovery")


@dataclass(frozen=True)
class Observation:
    """One try of a write. mono and end_mono: when it began and ended, on the observer's clock since boot."""

    address: str
    outcome: str
    at: str
    mono: float
    end_mono: float
    boot: str = ""
    system_identifier: Optional[str] = None
    timeline: Optional[int] = None
    flush_lsn: Optional[str] = None

    @property
    def state(self) -> str:
        """What the outcome says about the node."""
        return _STATES.get(self.outcome, UNKNOWN)


@dataclass(frozen=True)
class Proof:
    """Between begin and end (the observer's clock) the address could not accept a write."""

    address: str
    begin: float
    end: float


@dataclass(frozen=True)
class Span:
    """One state of one address from `begin` to `end`."""

    begin: float
    end: float
    state: str


def parse(lines: Iterable[Mapping[str, Any]]) -> list[Observation]:
    """Log lines as observations, in order of time; of several boots only the newest, since their clocks cannot be compared."""
    found = [
        Observation(
            address=str(line["address"]),
            outcome=str(line["outcome"]),
            at=str(line["at"]),
            mono=float(line["mono"]),
            end_mono=float(line["end_mono"]),
            boot=str(line.get("boot_id", "")),
            system_identifier=line.get("system_identifier"),
            timeline=line.get("timeline"),
            flush_lsn=line.get("flush_lsn"),
        )
        for line in lines
    ]
    newest_boot = max(found, key=lambda seen: seen.at).boot if found else ""
    return sorted((seen for seen in found if seen.boot == newest_boot), key=lambda seen: seen.mono)


def proofs(
    given: Iterable[Mapping[str, Any]], observations: Sequence[Observation], clock_error_seconds: float = 0.0
) -> list[Proof]:
    """Proofs {address, class, at, until} on this observer's clock. Each holds from `at` and up to `until`, less what the two clocks may differ."""
    if not observations:
        return []
    anchor = observations[-1]
    offset = anchor.mono - parse_utc(anchor.at).timestamp()

    def mono(text: Optional[str], without: float, margin: float) -> float:
        return parse_utc(text).timestamp() + offset + margin if text else without

    return [
        Proof(
            str(proof["address"]),
            mono(proof.get("at"), float("-inf"), clock_error_seconds),
            mono(proof.get("until"), float("inf"), -clock_error_seconds),
        )
        for proof in given
        if proof.get("class") in PROVING_CLASSES and (proof.get("at") or proof.get("until"))
    ]


def spans(observations: Sequence[Observation], begin: float, end: float, proven: Sequence[Proof], longest_gap: float) -> list[Span]:
    """The state of one address over the whole time from begin to end. observations: of this address, in order of time.

    An answer belongs to some moment between the question and the answer, so a state is certain only between two observations that agree.
    """
    pieces: list[Span] = []
    cursor, before = begin, UNKNOWN
    for number, seen in enumerate(observations):
        following = observations[number + 1] if number + 1 < len(observations) else None
        agreed = following is not None and following.state == seen.state and following.mono - seen.end_mono <= longest_gap
        after = seen.state if agreed else UNKNOWN
        pieces.append(Span(cursor, seen.mono, before))
        pieces.append(Span(seen.mono, seen.end_mono, after if before == after else UNKNOWN))
        cursor, before = seen.end_mono, after
    pieces.append(Span(cursor, end, UNKNOWN))
    clipped = [Span(max(piece.begin, begin), min(piece.end, end), piece.state) for piece in pieces]
    standing = [proof for proof in proven if not _refuted(proof, observations)]
    return _joined(part for piece in clipped if piece.end > piece.begin for part in _covered(piece, standing))


def _refuted(proof: Proof, observations: Sequence[Observation]) -> bool:
    return any(seen.outcome == "accepted" and seen.mono >= proof.begin and seen.end_mono <= proof.end for seen in observations)


def _covered(span: Span, proven: Sequence[Proof]) -> list[Span]:
    parts = [span]
    for proof in proven:
        parts = [piece for part in parts for piece in _cut(part, proof)]
    return parts


def _cut(span: Span, proof: Proof) -> list[Span]:
    begin, end = max(span.begin, proof.begin), min(span.end, proof.end)
    if span.state != UNKNOWN or end <= begin:
        return [span]
    pieces = [Span(span.begin, begin, UNKNOWN), Span(begin, end, NOT_WRITABLE), Span(end, span.end, UNKNOWN)]
    return [piece for piece in pieces if piece.end > piece.begin]


def _joined(pieces: Iterable[Span]) -> list[Span]:
    result: list[Span] = []
    for piece in pieces:
        if result and result[-1].state == piece.state and result[-1].end == piece.begin:
            result[-1] = Span(result[-1].begin, piece.end, piece.state)
        else:
            result.append(piece)
    return result


def window(
    observations: Sequence[Observation], addresses: Sequence[str], begin: float, end: float, longest_gap: float
) -> tuple[float, float]:
    """The part of begin to end in which every address is between two of its observations; an address that fell silent for long shortens nothing."""
    watched_from, watched_until = begin, end
    for address in addresses:
        own = [seen for seen in observations if seen.address == address]
        if own:
            watched_from = max(watched_from, min(own[0].end_mono, begin + longest_gap))
            watched_until = min(watched_until, max(own[-1].mono, end - longest_gap))
    return watched_from, watched_until


def overlap_seconds(
    observations: Sequence[Observation],
    addresses: Sequence[str],
    proven: Sequence[Proof],
    begin: float,
    end: float,
    longest_gap: float = 5.0,
) -> Optional[float]:
    """How long two addresses were seen writable at once; 0 only when it is certain that they never were; else None."""
    timelines = []
    for address in addresses:
        own = [seen for seen in observations if seen.address == address]
        about = [proof for proof in proven if proof.address == address]
        timelines.append([span for span in spans(own, begin, end, about, longest_gap) if span.state != NOT_WRITABLE])
    certain, possible = 0.0, 0.0
    for number, one in enumerate(timelines):
        for other in timelines[number + 1 :]:
            for left in one:
                for right in other:
                    common = min(left.end, right.end) - max(left.begin, right.begin)
                    if common <= 0:
                        continue
                    if left.state == right.state == WRITABLE:
                        certain += common
                    else:
                        possible += common
    if certain > 0:
        return round(certain, 6)
    return None if possible > 0 else 0.0


def accepts(observations: Sequence[Observation], address: str) -> dict[str, Any]:
    """How often and when one address accepted a write."""
    seen = [observation for observation in observations if observation.address == address]
    accepted = [observation for observation in seen if observation.outcome == "accepted"]
    return {
        "observed": len(seen),
        "accepted": len(accepted),
        "first_accepted_at": accepted[0].at if accepted else None,
        "last_accepted_at": accepted[-1].at if accepted else None,
        "last_flush_lsn": next((observation.flush_lsn for observation in reversed(accepted) if observation.flush_lsn), None),
        "last_timeline": next((observation.timeline for observation in reversed(accepted) if observation.timeline), None),
        "system_identifiers": sorted({observation.system_identifier for observation in accepted if observation.system_identifier}),
    }


def together(overlaps: Iterable[Optional[float]]) -> Optional[float]:
    """The overlap that several observers saw: any sight of one counts, and one that covers everything is enough for 0."""
    known = [overlap for overlap in overlaps if overlap is not None]
    return max(known) if known else None
