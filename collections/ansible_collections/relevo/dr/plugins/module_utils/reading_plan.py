# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a verification reads: all that is new since the last one, and a share of the rest, so that everything is read again in time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional


@dataclass(frozen=True)
class Stored:
    """An object as the repository lists it. changed_at: epoch seconds."""

    size: int
    changed_at: float


@dataclass(frozen=True)
class Read:
    """An object as it was when it was last read and found whole. read_at: epoch seconds."""

    size: int
    changed_at: float
    read_at: float


def to_read(
    stored: Mapping[str, Stored], read: Mapping[str, Read], now: float, last_run_at: float, within_seconds: float
) -> tuple[str, ...]:
    """The objects to read now, those that were never read first.

    Of the others those that were read longest ago: at least the bytes that keep every object's age below ``within_seconds`` when runs go on at
    this pace, and whatever is older than that already.
    """
    unread = {path for path, about in stored.items() if _is_new(about, read.get(path))}
    rest = sorted((path for path in stored if path not in unread), key=lambda path: (read[path].read_at, path))
    elapsed = min(max(0.0, now - last_run_at), within_seconds)
    share = sum(stored[path].size for path in rest) * elapsed / within_seconds
    chosen, taken = [], 0
    for path in rest:
        overdue = now - read[path].read_at >= within_seconds
        if not overdue and taken + stored[path].size > share:
            break
        chosen.append(path)
        taken += stored[path].size
    return (*sorted(unread), *chosen)


def _is_new(stored: Stored, read: Optional[Read]) -> bool:
    return read is None or (read.size, read.changed_at) != (stored.size, stored.changed_at)
