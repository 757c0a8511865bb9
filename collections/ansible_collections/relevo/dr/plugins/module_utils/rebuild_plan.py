# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which way an old primary's data directory comes back into the new primary's lineage: by what is possible, and by what is quickest. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

REWIND, DELTA, FULL = "rewind", "delta", "full"
METHODS = (REWIND, DELTA, FULL)
# Where nothing was measured here: a small volume's pace, which is what a choice must not hope to beat.
BYTES_PER_SECOND = {"wal": 200e6, "read": 150e6, "fetch": 60e6}
OVERHEAD_SECONDS = {REWIND: 5.0, DELTA: 10.0, FULL: 10.0}


@dataclass(frozen=True)
class Way:
    """One method: why it cannot be taken (None when it can), and how long it will take."""

    method: str
    obstacle: Optional[str]
    seconds: float


def ways(obstacles: Mapping[str, Optional[str]], divergent_bytes: int, local_bytes: int, primary_bytes: int) -> list[Way]:
    """divergent_bytes: WAL behind the fork. local_bytes, primary_bytes: sizes of the two data directories."""
    seconds = {
        # The WAL is read twice, and what it touched is fetched at the most once.
        REWIND: 2 * divergent_bytes / BYTES_PER_SECOND["wal"] + divergent_bytes / BYTES_PER_SECOND["fetch"],
        # Every local file is read and compared; of most nothing is fetched.
        DELTA: local_bytes / BYTES_PER_SECOND["read"] + 0.1 * primary_bytes / BYTES_PER_SECOND["fetch"],
        FULL: primary_bytes / BYTES_PER_SECOND["fetch"],
    }
    return [Way(method, obstacles.get(method), round(OVERHEAD_SECONDS[method] + seconds[method], 1)) for method in METHODS]


def order(found: list[Way], wanted: str, begun: Optional[Mapping[str, Any]], host: str) -> list[str]:
    """The methods to try, one after the other. Raises Refusal when there is none.

    begun: our mark of an unfinished rebuild. A directory that a rewind left half way is neither started nor rewound again: another method replaces it.
    """
    half = str(begun["method"]) if begun and not begun.get("restored") and begun.get("method") else None
    possible = [way for way in found if way.obstacle is None and not (way.method == REWIND and half)]
    if wanted:
        chosen = [way for way in possible if way.method == wanted]
        if not chosen:
            said = (
                "a rewind that did not end"
                if half and wanted == REWIND
                else next(way.obstacle for way in found if way.method == wanted)
            )
            raise Refusal(
                "REBUILD", host, "%s is not possible: %s" % (wanted, said), "another method", "leave dr_failback_method out"
            )
        return [wanted]
    if not possible:
        said = "; ".join("%s: %s" % (way.method, way.obstacle or "was begun and did not end") for way in found)
        raise Refusal("REBUILD", host, said, "one method that is possible", "mend one of them, then start the same runbook again")
    return [way.method for way in sorted(possible, key=lambda way: way.seconds)]


def shown(found: list[Way]) -> dict[str, Any]:
    """For the record."""
    return {way.method: {"predicted_seconds": way.seconds, "obstacle": way.obstacle} for way in found}
