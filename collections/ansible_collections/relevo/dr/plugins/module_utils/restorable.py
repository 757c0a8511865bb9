# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which backups of a verified repository restore, and how far each leads: to the end of the archive, or to the first segment that is not whole."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import stanza, wal_archive
from ansible_collections.relevo.dr.plugins.module_utils.backup_verification import Findings, segments_of
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import lsn_bytes
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import on_path, path
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import Segment


@dataclass(frozen=True)
class Stretch:
    """Restorable time. begins: epoch seconds. until: what it ends at; empty: it reaches the end of the archive."""

    begins: float
    until: str = ""


def usable_backups(findings: Findings, segment_bytes: int) -> list[Mapping[str, Any]]:
    """Backups that hold something, without page errors, of which nothing is missing or wrong, nor of the WAL that makes them consistent."""
    broken = {name.split("/")[1] for name in (*findings.missing, *findings.wrong) if name.startswith("backup/")}
    segments = _not_whole(findings, segment_bytes)
    current = stanza.current_backups(findings.info)
    return [
        backup
        for backup in stanza.backups(findings.info)
        if not backup.get("error")
        and backup["info"]["size"] > 0
        and not broken & {backup["label"], *(backup.get("reference") or ())}
        and (_own_wal(backup, segments, segment_bytes) if backup in current else _ends(backup, findings))
    ]


def stretches(findings: Findings, timeline: int, segment_bytes: int) -> tuple[Stretch, ...]:
    """What can be restored of the cluster that uses the stanza now, oldest first. timeline: the one in use; 0: the newest that has WAL."""
    timeline = timeline or max((segment.timeline for segment in findings.archive.segments), default=1)
    segments = sorted(_not_whole(findings, segment_bytes), key=lambda segment: (segment.number, segment.timeline))
    current = stanza.current_backups(findings.info)
    found: dict[str, float] = {}
    for backup in usable_backups(findings, segment_bytes):
        if backup in current:
            ended = float(backup["timestamp"]["stop"])
            until = _until(backup, findings, timeline, segments, segment_bytes)
            found[until] = min(ended, found.get(until, ended))
    return tuple(sorted((Stretch(begins, until) for until, begins in found.items()), key=lambda stretch: stretch.begins))


def _not_whole(findings: Findings, segment_bytes: int) -> set[Segment]:
    wrong = wal_archive.read_archive(findings.wrong_segments, segment_bytes)
    return {*findings.holes, *wal_archive.split(findings.archive), *wrong.segments}


def _own_wal(backup: Mapping[str, Any], segments: set[Segment], segment_bytes: int) -> bool:
    span = wal_archive.of_backup(backup, segment_bytes)
    return span is None or not any(span[0] <= segment <= span[1] for segment in segments)


def _ends(backup: Mapping[str, Any], findings: Findings) -> bool:
    """Of a backup from before a major upgrade only these were looked for."""
    place = stanza.archive_id(findings.info, int(backup["database"]["id"]))
    return not any("archive/%s/%s/%s" % (place, name[:16], name) in findings.missing for name in segments_of(backup))


def _until(backup: Mapping[str, Any], findings: Findings, timeline: int, segments: Sequence[Segment], segment_bytes: int) -> str:
    span = wal_archive.of_backup(backup, segment_bytes)
    if span is None:
        return "the end of backup %s, which was taken of a stopped server" % backup["label"]
    stop, end = span[1], ""
    legs = path(findings.histories, timeline)
    if not on_path(legs, stop.timeline, lsn_bytes(backup["lsn"]["stop"])):
        legs, end = path(findings.histories, stop.timeline), "the end of timeline %d" % stop.timeline
    for segment in segments:
        for leg in legs:
            # The segment in which a timeline was left is whole in its child only.
            ends_at = (segment.number + 1) * segment_bytes
            inside = ends_at > leg.begin and (leg.end is None or ends_at <= leg.end)
            if segment.timeline == leg.timeline and inside and segment.number > stop.number:
                return "segment %s" % wal_archive.segment_name(segment, segment_bytes)
    return end
