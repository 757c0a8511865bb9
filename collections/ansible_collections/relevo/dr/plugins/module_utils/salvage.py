# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What an old primary has that the new one never had: which segments hold it, and what is in them. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Leg
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import Segment, read_segment, segment_name

_PAGE = 8192
_LONG_HEADER, _LONG_BYTES, _SHORT_BYTES = 0x0002, 40, 24
_SEGMENT = re.compile(r"[0-9A-F]{24}(\.partial)?")
_RECORD = re.compile(r"^rmgr: (\S+)\s+len .*? tx:\s+(\d+), lsn: ([0-9A-F]+/[0-9A-F]+), .*? desc: (\S+)(.*)$")
_RELATION = re.compile(r"blkref #0: rel (\d+/\d+/\d+)")
# "ntuples: 7" since release 16, "7 tuples" before it.
_MANY = re.compile(r"ntuples: (\d+)|^ (\d+) tuples")
_SUBTRANSACTIONS = re.compile(r"subxacts: ([\d ]+)")
_ROWS = {"INSERT": "inserted", "MULTI_INSERT": "inserted", "UPDATE": "updated", "HOT_UPDATE": "updated", "DELETE": "deleted"}


@dataclass(frozen=True)
class Kept:
    """The files of pg_wal to keep, by name. read: by number the segment that tells it best. missing: segments that are not there."""

    segments: list[str]
    histories: list[str]
    read: dict[int, str]
    missing: list[str]


def chosen(names: Iterable[str], legs: Sequence[Leg], segment_bytes: int, reach: int = 0) -> Kept:
    """What holds these legs, of which each goes on where the one before it ends. reach: a position that the server is known to have come to."""
    everything = sorted(names)
    bounds = {leg.timeline: (leg.begin // segment_bytes, None if leg.end is None else leg.end // segment_bytes) for leg in legs}
    segments: list[str] = []
    read: dict[int, str] = {}
    for name in everything:
        segment = read_segment(name[:24], segment_bytes) if _SEGMENT.fullmatch(name) else None
        if segment is None or segment.timeline not in bounds:
            continue
        first, last = bounds[segment.timeline]
        if first <= segment.number and (last is None or segment.number <= last):
            segments.append(name)
            # Of one number the newest timeline's begins with a copy of the others; a whole one is better than one that was set aside.
            read[segment.number] = max(read.get(segment.number, ""), name, key=_rank)
    begin = legs[0].begin // segment_bytes
    missing = [
        segment_name(Segment(_timeline(legs, number, segment_bytes), number), segment_bytes)
        for number in range(begin, max([begin, reach // segment_bytes, *read]) + 1)
        if number not in read
    ]
    return Kept(segments, [name for name in everything if name.endswith(".history")], read, missing)


def _rank(name: str) -> tuple[int, bool]:
    return (int(name[:8], 16), len(name) == 24) if name else (0, False)


def _timeline(legs: Sequence[Leg], number: int, segment_bytes: int) -> int:
    """The newest that has a segment of this number."""
    return max(leg.timeline for leg in legs if leg.begin // segment_bytes <= number)


def shortfall(kept: Mapping[str, Any]) -> Optional[str]:
    """Why this salvage, by its manifest, is not known to be all that its host alone had; None when it is."""
    if kept.get("unknown"):
        return str(kept["unknown"])
    if kept["missing"]:
        return "%d segments are missing, from %s on" % (len(kept["missing"]), kept["missing"][0])
    fork, reached, wanted = kept["fork_lsn"], kept["end_lsn"], kept.get("checkpoint_lsn")
    if fork and wanted and lsn_bytes(wanted) >= lsn_bytes(fork) and lsn_bytes(reached or "0/0") < lsn_bytes(wanted):
        return "the kept WAL can be read to %s, and the server wrote a checkpoint at %s" % (reached or "nowhere", wanted)
    return None


def record_stream(segment: bytes) -> bytes:
    """A segment without its page headers: a record that crosses a page is whole in it."""
    pages = (segment[at : at + _PAGE] for at in range(0, len(segment), _PAGE))
    return b"".join(page[_LONG_BYTES if int.from_bytes(page[2:4], "little") & _LONG_HEADER else _SHORT_BYTES :] for page in pages)


def references(stream: bytes, prefix: str) -> set[str]:
    """The ledger's references in it, `prefix-number`, as PostgreSQL keeps a short text: its length, then its bytes."""
    found = set()
    for match in re.finditer(re.escape(prefix.encode()) + rb"-\d+", stream):
        if match.start() == 0:
            continue
        # A digit behind it may belong to the next column: the length decides.
        header = stream[match.start() - 1]
        length = (header >> 1) - 1
        if header & 1 and len(prefix) + 1 < length <= len(match.group()):
            found.add(match.group()[:length].decode())
    return found


def transactions(lines: Iterable[str]) -> dict[str, Any]:
    """From pg_waldump: {committed: [{xid, committed_at, lsn, rows: {relation: {inserted, updated, deleted}}}], unfinished, aborted, end_lsn}.

    A relation is tablespace/database/filenode. Only rows count that user transactions touched.
    """
    rows: dict[int, dict[str, dict[str, int]]] = {}
    committed: list[dict[str, Any]] = []
    aborted = 0
    end: Optional[str] = None
    for rmgr, xid, lsn, verb, rest in _records(lines):
        end = lsn
        if rmgr == "Transaction" and verb.startswith(("COMMIT", "ABORT")):
            below = _SUBTRANSACTIONS.search(rest)
            touched = _together(
                [rows.pop(one, {}) for one in (xid, *(int(word) for word in (below.group(1).split() if below else ())))]
            )
            if verb.startswith("ABORT"):
                aborted += 1
            else:
                committed.append({"xid": xid, "committed_at": rest.strip().split(";")[0], "lsn": lsn, "rows": touched})
        elif rmgr in ("Heap", "Heap2"):
            _count(rows, xid, verb, rest)
    return {
        "committed": committed,
        "unfinished": len([xid for xid, touched in rows.items() if touched]),
        "aborted": aborted,
        "end_lsn": end,
    }


def _records(lines: Iterable[str]) -> Iterator[tuple[str, int, str, str, str]]:
    for line in lines:
        match = _RECORD.match(line)
        if match:
            yield match.group(1), int(match.group(2)), match.group(3), match.group(4), match.group(5)


def _count(rows: dict[int, dict[str, dict[str, int]]], xid: int, verb: str, rest: str) -> None:
    kind = _ROWS.get(verb.partition("+")[0])
    relation = _RELATION.search(rest)
    if kind is None or relation is None or not xid:
        return
    many = _MANY.search(rest)
    counts = rows.setdefault(xid, {}).setdefault(relation.group(1), {})
    counts[kind] = counts.get(kind, 0) + (int(many.group(1) or many.group(2)) if many else 1)


def _together(parts: list[dict[str, dict[str, int]]]) -> dict[str, dict[str, int]]:
    total: dict[str, dict[str, int]] = {}
    for part in parts:
        for relation, counts in part.items():
            for kind, number in counts.items():
                into = total.setdefault(relation, {})
                into[kind] = into.get(kind, 0) + number
    return total


def by_relation(committed: Iterable[dict[str, Any]], names: dict[str, str]) -> dict[str, dict[str, int]]:
    """Rows of all committed transactions by relation, under its name where that is known."""
    total = _together([one["rows"] for one in committed])
    return {names.get(relation, relation): counts for relation, counts in sorted(total.items())}
