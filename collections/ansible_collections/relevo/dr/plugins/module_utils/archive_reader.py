# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read one repository: its backups, timelines, the end of each and, where one is asked for, a named restore point. Changes nothing."""

from __future__ import annotations

import contextlib
import datetime
import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import cluster_identity, restore_path
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError, explained
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes, owner_switch
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Archive, Backup, Tail, path, timeline_at

# How far back from the end of a timeline a commit is looked for.
QUIET_SEGMENTS = 16


@dataclass(frozen=True)
class Content:
    """archive: what a target is chosen from. segments: by timeline."""

    archive: Archive
    segments: Mapping[int, Sequence[str]]
    segment_bytes: int
    system_identifier: str
    version: str


class ArchiveReader:
    """scratch: an empty directory of the owner, for segments and for the identity that pgBackRest asks for."""

    def __init__(self, command: Pgbackrest, repository: int, bin_directory: str, scratch: str, scan_segments: int) -> None:
        self._command, self._repository, self._bin = command, repository, bin_directory
        self._scratch, self._scan = scratch, scan_segments
        self._identity = os.path.join(scratch, "identity")
        self._bytes = 0

    def read(self, info: Mapping[str, Any], point: str = "", until: str = "") -> Content:
        """Everything of the newest database of the stanza. point: a restore point to look for, back to the backup labelled until.

        Raises PgbackrestError or PostgresqlError.
        """
        database = max(
            (entry for entry in info["db"] if entry.get("repo-key", 1) == self._repository), key=lambda entry: int(entry["id"])
        )
        backups = [
            _backup(entry)
            for entry in info.get("backup", [])
            if entry["database"]["id"] == database["id"] and entry["database"].get("repo-key", 1) == self._repository
        ]
        identifier = str(database["system-id"])
        if not os.path.exists(self._identity):
            cluster_identity.make(self._bin, self._identity, identifier, self._command.owner)
        listing: dict[str, Any] = json.loads(
            self._command.run(
                "repo-ls",
                "--repo=%d" % self._repository,
                "--recurse",
                "--output=json",
                "archive/%s/%s-%s" % (self._command.stanza, database["version"], database["id"]),
            )
        )
        segments, with_history = restore_path.names(listing)
        histories = {timeline: self._history(timeline) for timeline in with_history}
        tails = {timeline: self._tail(found, None) for timeline, found in segments.items()}
        forks = {
            (parent, end): self._fork(segments, parent, timeline, end)
            for timeline, parents in histories.items()
            for parent, end in parents
            if self._bytes
        }
        points = self._points(segments, histories, backups, point, until) if point else []
        archive = Archive(
            self._repository,
            backups,
            histories,
            {timeline: tail for timeline, tail in tails.items() if tail},
            {place: tail for place, tail in forks.items() if tail},
            points,
        )
        return Content(archive, segments, self._bytes, identifier, str(database["version"]))

    def _get(self, name: str) -> Optional[str]:
        """A file of the archive, or None when it is not there."""
        target = os.path.join(self._scratch, name)
        if os.path.exists(target):
            return target
        got, said = self._command.succeeds(
            "archive-get", "--repo=%d" % self._repository, "--pg1-path=%s" % self._identity, "--no-archive-async", name, target
        )
        if got:
            return target
        if "ERROR" in said or "timeout" in said or "no result within" in said:
            raise explained(said)
        return None

    def _history(self, timeline: int) -> list[tuple[int, int]]:
        file = self._get("%08X.history" % timeline)
        if file is None:
            raise PgbackrestError(
                "the history of timeline %d cannot be read" % timeline, "run playbooks/protect.yml and look at its checks"
            )
        with open(file, encoding="utf-8") as source:
            return restore_path.history(source.read())

    def _records(self, segment: str, manager: str = "") -> list[restore_path.Record]:
        file = self._get(segment)
        if file is None:
            return []
        self._bytes = os.path.getsize(file)
        words = [os.path.join(self._bin, "pg_waldump"), *(["--rmgr=%s" % manager] if manager else []), file]
        # It ends with an error where the WAL ends; what it printed before is good.
        done = subprocess.run(
            words,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
            timeout=300,
            cwd=self._scratch,
            env={"LC_ALL": "C", "TZ": "UTC"},
            **owner_switch(self._command.owner),
        )
        with contextlib.suppress(OSError):
            os.unlink(file)
        return restore_path.records(done.stdout)

    def _tail(self, segments: Sequence[str], before: Optional[int]) -> Optional[Tail]:
        """The last record (before a position) and the last commit before it."""
        position: Optional[int] = None
        for name in list(reversed(segments))[:QUIET_SEGMENTS]:
            records = [record for record in self._records(name) if before is None or record.position < before]
            if records and position is None:
                position = records[-1].position
            commits = [record.committed_at for record in records if record.committed_at]
            if commits and position is not None:
                return Tail(position, max(commits))
        return Tail(position) if position is not None else None

    def _fork(self, segments: Mapping[int, Sequence[str]], parent: int, child: int, end: int) -> Optional[Tail]:
        """What the parent had committed when it was left. The child's first segment begins with a copy of the parent's last."""
        for timeline in (parent, child):
            found = segments.get(timeline, [])
            here = restore_path.holding(found, end - 1, self._bytes)
            if here:
                older = [name for name in segments.get(parent, []) if name[8:] < here[8:]]
                return self._tail([*older, here], end)
        return None

    def _points(
        self,
        segments: Mapping[int, Sequence[str]],
        histories: Mapping[int, Sequence[tuple[int, int]]],
        backups: Sequence[Backup],
        point: str,
        until: str,
    ) -> list[tuple[int, int]]:
        """Where the restore point is, from the newest segment back to the newest backup before it (or the one that was named)."""
        found: list[tuple[int, int]] = []
        floor = min((backup.start for backup in backups if not until or backup.label == until), default=0)
        names = sorted((name for each in segments.values() for name in each), key=lambda name: (name[8:], name[:8]), reverse=True)
        for scanned, name in enumerate(names, 1):
            begin = restore_path.segment_start(name, self._bytes or 16 << 20)
            if begin + self._bytes <= floor:
                break
            if found and not until:
                before = [backup.stop for backup in backups if backup.stop < min(position for _, position in found)]
                if before and begin + self._bytes <= max(before):
                    break
            if scanned > self._scan:
                raise PgbackrestError(
                    "restore point %s is not in the newest %d segments of the archive" % (point, self._scan),
                    "name the backup before it with dr_restore_set, or give the time or the LSN instead",
                )
            legs = path(histories, int(name[:8], 16))
            # A timeline's first segment begins with a copy of its parent's last.
            found += [
                (timeline_at(legs, record.position), record.position)
                for record in self._records(name, "XLOG")
                if record.point == point
            ]
        return sorted(set(found), key=lambda entry: entry[1])


def _backup(entry: Mapping[str, Any]) -> Backup:
    return Backup(
        label=str(entry["label"]),
        stopped=datetime.datetime.fromtimestamp(int(entry["timestamp"]["stop"]), datetime.timezone.utc),
        start=lsn_bytes(entry["lsn"]["start"]),
        stop=lsn_bytes(entry["lsn"]["stop"]),
        timeline=int(str(entry["archive"]["start"])[:8], 16),
        size=int(entry["info"]["size"]),
        first_segment=str(entry["archive"]["start"]),
        damaged=bool(entry.get("error")),
    )
