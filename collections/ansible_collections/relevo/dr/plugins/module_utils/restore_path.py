# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The WAL that a restore runs through: what is missing of it, and what pg_waldump shows of a segment. Pure."""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Optional

from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Leg
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import Archive, Segment, segment_name

_LINE = re.compile(r"rmgr: (\S+) .*? lsn: ([0-9A-F]+/[0-9A-F]+),.*? desc: (.*)")
_COMMIT = re.compile(r"COMMIT(?:_PREPARED)? (?:\S+: )?(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) UTC")


@dataclass(frozen=True)
class Record:
    """One WAL record: where it begins, and the time if it is a commit."""

    position: int
    committed_at: Optional[datetime.datetime] = None
    point: str = ""


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


def missing(archive: Archive, legs: Sequence[Leg], begin: int, end: int, segment_bytes: int, limit: int = 20) -> list[str]:
    """The segments between two positions that are on no timeline of the path: a restore would stop there. At most limit names."""
    absent: list[str] = []
    for number in range(begin // segment_bytes, -(-end // segment_bytes)):
        position = number * segment_bytes
        # PostgreSQL looks for the newest timeline of its path first.
        here = [leg.timeline for leg in legs if leg.begin < position + segment_bytes and (leg.end is None or leg.end > position)]
        if not any(Segment(timeline, number) in archive.segments for timeline in here):
            absent.append(segment_name(Segment(here[-1] if here else legs[-1].timeline, number), segment_bytes))
            if len(absent) == limit:
                break
    return absent
