# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The verification of one repository: what it holds, compared with what it must hold, and its bytes with their checksums.

Reads only. What was read and found whole is kept by the caller, so that the next verification reads what is new and a share of the rest.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Optional, Union

from ansible_collections.relevo.dr.plugins.module_utils import stanza, wal_archive
from ansible_collections.relevo.dr.plugins.module_utils.backup_manifest import Manifest, Part, read_manifest
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.reading_plan import Read, Stored, to_read
from ansible_collections.relevo.dr.plugins.module_utils.repository_reader import RepositoryReader

BACKUP_INFO, ARCHIVE_INFO, COPY = "backup.info", "archive.info", ".copy"
MANIFEST = "backup.manifest"
# Backups expire, and segments that are archived side by side arrive out of their order: what is missing is missing in every look.
_LOOKS, _SETTLE_SECONDS = 3, 2.0
# So many objects in a row that the store did not give: it is the store that is the matter.
_SILENCES = 3


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

    archive: the WAL of the cluster that uses the stanza now. holes: segments of it that must be there and are not. histories: the ancestors of
    its timelines; broken_histories: timelines whose history file is gone or cannot be true. unverifiable: objects whose manifest has no checksum
    of stored bytes.
    """

    info: Mapping[str, Any]
    encrypted: bool
    information: Mapping[str, str]
    missing: Mapping[str, str]
    wrong: Mapping[str, str]
    wrong_segments: Mapping[str, str]
    damaged: Mapping[str, str]
    archive: wal_archive.Archive
    holes: tuple[wal_archive.Segment, ...]
    histories: Mapping[int, Sequence[wal_archive.Fork]]
    broken_histories: tuple[int, ...]
    objects: int
    bytes_stored: int
    objects_read: int
    bytes_read: int
    unverifiable: int
    memory: Memory


def verify(reader: RepositoryReader, wish: Wish, memory: Memory) -> Findings:
    """Look at everything, read what is due. PgbackrestError when the repository cannot be used at all."""
    look = _look(reader, wish, {} if wish.full else memory.manifests)
    known = {path: about for path, about in memory.read.items() if path not in look.reopened}
    stored, now = look.stored, time.time()
    due = tuple(sorted(stored)) if wish.full else to_read(stored, known, now, memory.last_run_at or now, wish.within_seconds)
    problems = _read(reader, due, look, wish.workers)
    if problems:
        # What expired while it was read is no loss, and what the store did not give is asked for once more.
        look = _look(reader, wish, look.manifests)
        problems = {path: what for path, what in problems.items() if path in look.stored}
        again = [path for path, what in problems.items() if isinstance(what, PgbackrestError)]
        problems = {path: what for path, what in problems.items() if not isinstance(what, PgbackrestError)}
        problems.update(_read(reader, again, look, wish.workers))
        for what in problems.values():
            if isinstance(what, PgbackrestError) and what.of_store:
                raise what
    said = {path: "cannot be read: %s" % what if isinstance(what, PgbackrestError) else what for path, what in problems.items()}
    read = {path: about for path, about in known.items() if path in look.stored}
    for path in due:
        if path in said:
            read.pop(path, None)
        elif path in look.stored:
            read[path] = Read(stored[path].size, stored[path].changed_at, now)
    return Findings(
        info=look.info,
        encrypted=look.encrypted,
        information=look.information,
        missing=look.missing,
        wrong={path: what for path, what in said.items() if path.startswith("backup/")},
        wrong_segments={path: what for path, what in said.items() if path.startswith("archive/")},
        damaged=look.damaged,
        archive=look.archive,
        holes=look.holes,
        histories=look.histories,
        broken_histories=look.broken_histories,
        objects=len(look.stored),
        bytes_stored=sum(about.size for about in look.stored.values()),
        objects_read=len(due),
        bytes_read=sum(stored[path].size for path in due),
        unverifiable=sum(1 for parts in look.parts.values() if not all(part.checksum for part in parts)),
        memory=Memory(now, read, look.manifests),
    )


@dataclass(frozen=True)
class _Look:
    """One look at everything that is listed. parts: of the objects of backups. reopened: manifests that were not known yet."""

    info: Mapping[str, Any]
    encrypted: bool
    information: Mapping[str, str]
    stored: Mapping[str, Stored]
    parts: Mapping[str, tuple[Part, ...]]
    missing: Mapping[str, str]
    damaged: Mapping[str, str]
    manifests: Mapping[str, Mapping[str, Any]]
    reopened: frozenset[str]
    archive: wal_archive.Archive
    holes: tuple[wal_archive.Segment, ...]
    histories: Mapping[int, Sequence[wal_archive.Fork]]
    broken_histories: tuple[int, ...]

    @property
    def whole(self) -> bool:
        return not (self.information or self.missing or self.holes or self.broken_histories)


def _look(reader: RepositoryReader, wish: Wish, manifests: Mapping[str, Mapping[str, Any]]) -> _Look:
    """What is listed; what is wrong with it was so in every look."""
    look = _glance(reader, wish, manifests)
    for _ in range(_LOOKS - 1):
        if look.whole:
            break
        time.sleep(_SETTLE_SECONDS)
        again = _glance(reader, wish, look.manifests)
        look = replace(
            again,
            information={path: what for path, what in again.information.items() if path in look.information},
            missing={path: what for path, what in again.missing.items() if path in look.missing},
            holes=tuple(segment for segment in again.holes if segment in look.holes),
            broken_histories=tuple(timeline for timeline in again.broken_histories if timeline in look.broken_histories),
            reopened=again.reopened | look.reopened,
        )
    return look


def _glance(reader: RepositoryReader, wish: Wish, known: Mapping[str, Mapping[str, Any]]) -> _Look:
    """Every object that a manifest names and every segment that a backup needs, beside what is listed."""
    name = reader.command.stanza
    info = reader.info()
    information, encrypted = _information(reader, name)
    backup, archived = reader.listing("backup/" + name), reader.listing("archive/" + name)
    parts: dict[str, tuple[Part, ...]] = {}
    missing: dict[str, str] = {}
    damaged: dict[str, str] = {}
    manifests: dict[str, Mapping[str, Any]] = {}
    stored: dict[str, Stored] = {}
    reopened: set[str] = set()
    for label in (entry["label"] for entry in stanza.backups(info)):
        if not any(path.startswith(label + "/") for path in backup):
            missing["backup/" + label] = "the whole directory of the backup is gone"
            continue
        copies = ("%s/%s" % (label, MANIFEST), "%s/%s" % (label, MANIFEST + COPY))
        missing.update({"backup/" + path: "gone" for path in copies if path not in backup})
        try:
            manifest, kept = _manifest(reader, name, label, backup, known.get(label))
        except (PgbackrestError, ValueError) as error:
            _raise_when_of_store(error)
            missing["backup/" + copies[0]] = "unreadable: %s" % error
            continue
        if kept is not known.get(label):
            reopened.update("backup/" + path for path in copies)
        stored.update({"backup/" + path: backup[path] for path in copies if path in backup})
        manifests[label] = kept
        damaged.update({"%s of %s" % (file, label): pages for file, pages in manifest.damaged.items()})
        parts.update(manifest.objects)
        for path in (*manifest.objects, *manifest.references):
            if path not in backup:
                missing.setdefault("backup/" + path, "gone; backup %s needs it" % label)
    stored.update({"backup/" + path: backup[path] for path in parts if path in backup})
    current = stanza.archive_id(info)
    inside = {path: about for path, about in archived.items() if path.startswith(current + "/")}
    archive = wal_archive.read_archive(inside, wish.segment_bytes)
    stored.update({"archive/" + path: inside[path] for paths in archive.paths.values() for path in paths})
    missing.update(_missing_of_older_clusters(info, archived))
    histories, broken = _histories(reader, "archive/%s/%s" % (name, current), archive)
    needed = (wal_archive.of_backup(entry, wish.segment_bytes) for entry in stanza.current_backups(info))
    forks = {timeline: ancestors[-1] for timeline, ancestors in histories.items()}
    holes = wal_archive.missing(archive, [span for span in needed if span], forks, wish.segment_bytes)
    return _Look(
        info,
        encrypted,
        information,
        stored,
        parts,
        missing,
        damaged,
        manifests,
        frozenset(reopened),
        archive,
        tuple(holes),
        histories,
        broken,
    )


def _missing_of_older_clusters(info: Mapping[str, Any], archived: Iterable[str]) -> dict[str, str]:
    """Of the WAL from before a major upgrade only the ends of each backup are looked for: its segments may have been of another size."""
    current = stanza.current_backups(info)
    there = {path.rsplit("-", 1)[0] for path in archived}
    missing = {}
    for backup in stanza.backups(info):
        if backup in current:
            continue
        for name in segments_of(backup):
            place = "%s/%s/%s" % (stanza.archive_id(info, int(backup["database"]["id"])), name[:16], name)
            if place not in there:
                missing["archive/" + place] = "gone; backup %s needs it" % backup["label"]
    return missing


def segments_of(backup: Mapping[str, Any]) -> list[str]:
    """The names of the first and the last segment that a backup needs."""
    archive = backup.get("archive") or {}
    return [str(archive[end]) for end in ("start", "stop") if archive.get(end)]


def _manifest(
    reader: RepositoryReader, name: str, label: str, listed: Mapping[str, Stored], known: Optional[Mapping[str, Any]]
) -> tuple[Manifest, Mapping[str, Any]]:
    """A manifest never changes once it is written, so what it says is kept; its bytes are read again as those of any other object."""
    path = "%s/%s" % (label, MANIFEST)
    about = listed.get(path) or listed.get(path + COPY) or Stored(0, 0)
    if known and (known["size"], known["changed_at"]) == (about.size, about.changed_at) and "digest" in known:
        objects = {place: tuple(Part(*part) for part in found) for place, found in known["objects"].items()}
        return Manifest(label, objects, frozenset(known["references"]), known["damaged"]), known
    text = reader.text("backup/%s/%s" % (name, path if path in listed else path + COPY))
    manifest = read_manifest(text)
    kept = {
        "size": about.size,
        "changed_at": about.changed_at,
        "digest": _digest(text),
        "damaged": dict(manifest.damaged),
        "references": sorted(manifest.references),
        "objects": {
            place: [[part.file, part.offset, part.size, part.checksum] for part in found]
            for place, found in manifest.objects.items()
        },
    }
    return manifest, kept


def _digest(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


def _raise_when_of_store(error: Exception) -> None:
    if isinstance(error, PgbackrestError) and error.of_store:
        raise error


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
                _raise_when_of_store(error)
                problems[path] = "gone" if "unable to open missing file" in error.output or not error.output.strip() else str(error)
        if len(texts) == 2 and texts[0] != texts[1]:
            problems[place] = "differs from its copy"
    return problems, encrypted


def _histories(
    reader: RepositoryReader, place: str, archive: wal_archive.Archive
) -> tuple[dict[int, Sequence[wal_archive.Fork]], tuple[int, ...]]:
    """The ancestors of each timeline, oldest first, and the timelines whose history file is gone or cannot be true."""
    histories: dict[int, Sequence[wal_archive.Fork]] = {}
    broken = {segment.timeline for segment in archive.segments} - set(archive.histories) - {1}
    for timeline in sorted(archive.histories):
        try:
            text = reader.text("%s/%08X.history" % (place, timeline))
        except PgbackrestError as error:
            _raise_when_of_store(error)
            text = ""
        if wal_archive.is_whole(text, timeline, histories):
            histories[timeline] = wal_archive.read_history(text)
        else:
            broken.add(timeline)
    return histories, tuple(sorted(broken))


def _read(reader: RepositoryReader, due: Sequence[str], look: _Look, workers: int) -> dict[str, Union[str, PgbackrestError]]:
    """What is wrong with the objects that are due, by object. PgbackrestError when the store gives one after another not."""
    silences: list[PgbackrestError] = []

    def problem(path: str) -> Union[str, PgbackrestError]:
        before = tuple(silences)
        if len(before) >= _SILENCES:
            return before[-1]
        try:
            found = _wrong(reader, path, look)
        except PgbackrestError as error:
            if error.of_store:
                silences.append(error)
            else:
                silences.clear()
            return error
        silences.clear()
        return found

    with ThreadPoolExecutor(max_workers=workers) as pool:
        problems = {path: what for path, what in zip(due, pool.map(problem, due)) if what}
    if len(silences) >= _SILENCES:
        raise silences[-1]
    return problems


def _wrong(reader: RepositoryReader, path: str, look: _Look) -> str:
    """What is wrong with one object, or an empty text. PgbackrestError when it cannot be read."""
    if path.startswith("archive/"):
        segment, _, rest = path.rsplit("/", 1)[-1].partition("-")
        return reader.wrong_segment(segment, rest.split(".")[0])
    inside = path[len("backup/") :]
    place = "backup/%s/%s" % (reader.command.stanza, inside)
    if inside in look.parts:
        return reader.wrong_part(place, look.stored[path].size, look.parts[inside])
    kept = look.manifests[inside.split("/")[0]]
    return "" if _digest(reader.text(place)) == kept["digest"] else "not what the other copy says, or said when it was first read"
