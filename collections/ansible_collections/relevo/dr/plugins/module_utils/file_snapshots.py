# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a repository of files lists, judged: how old, how big beside those before, and which one a restore takes. Pure."""

from __future__ import annotations

import datetime
import re
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

PHASE = "VERIFY"
PASS, FAIL, UNKNOWN, NOT_APPLICABLE = "pass", "fail", "unknown", "not_applicable"
# The median of so many snapshots before it is what a new one is compared with.
COMPARED = 5
# How many buckets restic can read one of: by the first byte of a pack's name.
MOST_SHARES = 256


@dataclass(frozen=True)
class Snapshot:
    """One snapshot as restic lists it. at: epoch seconds."""

    id: str
    at: float
    host: str
    tags: tuple[str, ...]
    files: Optional[int] = None
    size: Optional[int] = None

    @property
    def short(self) -> str:
        """The name as a person writes it."""
        return self.id[:8]


@dataclass(frozen=True)
class Size:
    """Of one snapshot, whole: what a restore would write."""

    files: int
    size: int


def read(listed: Iterable[Mapping[str, Any]]) -> list[Snapshot]:
    """The output of ``restic snapshots --json``, oldest first. Newer versions tell the size too."""
    found = []
    for entry in listed:
        about = entry.get("summary") or {}
        found.append(
            Snapshot(
                str(entry["id"]),
                seconds(str(entry["time"])),
                str(entry.get("hostname")),
                tuple(entry.get("tags") or ()),
                about.get("total_files_processed"),
                about.get("total_bytes_processed"),
            )
        )
    return sorted(found, key=lambda snapshot: (snapshot.at, snapshot.id))


def seconds(text: str) -> float:
    """A time as restic writes it, in nanoseconds and with any offset, as epoch seconds."""
    match = re.fullmatch(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)", text)
    if not match:
        raise ValueError("not a time with an offset: %r" % text)
    whole, fraction, offset = match.groups()
    moment = datetime.datetime.fromisoformat(whole + ("+00:00" if offset == "Z" else offset))
    return moment.timestamp() + float("0.%s" % (fraction or "0"))


def of_set(snapshots: Iterable[Snapshot], host: str, tag: str) -> list[Snapshot]:
    """Those of one set of one host, oldest first."""
    return [snapshot for snapshot in snapshots if snapshot.host == host and tag in snapshot.tags]


def chosen(snapshots: Sequence[Snapshot], until: Optional[float]) -> Optional[Snapshot]:
    """The newest one, or the newest that was begun at or before a moment."""
    fitting = [snapshot for snapshot in snapshots if until is None or snapshot.at <= until]
    return fitting[-1] if fitting else None


def age_gate(
    host: str, place: str, name: str, newest: Optional[Snapshot], now: float, max_age: float, since: Optional[float] = None
) -> dict[str, Any]:
    """FILESAGE: the newest snapshot of a set. since: when the repository was made; before its first snapshot is due there may be none."""
    expected = "a snapshot at most %s old" % duration(max_age)
    take = "take one: systemctl start relevo-files@%s.service on %s, and read its journal" % (name, host)
    if newest is None:
        early = since is not None and now - since <= max_age
        observed = "no snapshot" + ("; the repository was made %s ago" % duration(now - since) if since is not None else "")
        observed += ", and the first is due within %s of it" % duration(max_age) if early else ""
        verdict = NOT_APPLICABLE if early else FAIL
        return gate("FILESAGE", "Newest snapshot of %s" % name, host, place, name, verdict, observed, expected, take)
    age = now - newest.at
    observed = "%s, %s old" % (newest.short, duration(max(0.0, age)))
    if age < -60:
        observed = "%s, %s in the future" % (newest.short, duration(-age))
    verdict = PASS if -60 <= age <= max_age else FAIL
    return gate("FILESAGE", "Newest snapshot of %s" % name, host, place, name, verdict, observed, expected, take)


def size_gate(host: str, place: str, name: str, newest: Size, before: Sequence[Size], shrink_ratio: float) -> dict[str, Any]:
    """FILESSIZE: neither empty nor suddenly much smaller than those before."""
    observed = "%d files, %d bytes" % (newest.files, newest.size)
    expected = "not empty"
    small = newest.files <= 0 or newest.size <= 0
    if before:
        files, size = (statistics.median(getattr(other, key) for other in before) for key in ("files", "size"))
        expected = "at least %g of the median of the %d before: %d files, %d bytes" % (shrink_ratio, len(before), files, size)
        small = small or newest.files < shrink_ratio * files or newest.size < shrink_ratio * size
    return gate(
        "FILESSIZE",
        "Size of the newest snapshot of %s" % name,
        host,
        place,
        name,
        FAIL if small else PASS,
        observed,
        expected,
        "see what is gone with restic diff, and correct paths or excludes of the set; if it is meant, it passes once it is the usual size",
    )


def data_gate(host: str, place: str, damaged: Sequence[str], said: Sequence[str], read_share: str) -> dict[str, Any]:
    """FILESDATA: structure whole, and every byte of the share that was read as it was written."""
    wrong = [*("pack %s" % pack for pack in damaged), *said]
    return gate(
        "FILESDATA",
        "Content of the repository of files",
        host,
        place,
        "",
        FAIL if wrong else PASS,
        "; ".join(wrong)[:600] if wrong else "whole; read %s" % read_share,
        "no damage",
        "restore what you need from the other repository; mend this one (restic repair), and take new snapshots into it",
    )


def unreadable(host: str, place: str, observed: str, next_action: str, verdict: str = UNKNOWN) -> dict[str, Any]:
    """FILESREPO: a repository that could not be asked."""
    return gate(
        "FILESREPO", "Repository of files", host, place, "", verdict, observed, "an answer that this host can read", next_action
    )


def gate(
    check: str, title: str, host: str, place: str, name: str, verdict: str, observed: str, expected: str, next_action: str
) -> dict[str, Any]:
    """One gate as the record keeps it. name: the set, or empty."""
    return {
        "id": check,
        "title": title,
        "phase": PHASE,
        "host": ", ".join(part for part in (host, place, "set %s" % name if name else "") if part),
        "observed": observed,
        "expected": expected,
        "verdict": verdict,
        "next_action": "" if verdict == PASS else next_action,
    }


def duration(length: float) -> str:
    """Seconds for a person."""
    for unit, name in ((86400, "days"), (3600, "h"), (60, "min")):
        if length >= 2 * unit:
            return "%.1f %s" % (length / unit, name)
    return "%d s" % length


def shares_due(read_at: Mapping[int, float], shares: int, now: float, within: float, cadence: float) -> list[int]:
    """Which shares (1 to ``shares``) of a repository to read now, so that none is older than ``within`` when the next run comes after ``cadence``.

    What was never read is due. At least one is due in every run, the one that was read longest ago.
    """
    order = sorted(range(1, shares + 1), key=lambda share: (read_at.get(share, float("-inf")), share))
    due = [share for share in order if now - read_at.get(share, float("-inf")) + cadence > within]
    return sorted(due or order[:1])


def share_of(pack: str, shares: int) -> int:
    """The share that holds a pack, as restic's --read-data-subset=n/t cuts them: by the first byte of its name."""
    return int(pack[:2], 16) % shares + 1
