# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Where the histories of two servers part.

A timeline's number is no name: servers that are promoted apart give the same one. It is the same timeline where it began at the same position of the same
parent, and, as far as that is still there, with the same record.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Leg, path
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import Segment, read_history, segment_name

_PAGE, _LONG_HEADER, _SHORT_HEADER = 8192, 40, 24
# A record's own header: its checksum covers the rest, and the rest of a timeline's first record says when it was promoted.
_HEADER = 24
_FOLLOWING = ("shut down in recovery", "in archive recovery")


@dataclass(frozen=True)
class Line:
    """How a server came to be where it is: its legs, oldest first, and by timeline how it began, as far as its WAL is still there."""

    legs: tuple[Leg, ...]
    births: Mapping[int, str] = field(default_factory=dict)

    @property
    def timeline(self) -> int:
        """Where it is now."""
        return self.legs[-1].timeline


@dataclass(frozen=True)
class Parting:
    """timeline, position: the last that both have; position is None while both are on that timeline. own: what the first one has behind it."""

    timeline: int
    position: Optional[int]
    own: tuple[Leg, ...]


def line(timeline: int, ancestors: Iterable[Mapping[str, Any]], births: Optional[Mapping[str, str]] = None) -> Line:
    """From the facts of a server: ancestors are {timeline, lsn}."""
    forks = [(int(entry["timeline"]), lsn_bytes(str(entry["lsn"]))) for entry in ancestors]
    return Line(path({timeline: forks}, timeline), {int(number): birth for number, birth in (births or {}).items()})


def part(ours: Line, theirs: Line) -> Optional[Parting]:
    """None where they have nothing in common."""
    same = 0
    for mine, other in zip(ours.legs, theirs.legs):
        born = {births[mine.timeline] for births in (ours.births, theirs.births) if mine.timeline in births}
        if (mine.timeline, mine.begin) != (other.timeline, other.begin) or len(born) > 1:
            break
        same += 1
    if not same:
        return None
    mine, other = ours.legs[same - 1], theirs.legs[same - 1]
    ends = [leg.end for leg in (mine, other) if leg.end is not None]
    if not ends:
        return Parting(mine.timeline, None, ())
    position = min(ends)
    left = () if mine.end == position else (Leg(mine.timeline, position, mine.end),)
    return Parting(mine.timeline, position, (*left, *ours.legs[same:]))


def part_from_writer(ours: Line, theirs: Line) -> Optional[Parting]:
    """As part, of a server that was itself a primary: where the other is one on the same timeline, that is another one, and they part where it began."""
    parting = part(ours, theirs)
    if parting is None or parting.position is not None:
        return parting
    last = ours.legs[-1]
    return Parting(ours.legs[-2].timeline, last.begin, (last,)) if len(ours.legs) > 1 else None


def followed(control: Mapping[str, str], data_directory: str) -> bool:
    """Whether a stopped server last followed another one, or is a copy that was not started yet; what was a primary since is neither."""
    return control.get("Database cluster state") in _FOLLOWING or os.path.exists(os.path.join(data_directory, "backup_label"))


def of_host(data_directory: str, timeline: int, segment_bytes: int, theirs: Line) -> Optional[Line]:
    """The line of the server in that directory, which is on that timeline; None where nobody knows it.

    Who begins a timeline writes its history; who only follows it need not have one, and is on the line that he followed.
    """
    name = os.path.join(data_directory, "pg_wal", "%08X.history" % timeline)
    try:
        with open(name, encoding="utf-8") as source:
            forks = [(fork.parent, fork.position) for fork in read_history(source.read())]
    except FileNotFoundError:
        known = [leg.timeline for leg in theirs.legs]
        if timeline in known:
            legs = theirs.legs[: known.index(timeline) + 1]
            return Line((*legs[:-1], Leg(timeline, legs[-1].begin)))
        return Line((Leg(timeline),)) if timeline == 1 else None
    legs = path({timeline: forks}, timeline)
    return Line(legs, births(data_directory, legs, segment_bytes))


def births(data_directory: str, legs: Iterable[Leg], segment_bytes: int) -> dict[int, str]:
    """By timeline the header of its first record, where its first segment is still there."""
    found = {}
    for leg in legs:
        at = leg.begin % segment_bytes
        if at % _PAGE == 0:
            at += _SHORT_HEADER if at else _LONG_HEADER
        segment = segment_name(Segment(leg.timeline, leg.begin // segment_bytes), segment_bytes)
        try:
            with open(os.path.join(data_directory, "pg_wal", segment), "rb") as source:
                source.seek(at)
                header = source.read(_HEADER)
        except OSError:
            continue
        if leg.begin and any(header):
            found[leg.timeline] = header.hex()
    return found
