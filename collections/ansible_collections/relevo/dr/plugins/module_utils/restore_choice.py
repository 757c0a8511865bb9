# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What can be restored from a repository, as the steps that restore it need to know it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import clock, restore_path, restore_target
from ansible_collections.relevo.dr.plugins.module_utils.archive_reader import ArchiveReader, Content
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError, explained
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Choice, NotRestorable, Target

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
        "replay_bytes": max(0, end - backup.start),
        "end_lsn": restore_target.lsn_text(tail.position),
        "end_commit_at": clock.utc(tail.committed_at) if tail.committed_at and tail.committed_at > backup.stopped else None,
        "live_bytes": newest.size,
        "system_identifier": content.system_identifier,
    }


def _point(archive: restore_target.Archive, choice: Choice) -> int:
    return min(restore_target.points_after(archive, choice.legs, choice.backup), default=0)


def read(p: Mapping[str, Any], repository: int, scratch: str, target: Target, label: str) -> Content:
    """One repository, as far as a restore to the target needs it. p: config, stanza, owner, bin_directory, scan_segments, io_timeout, timeout.

    label: the backup that was named, ``restore_target.LATEST`` for the newest that fits. Raises PgbackrestError.
    """
    command = Pgbackrest(p["config"], p["stanza"], p["owner"], io_timeout=p["io_timeout"], timeout=p["timeout"])
    directory = os.path.join(scratch, str(repository))
    os.mkdir(directory)
    shutil.chown(directory, p["owner"])
    reader = ArchiveReader(command, repository, p["bin_directory"], directory, p["scan_segments"])
    name = target.value if target.kind == restore_target.NAME else ""
    return reader.read(info(command, repository), name, "" if label == restore_target.LATEST else label)


def check_release(content: Content, version: str, where: str) -> None:
    """Raises NotRestorable where the programs are of another release than the backups."""
    if content.version != version:
        raise NotRestorable(
            "the backups are of PostgreSQL %s" % content.version,
            "PostgreSQL %s, which %s has" % (version, where),
            "install the same major release on %s" % where,
        )


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
