# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The verification of one repository: what it holds, compared with what it must hold, and its bytes with their checksums.

Reads only. What was read and found whole is kept by the caller, so that the next verification reads what is new and a share of the rest.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import stanza, wal_archive
from ansible_collections.relevo.dr.plugins.module_utils.backup_manifest import Manifest, Part, read_manifest
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.reading_plan import Read, Stored, to_read
from ansible_collections.relevo.dr.plugins.module_utils.repository_reader import RepositoryReader

BACKUP_INFO, ARCHIVE_INFO, COPY = "backup.info", "archive.info", ".copy"
# Files and directories of this age may belong to a backup that goes on or was just expired.
_SETTLE_SECONDS = 2.0


@dataclass(frozen=True)
class Memory:
    """What is known from earlier verifications of a repository. read: by object; manifests: by label, with the manifest's size and time."""

    last_run_at: float = 0.0
    read: Mapping[str, Read] = field(default_factory=dict)
    manifests: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class Wish:
    """within_seconds: every object is read again in that time. full: read everything now. workers: readers at once."""

    segment_bytes: int
    within_seconds: float
    full: bool = False
    workers: int = 2


@dataclass(frozen=True)
class Findings:
    """What one repository is like. missing, wrong: what is the matter, by object. Epoch seconds, bytes.

    forks: where the timelines left their parents. unverifiable: objects whose manifest has no checksum of stored bytes.
    """

    info: Mapping[str, Any]
    encrypted: bool
    information: Mapping[str, str]
    missing: Mapping[str, str]
    wrong: Mapping[str, str]
    wrong_segments: Mapping[str, str]
    damaged: Mapping[str, str]
    archive: wal_archive.Archive
    forks: Mapping[int, wal_archive.Fork]
    missing_histories: tuple[int, ...]
    objects: int
    bytes_stored: int
    objects_read: int
    bytes_read: int
    unverifiable: int
    memory: Memory


def verify(reader: RepositoryReader, wish: Wish, memory: Memory) -> Findings:
    """Look at everything, read what is due. PgbackrestError when the repository cannot be used at all."""
    name = reader.command.stanza
    info = reader.info()
    information, encrypted = _information(reader, name)
    seen = _seen(reader, name, info, memory)
    if seen.missing:
        # A backup that was expired between two of our questions is not a loss: what is missing is missing twice.
        time.sleep(_SETTLE_SECONDS)
        info = reader.info()
        seen = _seen(reader, name, info, memory)
    archive_id = _archive_id(info)
    inside = {path: about for path, about in seen.archive.items() if path.startswith(archive_id + "/")}
    archive = wal_archive.read_archive(inside, wish.segment_bytes)
    forks, missing_histories = _forks(reader, name, archive_id, archive)
    stored = {"backup/" + path: seen.backup[path] for path in seen.parts if path in seen.backup}
    stored.update({"archive/" + path: inside[path] for paths in archive.paths.values() for path in paths})
    now = time.time()
    due = tuple(sorted(stored)) if wish.full else to_read(stored, memory.read, now, memory.last_run_at or now, wish.within_seconds)
    problems = _read(reader, due, stored, seen.parts, wish.workers)
    read = {path: about for path, about in memory.read.items() if path in stored}
    for path in due:
        if path in problems:
            read.pop(path, None)
        else:
            read[path] = Read(stored[path].size, stored[path].changed_at, now)
    return Findings(
        info=info,
        encrypted=encrypted,
        information=information,
        missing=seen.missing,
        wrong={path: what for path, what in problems.items() if path.startswith("backup/")},
        wrong_segments={path: what for path, what in problems.items() if path.startswith("archive/")},
        damaged=seen.damaged,
        archive=archive,
        forks=forks,
        missing_histories=missing_histories,
        objects=len(stored),
        bytes_stored=sum(about.size for about in stored.values()),
        objects_read=len(due),
        bytes_read=sum(stored[path].size for path in due),
        unverifiable=sum(1 for path, parts in seen.parts.items() if not all(part.checksum for part in parts)),
        memory=Memory(now, read, seen.manifests),
    )


@dataclass(frozen=True)
class _Seen:
    backup: Mapping[str, Stored]
    archive: Mapping[str, Stored]
    parts: Mapping[str, tuple[Part, ...]]
    missing: Mapping[str, str]
    damaged: Mapping[str, str]
    manifests: Mapping[str, Mapping[str, Any]]


