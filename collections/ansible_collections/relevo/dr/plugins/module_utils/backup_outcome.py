# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a backup comes to in the record: a gate for each repository, and its size, time and rate. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Optional


def measure(backup: Mapping[str, Any]) -> dict[str, Any]:
    """One backup of ``info``. size_bytes: of the cluster; copied_bytes: of it what this backup read; repository_bytes: what it added to the store."""
    seconds = float(backup["timestamp"]["stop"]) - float(backup["timestamp"]["start"])
    copied = backup["info"].get("delta")
    return {
        "label": backup["label"],
        "type": backup["type"],
        # pgBackRest counts whole seconds: a rate over none of them is no rate.
        "duration_seconds": seconds,
        "size_bytes": backup["info"].get("size"),
        "copied_bytes": copied,
        "repository_bytes": backup["info"].get("repository", {}).get("delta"),
        "bytes_per_second": round(copied / seconds) if copied is not None and seconds > 0 else None,
    }


def gate(
    host: str, repository: int, attempt: Optional[Mapping[str, Any]], backup: Optional[Mapping[str, Any]], unit: str
) -> dict[str, Any]:
    """Whether one repository got a backup that counts. attempt: the program's own line; backup: as the repository lists it."""
    observed, next_action = "", ""
    if attempt is None:
        observed, next_action = "%s ended without a word" % unit, "read journalctl -u %s on %s" % (unit, host)
    elif attempt["outcome"] == "skipped":
        observed, next_action = "skipped: %s" % attempt["reason"], "wait for that backup, then start again"
    elif attempt["outcome"] == "damaged" or (backup or {}).get("error"):
        observed = "%s: %s" % (attempt["label"], attempt["reason"] or "page checksum errors")
        next_action = "run pg_amcheck on %s and restore the damaged relations; this backup holds the damage" % host
    elif attempt["outcome"] != "taken":
        observed, next_action = (
            str(attempt["reason"]),
            "mend that, then start again; /var/log/pgbackrest on %s has the details" % host,
        )
    elif backup is None:
        observed, next_action = "%s is not in the repository's list" % attempt["label"], "run playbooks/backup.yml again"
    else:
        size = int(backup["info"].get("size") or 0)
        observed = "%s (%s), %d bytes" % (backup["label"], backup["type"], size)
        if attempt.get("copied_from") not in (None, "primary"):
            observed += ", copied from the %s" % attempt["copied_from"]
        if size <= 0:
            next_action = "find out why it is empty; take another one"
    return {
        "id": "BACKUP",
        "title": "A backup without errors",
        "phase": "BACKUP",
        "host": "%s repository %d" % (host, repository),
        "observed": observed,
        "expected": "a backup, not empty, without page checksum errors, listed by the repository",
        "verdict": "fail" if next_action else "pass",
        "next_action": next_action,
    }


def progress_line(progress: Mapping[str, Any], kind: str, seconds: float) -> str:
    """How far it is, for a person."""
    head = "%s backup into repository %s" % (kind, progress.get("repository") or "?")
    done, total = progress.get("bytes"), progress.get("total_bytes")
    if done is None or not total:
        return "%s: at work for %d s" % (head, seconds)
    return "%s: %.1f %% of %s after %d s" % (head, 100.0 * done / total, size_text(total), seconds)


def size_text(number: float) -> str:
    """Bytes for a person."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return "%.1f %s" % (number, unit)
        number /= 1024
    return "%.1f TiB" % number
