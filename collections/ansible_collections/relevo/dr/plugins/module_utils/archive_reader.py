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

from ansible_collections.relevo.dr.plugins.module_utils import cluster_identity, restore_path, wal_archive
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, PgbackrestError, explained
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes, owner_switch
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Archive, Backup, Tail, path, timeline_at
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import Fork, Segment

# How far back from the end of a timeline a commit is looked for.
QUIET_SEGMENTS = 16


@dataclass(frozen=True)
class Content:
    """archive: what a target is chosen from. wal: the segments that it rests on."""

    archive: Archive
    wal: wal_archive.Archive
    segment_bytes: int
    system_identifier: str
    version: str


class ArchiveReader:
    """scratch: an empty directory of the owner, for segments and for the identity that pgBackRest asks for."""

    def __init__(self, command: Pgbackrest, repository: int, bin_directory: str, scratch: str, scan_segments: int) -> None:
        self._command, self._repository, self._bin = command, repository, bin_directory
        self._scratch, self._scan = scratch, scan_segments
        self._identity = os.path.join(scratch, "identity")
        self._bytes = wal_archive.DEFAULT_SEGMENT_BYTES

    def read(self, info: Mapping[str, Any], point: str = "", until: str = "") -> Content:
        """Everything of the newest database of the stanza. point: a restore point to look for, back to the backup labelled until.

        Raises PgbackrestError or PostgresqlError.
        """
        database = max(
            (entry for entry in info["db"] if entry.get("repo-key", 1) == self._repository), key=lambda entry: int(entry["id"])
        )
        entries = [
            entry
            for entry in info.get("backup", [])
            if entry["database"]["id"] == database["id"] and entry["database"].get("repo-key", 1) == self._repository
        ]
        backups = [_backup(entry) for entry in entries]
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
        self._bytes = self._segment_bytes(wal_archive.segment_names(listing))
        wal = wal_archive.read_archive(listing, self._bytes)
        histories = {timeline: self._history(timeline) for timeline in sorted(wal.histories)}
        tails = {timeline: self._tail(_on(wal, timeline)) for timeline in sorted({segment.timeline for segment in wal.segments})}
        if tails and not any(tails.values()):
            raise PgbackrestError(
                "%s reads no record in the newest segments of any timeline" % os.path.join(self._bin, "pg_waldump"),
                "see that it is of PostgreSQL %s, as the cluster; if it is, run verify_backup" % database["version"],
            )
        forks = {
            (fork.parent, fork.position): self._fork(wal, timeline, fork)
            for timeline, parents in histories.items()
            for fork in parents
        }
        archive = Archive(
            self._repository,
            backups,
            histories,
            {timeline: tail for timeline, tail in tails.items() if tail},
            {place: tail for place, tail in forks.items() if tail},
            self._points(wal, histories, backups, point, until) if point else [],
            self._holes(wal, histories, entries),
        )
        return Content(archive, wal, self._bytes, identifier, str(database["version"]))

    def _holes(
        self, wal: wal_archive.Archive, histories: Mapping[int, Sequence[Fork]], entries: Sequence[Mapping[str, Any]]
    ) -> list[tuple[int, int, int]]:
        spans = (wal_archive.of_backup(entry, self._bytes) for entry in entries)
        forks = {timeline: parents[-1] for timeline, parents in histories.items() if parents}
        holes = wal_archive.missing(wal, [span for span in spans if span], forks, self._bytes)
        return [(hole.timeline, hole.number * self._bytes, (hole.number + 1) * self._bytes) for hole in holes]

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

    def _segment_bytes(self, names: Sequence[str]) -> int:
        """From the newest segment that can be read: a cluster may have been made with another size than the usual one."""
        for name in list(reversed(names))[:QUIET_SEGMENTS]:
            file = self._get(name)
            if file:
                return os.path.getsize(file)
        return wal_archive.DEFAULT_SEGMENT_BYTES

    def _history(self, timeline: int) -> list[Fork]:
        file = self._get("%08X.history" % timeline)
        if file is None:
            raise PgbackrestError(
                "the history of timeline %d cannot be read" % timeline, "run playbooks/protect.yml and look at its checks"
            )
        with open(file, encoding="utf-8") as source:
            return wal_archive.read_history(source.read())

    def _records(self, segment: Segment, manager: str = "") -> list[restore_path.Record]:
        file = self._get(wal_archive.segment_name(segment, self._bytes))
        if file is None:
            return []
        words = [os.path.join(self._bin, "pg_waldump"), *(["--rmgr=%s" % manager] if manager else []), file]
        # It ends with an error where the WAL ends; what it printed before is good.
        try:
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
        except FileNotFoundError:
            raise PgbackrestError(
                "%s does not exist, so the end of the WAL cannot be found" % words[0],
                "install the server package of the cluster's release on this host",
            ) from None
        with contextlib.suppress(OSError):
            os.unlink(file)
        return restore_path.records(done.stdout)

    def _tail(self, segments: Sequence[Segment], before: Optional[int] = None) -> Optional[Tail]:
        """The last record (before a position) and the last commit before it."""
        position: Optional[int] = None
        for segment in list(reversed(segments))[:QUIET_SEGMENTS]:
            records = [record for record in self._records(segment) if before is None or record.position < before]
            if records and position is None:
                position = records[-1].position
            commits = [record.committed_at for record in records if record.committed_at]
            if commits and position is not None:
                return Tail(position, max(commits))
        return Tail(position) if position is not None else None

    def _fork(self, wal: wal_archive.Archive, child: int, fork: Fork) -> Optional[Tail]:
        """What the parent had committed when it was left. The child's first segment begins with a copy of the parent's last."""
        for timeline in (fork.parent, child):
            here = Segment(timeline, (fork.position - 1) // self._bytes)
            if here in wal.segments:
                older = [segment for segment in _on(wal, fork.parent) if segment.number < here.number]
                return self._tail([*older, here], fork.position)
        return None

    def _points(
        self,
        wal: wal_archive.Archive,
        histories: Mapping[int, Sequence[Fork]],
        backups: Sequence[Backup],
        point: str,
        until: str,
    ) -> list[tuple[int, int]]:
        """Where the restore point is, from the newest segment back to the newest backup before it (or the one that was named)."""
        found: list[tuple[int, int]] = []
        floor = min((backup.start for backup in backups if not until or backup.label == until), default=0)
        newest_first = sorted(wal.segments, key=lambda segment: (segment.number, segment.timeline), reverse=True)
        for scanned, segment in enumerate(newest_first, 1):
            begin = segment.number * self._bytes
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
            legs = path(histories, segment.timeline)
            # A timeline's first segment begins with a copy of its parent's last.
            found += [
                (timeline_at(legs, record.position), record.position)
                for record in self._records(segment, "XLOG")
                if record.point == point
            ]
        return sorted(set(found), key=lambda entry: entry[1])


def _on(wal: wal_archive.Archive, timeline: int) -> list[Segment]:
    """The segments of a timeline, oldest first."""
    return sorted(segment for segment in wal.segments if segment.timeline == timeline)


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
