# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be restored from a repository, as the steps that restore it need to know it."""

from __future__ import annotations

import json
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import clock, restore_path, restore_target
from ansible_collections.relevo.dr.plugins.module_utils.archive_reader import Content
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError, explained
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Choice

# Codes of ``info`` above this one say that the repository could not be read.
LAST_STATE = 5


def described(content: Content, choice: Choice) -> dict[str, Any]:
    """One restore in words and numbers that survive JSON; missing: segments that are not in the archive on the way to its end."""
    backup, target, archive = choice.backup, choice.target, content.archive
    tail = archive.tails.get(choice.legs[-1].timeline) or archive.tails[max(archive.tails)]
    end = {restore_target.LSN: target.position, restore_target.NAME: _point(archive, choice)}.get(target.kind) or tail.position
    missing = restore_path.missing(content.wal, choice.legs, backup.start, end, content.segment_bytes)
    newest = max(archive.backups, key=lambda other: other.stopped)
    return {
        "repository": archive.repository,
        "label": backup.label,
        "size": backup.size,
        "damaged": backup.damaged,
        "backup_stopped_at": clock.utc(backup.stopped),
        "timeline": choice.timeline,
        # A timeline without a history of its own can only be followed as the backup's.
        "target_timeline": "current" if choice.timeline == backup.timeline else str(choice.timeline),
        "kind": target.kind,
        "value": target.value,
        "target": target.words(),
        "missing": missing,
        "segments": (end - backup.start) // content.segment_bytes + 1,
        "end_lsn": restore_target.lsn_text(tail.position),
        "end_commit_at": clock.utc(tail.committed_at) if tail.committed_at and tail.committed_at > backup.stopped else None,
        "live_bytes": newest.size,
        "system_identifier": content.system_identifier,
    }


def _point(archive: restore_target.Archive, choice: Choice) -> int:
    return min(restore_target.points_after(archive, choice.legs, choice.backup), default=0)


def info(command: Pgbackrest, repository: int) -> dict[str, Any]:
    """``info`` of one repository. Raises PgbackrestError when it cannot be read or holds nothing of this stanza."""
    stanzas: list[dict[str, Any]] = json.loads(command.run("info", "--repo=%d" % repository, "--output=json"))
    found = stanzas[0] if stanzas else {}
    for state in found.get("repo", []):
        if state["key"] == repository and state["status"]["code"] > LAST_STATE:
            raise explained(state["status"]["message"])
    if not found.get("db"):
        raise PgbackrestError(
            "repository %d holds no stanza %s" % (repository, command.stanza),
            "run playbooks/protect.yml, or name another repository",
        )
    return found