def _seen(reader: RepositoryReader, name: str, info: Mapping[str, Any], memory: Memory) -> _Seen:
    """Every object that a manifest names, beside what is listed."""
    backup, archive = reader.listing("backup/" + name), reader.listing("archive/" + name)
    parts: dict[str, tuple[Part, ...]] = {}
    missing: dict[str, str] = {}
    damaged: dict[str, str] = {}
    manifests: dict[str, Mapping[str, Any]] = {}
    for label in (entry["label"] for entry in stanza.backups(info)):
        if not any(path.startswith(label + "/") for path in backup):
            missing["backup/" + label] = "the whole directory of the backup is gone"
            continue
        for path in (label + "/backup.manifest", label + "/backup.manifest.copy"):
            if path not in backup:
                missing["backup/" + path] = "gone"
        try:
            manifest, kept = _manifest(reader, name, label, backup, memory)
        except (PgbackrestError, ValueError) as error:
            missing["backup/%s/backup.manifest" % label] = "unreadable: %s" % error
            continue
        manifests[label] = kept
        damaged.update({"%s of %s" % (file, label): pages for file, pages in manifest.damaged.items()})
        parts.update(manifest.objects)
        for path in (*manifest.objects, *manifest.references):
            if path not in backup:
                missing.setdefault("backup/" + path, "gone; backup %s needs it" % label)
    return _Seen(backup, archive, parts, missing, damaged, manifests)


def _manifest(
    reader: RepositoryReader, name: str, label: str, listed: Mapping[str, Stored], memory: Memory
) -> tuple[Manifest, Mapping[str, Any]]:
    """A manifest never changes once it is written, so it is read once."""
    path = label + "/backup.manifest"
    about = listed.get(path) or listed.get(path + COPY) or Stored(0, 0)
    known = memory.manifests.get(label)
    if known and (known["size"], known["changed_at"]) == (about.size, about.changed_at):
        objects = {place: tuple(Part(*part) for part in found) for place, found in known["objects"].items()}
        return Manifest(label, objects, frozenset(known["references"]), known["damaged"]), known
    text = reader.text("backup/%s/%s" % (name, path if path in listed else path + COPY))
    manifest = read_manifest(text)
    if path in listed and path + COPY in listed and reader.text("backup/%s/%s" % (name, path + COPY)) != text:
        raise ValueError("its two copies differ")
    kept = {
        "size": about.size,
        "changed_at": about.changed_at,
        "damaged": dict(manifest.damaged),
        "references": sorted(manifest.references),
        "objects": {
            place: [[part.file, part.offset, part.size, part.checksum] for part in found]
            for place, found in manifest.objects.items()
        },
    }
    return manifest, kept


def _information(reader: RepositoryReader, name: str) -> tuple[dict[str, str], bool]:
    """What is wrong with the two copies of the two files that lead to everything else, and whether they are encrypted."""
    problems = {}
    encrypted = True
    for place in ("backup/%s/%s" % (name, BACKUP_INFO), "archive/%s/%s" % (name, ARCHIVE_INFO)):
        texts = []
        for path in (place, place + COPY):
            try:
                texts.append(reader.text(path))
                encrypted = reader.is_encrypted(path) and encrypted
            except PgbackrestError as error:
                problems[path] = "gone" if "unable to open missing file" in error.output or not error.output.strip() else str(error)
        if len(texts) == 2 and texts[0] != texts[1]:
            problems[place] = "differs from its copy"
    return problems, encrypted


def _archive_id(info: Mapping[str, Any]) -> str:
    """The newest history id of the stanza: ``17-1``."""
    newest = max(info.get("db", []), key=lambda database: int(database["id"]), default=None)
    return "%s-%s" % (newest["version"], newest["id"]) if newest else ""


def _forks(
    reader: RepositoryReader, name: str, archive_id: str, archive: wal_archive.Archive
) -> tuple[dict[int, wal_archive.Fork], tuple[int, ...]]:
    forks: dict[int, wal_archive.Fork] = {}
    for timeline in sorted(archive.histories):
        ancestors = _history(reader, name, archive_id, timeline)
        if ancestors:
            forks[timeline] = ancestors[-1]
    without = {segment.timeline for segment in archive.segments} - set(archive.histories) - {1}
    return forks, tuple(sorted(without))


def _history(reader: RepositoryReader, name: str, archive_id: str, timeline: int) -> list[wal_archive.Fork]:
    try:
        return wal_archive.read_history(reader.text("archive/%s/%s/%08X.history" % (name, archive_id, timeline)))
    except PgbackrestError:
        return []


def _read(
    reader: RepositoryReader,
    due: tuple[str, ...],
    stored: Mapping[str, Stored],
    parts: Mapping[str, tuple[Part, ...]],
    workers: int,
) -> dict[str, str]:
    """What is wrong with the objects that are due, by object."""

    def problem(path: str) -> Optional[str]:
        try:
            if path.startswith("archive/"):
                segment, _, rest = path.rsplit("/", 1)[-1].partition("-")
                return reader.wrong_segment(segment, rest.split(".")[0])
            inside = path[len("backup/") :]
            return reader.wrong_part("backup/%s/%s" % (reader.command.stanza, inside), stored[path].size, parts[inside])
        except PgbackrestError as error:
            return "cannot be read: %s" % error

    with ThreadPoolExecutor(max_workers=workers) as pool:
        return {path: what for path, what in zip(due, pool.map(problem, due)) if what}
