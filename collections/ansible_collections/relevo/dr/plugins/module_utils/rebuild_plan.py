# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which way an old primary's data directory comes back into the new primary's lineage: by what is possible, and by what is quickest. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.parting import Line
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import on_path

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


def standing(
    mark: Optional[Mapping[str, Any]], runs: Iterable[str], data_directory: str, followed: bool
) -> Optional[Mapping[str, Any]]:
    """Our mark of a rebuild, as far as it still says something of these data.

    runs: this one and those for which it goes on. followed: whether the data only followed since, or were not started. What did not end is never started,
    whoever began it; what came to its end is of the primary's lineage for that run alone, for nobody knows what was written since.
    """
    if not mark or mark.get("data_directory") != data_directory:
        return None
    return None if mark.get("restored") and not (followed and mark.get("run_id") in set(runs)) else mark


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

    begun: our mark of a rebuild. A directory that a rewind left half way is neither started nor rewound again, and what another method put there is no old
    primary's any more: another method replaces it.
    """
    possible = [way for way in found if way.obstacle is None and not (way.method == REWIND and begun)]
    if wanted:
        chosen = [way for way in possible if way.method == wanted]
        if not chosen:
            said = (
                "a rebuild by %s that %s" % (begun.get("method"), "came to its end" if begun.get("restored") else "did not end")
                if begun and wanted == REWIND
                else next(way.obstacle for way in found if way.method == wanted)
            )
            raise Refusal(
                "REBUILD", host, "%s is not possible: %s" % (wanted, said), "another method", "leave dr_failback_method out"
            )
        return [wanted]
    if not possible:
        said = "; ".join("%s: %s" % (way.method, way.obstacle or "a rebuild was begun") for way in found)
        raise Refusal("REBUILD", host, said, "one method that is possible", "mend one of them, then start the same runbook again")
    return [way.method for way in sorted(possible, key=lambda way: way.seconds)]


def nothing_to_do(begun: Optional[Mapping[str, Any]], wanted: str, diverged: Optional[str]) -> bool:
    """Whether the data are of the primary's lineage as they are. A method that somebody asks for is carried out all the same."""
    if wanted:
        return False
    return bool(begun.get("restored")) if begun else diverged is None


def backup_of(line: Line, own: Iterable[int], backups: Iterable[Mapping[str, Any]]) -> Optional[tuple[int, str]]:
    """Repository and label of the newest backup from which the primary's line can be followed; pgBackRest itself takes the newest of all.

    own: the timelines of the host that comes back. One that the primary has by the same number tells nothing of who took the backup.
    """
    serving = [
        entry
        for entry in backups
        if not entry.get("error")
        and timeline_of(entry) not in set(own)
        and on_path(line.legs, timeline_of(entry), lsn_bytes(str(entry["lsn"]["stop"])))
    ]
    newest = max(serving, key=lambda entry: (int(entry["timestamp"]["stop"]), str(entry["label"])), default=None)
    return (int(newest["database"]["repo-key"]), str(newest["label"])) if newest else None


def timeline_of(backup: Mapping[str, Any]) -> int:
    """On which timeline a backup was taken, by its first segment."""
    return int(str(backup["archive"]["start"])[:8], 16)


def shown(found: list[Way]) -> dict[str, Any]:
    """For the record."""
    return {way.method: {"predicted_seconds": way.seconds, "obstacle": way.obstacle} for way in found}
