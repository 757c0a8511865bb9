# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The WAL that a restore runs through: segments by name, the family of timelines, and what pg_waldump shows of a segment. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Leg

_SEGMENT = re.compile(r"([0-9A-F]{24})-[0-9a-f]{40}(?:\.\w+)?")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history")
_LINE = re.compile(r"rmgr: (\S+) .*? lsn: ([0-9A-F]+/[0-9A-F]+),.*? desc: (.*)")
_COMMIT = re.compile(r"COMMIT(?:_PREPARED)? (?:\S+: )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC")


@dataclass(frozen=True)
class Record:
    """One WAL record: where it begins, and the time if it is a commit."""

    position: int
    committed_at: Optional[datetime.datetime] = None
    point: str = ""


def names(listing: Iterable[str]) -> tuple[dict[int, list[str]], list[int]]:
    """From the files of an archive to segments by timeline, in order, and the timelines that have a history."""
    segments: dict[int, set[str]] = {}
    histories = set()
    for entry in listing:
        file = entry.rpartition("/")[2]
        segment, history = _SEGMENT.fullmatch(file), _HISTORY.fullmatch(file)
        if segment:
            segments.setdefault(int(segment.group(1)[:8], 16), set()).add(segment.group(1))
        elif history:
            histories.add(int(history.group(1), 16))
    return {timeline: sorted(found) for timeline, found in sorted(segments.items())}, sorted(histories)


def history(text: str) -> list[tuple[int, int]]:
    """The parents of a timeline and where each was left, oldest first."""
    parents = []
    for line in text.splitlines():
        words = line.split("#")[0].split()
        if len(words) >= 2:
            parents.append((int(words[0]), lsn_bytes(words[1])))
    return parents


def records(dump: str) -> list[Record]:
    """What pg_waldump printed, in UTC."""
    found = []
    for line in dump.splitlines():
        match = _LINE.match(line)
        if not match:
            continue
        manager, lsn, described = match.groups()
        commit = _COMMIT.search(described) if manager == "Transaction" else None
        moment = None
        if commit:
            text = commit.group(1) if "." in commit.group(1) else commit.group(1) + ".0"
            moment = datetime.datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=datetime.timezone.utc)
        point = described[len("RESTORE_POINT ") :] if manager == "XLOG" and described.startswith("RESTORE_POINT ") else ""
        found.append(Record(lsn_bytes(lsn), moment, point))
    return found


def segment_start(name: str, segment_bytes: int) -> int:
    """The position at which a segment begins."""
    return (int(name[8:16], 16) << 32) + int(name[16:24], 16) * segment_bytes


def segment_name(timeline: int, position: int, segment_bytes: int) -> str:
    """The segment that holds a position."""
    number = position // segment_bytes
    per_log = (1 << 32) // segment_bytes
    return "%08X%08X%08X" % (timeline, number // per_log, number % per_log)


def holding(segments: Sequence[str], position: int, segment_bytes: int) -> Optional[str]:
    """The one of these segments of one timeline that holds a position."""
    for name in segments:
        begin = segment_start(name, segment_bytes)
        if begin <= position < begin + segment_bytes:
            return name
    return None


def missing(
    segments: Mapping[int, Sequence[str]], legs: Sequence[Leg], begin: int, end: int, segment_bytes: int, limit: int = 20
) -> list[str]:
    """The segments between two positions that are on no timeline of the path: a restore would stop there. At most limit names."""
    by_timeline = {timeline: {name[8:] for name in found} for timeline, found in segments.items()}
    absent: list[str] = []
    position = begin - begin % segment_bytes
    while position < end and len(absent) < limit:
        # PostgreSQL looks for the newest timeline of its path first.
        here = [leg.timeline for leg in legs if leg.begin < position + segment_bytes and (leg.end is None or leg.end > position)]
        tail = segment_name(1, position, segment_bytes)[8:]
        if not any(tail in by_timeline.get(timeline, ()) for timeline in here):
            absent.append(segment_name(here[-1] if here else legs[-1].timeline, position, segment_bytes))
        position += segment_bytes
    return absent
