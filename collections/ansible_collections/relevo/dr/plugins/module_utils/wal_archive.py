# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The archive of one stanza as a list of objects: which segments are there, which are missing, and where timelines fork.

Terms are PostgreSQL's: a segment's name is timeline, log and segment number, eight hexadecimal digits each; a history file names its timeline's ancestors.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Optional

from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes

DEFAULT_SEGMENT_BYTES = 16 * 1024 * 1024

_SEGMENT = re.compile(r"([0-9A-F]{24})-([0-9a-f]{40})(?:\.[a-z0-9]+)?")
_HISTORY = re.compile(r"([0-9A-F]{8})\.history(?:\.[a-z0-9]+)?")
_ANCESTOR = re.compile(r"\s*(\d+)\s+([0-9A-F]+/[0-9A-F]+)")
# More in one sentence would not be read.
_NAMED = 5


@dataclass(frozen=True, order=True)
class Segment:
    """One WAL segment: its timeline and its place in the WAL, counted in segments from 0/0."""

    timeline: int
    number: int


@dataclass(frozen=True)
class Archive:
    """What an archive id (``17-1``) holds. segments: the SHA-1 of the plain content by segment; more than one is a split brain's trace."""

    segments: Mapping[Segment, tuple[str, ...]] = field(default_factory=dict)
    paths: Mapping[Segment, tuple[str, ...]] = field(default_factory=dict)
    histories: frozenset[int] = frozenset()


class Fork(NamedTuple):
    """A timeline left its parent at this position, in bytes."""

    parent: int
    position: int


def read_archive(paths: Iterable[str], segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> Archive:
    """From the objects below one archive id."""
    checksums: dict[Segment, list[str]] = {}
    places: dict[Segment, list[str]] = {}
    histories = set()
    for path in paths:
        name = path.rsplit("/", 1)[-1]
        found = _SEGMENT.fullmatch(name)
        if found:
            segment = Segment(int(found.group(1)[:8], 16), _number(found.group(1), segment_bytes))
            checksums.setdefault(segment, []).append(found.group(2))
            places.setdefault(segment, []).append(path)
        history = _HISTORY.fullmatch(name)
        if history:
            histories.add(int(history.group(1), 16))
    return Archive(
        {segment: tuple(found) for segment, found in checksums.items()},
        {segment: tuple(found) for segment, found in places.items()},
        frozenset(histories),
    )


def segment_names(paths: Iterable[str]) -> list[str]:
    """The names of the segments among these objects, sorted: what can be said of them before their size is known."""
    found = (_SEGMENT.fullmatch(path.rsplit("/", 1)[-1]) for path in paths)
    return sorted({match.group(1) for match in found if match})


def read_segment(name: str, segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> Segment:
    """A segment from its name of 24 digits."""
    return Segment(int(name[:8], 16), _number(name, segment_bytes))


def segment_name(segment: Segment, segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> str:
    """The inverse of :func:`read_segment`."""
    log, number = divmod(segment.number, _per_log(segment_bytes))
    return "%08X%08X%08X" % (segment.timeline, log, number)


def of_backup(backup: Mapping[str, Any], segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> Optional[tuple[Segment, Segment]]:
    """The first and the last segment that a backup, as ``info`` describes it, cannot do without; None for one taken of a stopped server."""
    archive = backup.get("archive") or {}
    if not archive.get("start"):
        return None
    return read_segment(archive["start"], segment_bytes), read_segment(archive.get("stop") or archive["start"], segment_bytes)


def is_whole(history: str, timeline: int, others: Mapping[int, Sequence[Fork]]) -> bool:
    """Whether the text of a timeline's history file can be true. others: the ancestors of older timelines, whose beginning it must repeat."""
    lines = [line for line in history.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    forks = read_history(history)
    if not forks or len(forks) != len(lines):
        return False
    timelines = [fork.parent for fork in forks]
    if (
        timelines != sorted(set(timelines))
        or timelines[-1] >= timeline
        or [fork.position for fork in forks] != sorted(fork.position for fork in forks)
    ):
        return False
    return list(others.get(timelines[-1], forks[:-1])) == forks[:-1]


def read_history(text: str) -> list[Fork]:
    """The ancestors that a history file names, oldest first."""
    found = (_ANCESTOR.match(line) for line in text.splitlines() if not line.lstrip().startswith("#"))
    return [Fork(int(match.group(1)), lsn_bytes(match.group(2))) for match in found if match]


def missing(
    archive: Archive,
    needed: Iterable[tuple[Segment, Segment]],
    forks: Mapping[int, Fork],
    segment_bytes: int = DEFAULT_SEGMENT_BYTES,
) -> list[Segment]:
    """Segments that must be there and are not.

    needed: the first and the last segment of each backup. forks: where each later timeline left its parent. On every timeline the WAL must
    reach without a hole from the oldest backup, or from the fork, to the newest segment and to the end of each backup; a timeline that was
    left must reach its fork.
    """
    first: dict[int, int] = {}
    last: dict[int, int] = {}
    for start, stop in needed:
        first[start.timeline] = min(start.number, first.get(start.timeline, start.number))
        last[stop.timeline] = max(stop.number, last.get(stop.timeline, stop.number))
    for segment in archive.segments:
        last[segment.timeline] = max(segment.number, last.get(segment.timeline, segment.number))
    for timeline, fork in sorted(forks.items()):
        if fork.parent in first:
            # The new timeline begins within the segment of the fork; the parent must reach the one before it.
            at = fork.position // segment_bytes
            first[timeline] = min(at, first.get(timeline, at))
            if at - 1 >= first[fork.parent]:
                last[fork.parent] = max(at - 1, last.get(fork.parent, at - 1))
    return [
        Segment(timeline, number)
        for timeline, begin in sorted(first.items())
        # A promotion that was given up before it archived anything but its history needs nothing.
        for number in range(begin, last.get(timeline, begin - 1) + 1)
        if Segment(timeline, number) not in archive.segments
    ]


def split(archive: Archive) -> list[Segment]:
    """Segments that are there with more than one content: two servers archived on one timeline."""
    return sorted(segment for segment, checksums in archive.segments.items() if len(set(checksums)) > 1)


def differing(one: Archive, other: Archive) -> list[Segment]:
    """Segments that two repositories hold with different content."""
    both = set(one.segments) & set(other.segments)
    return sorted(segment for segment in both if set(one.segments[segment]) != set(other.segments[segment]))


def named(segments: Iterable[Segment], segment_bytes: int = DEFAULT_SEGMENT_BYTES) -> str:
    """Some segments by name, for a sentence; a run of them as its first and last."""
    runs: list[list[Segment]] = []
    for segment in sorted(segments):
        if runs and segment == Segment(runs[-1][-1].timeline, runs[-1][-1].number + 1):
            runs[-1].append(segment)
        else:
            runs.append([segment])
    texts = [
        segment_name(run[0], segment_bytes) + (" to %s" % segment_name(run[-1], segment_bytes) if len(run) > 1 else "")
        for run in runs
    ]
    return ", ".join(texts[:_NAMED]) + (" and %d more places" % (len(texts) - _NAMED) if len(texts) > _NAMED else "")


def _per_log(segment_bytes: int) -> int:
    return 0x100000000 // segment_bytes


def _number(name: str, segment_bytes: int) -> int:
    return int(name[8:16], 16) * _per_log(segment_bytes) + int(name[16:24], 16)
