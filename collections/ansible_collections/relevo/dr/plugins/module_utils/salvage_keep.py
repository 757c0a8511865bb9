# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep WAL that is nowhere else: copied, compressed, listed and sealed by a manifest of digests. Nothing in the data directory is changed."""

from __future__ import annotations

import contextlib
import glob
import gzip
import hashlib
import json
import os
import pwd
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import (
    host_files,
    parting,
    rebuild_plan,
    repositories,
    salvage,
    waldump,
)
from ansible_collections.relevo.dr.plugins.module_utils.handover_message import chain
from ansible_collections.relevo.dr.plugins.module_utils.parting import Parting
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import controldata, lsn_bytes, postmaster_pid
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import lsn_text
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import (
    DEFAULT_SEGMENT_BYTES,
    Segment,
    read_segment,
    segment_name,
)

SHOWN = 100


class SalvageError(Exception):
    """It could not be kept whole; the message is a sentence."""


@dataclass(frozen=True)
class Found:
    """A stopped server's own account of itself. timeline: its newest; parting: where it leaves the primary's line; unknown: why that cannot be told."""

    timeline: int
    parting: Optional[Parting]
    segment_bytes: int
    control: Mapping[str, str]
    unknown: str = ""

    @property
    def fork_lsn(self) -> Optional[str]:
        """From where on its WAL is nowhere else; None while it follows."""
        return lsn_text(self.parting.position) if self.parting and self.parting.position is not None else None

    @property
    def checkpoint_lsn(self) -> str:
        """How far it came at least."""
        return self.control.get("Latest checkpoint location") or "0/0"


def look(p: Mapping[str, Any]) -> Found:
    """Where the server leaves the primary's line. Raises SalvageError and PostgresqlError."""
    if postmaster_pid(p["data_directory"]) is not None:
        raise SalvageError("PostgreSQL runs in %s" % p["data_directory"])
    control = controldata(p["bin_directory"], p["data_directory"], p["owner"])
    segment_bytes = int(control.get("Bytes per WAL segment", DEFAULT_SEGMENT_BYTES))
    timeline = newest_timeline(p["data_directory"], int(control.get("Latest checkpoint's TimeLineID", "0")))
    theirs = parting.line(p["timeline"], p["history"], p["births"])
    ours = parting.of_host(p["data_directory"], timeline, segment_bytes, theirs)
    if ours is None:
        return Found(timeline, None, segment_bytes, control, "the history of timeline %d is not on this host" % timeline)
    left = (parting.part if parting.followed(control, p["data_directory"]) else parting.part_from_writer)(ours, theirs)
    said = (
        "this server wrote on timeline %d and the primary is on timeline %d: nothing tells where they part"
        % (timeline, theirs.timeline)
        if left is None
        else ""
    )
    return Found(timeline, left, segment_bytes, control, said)


def sealed(directory: str) -> dict[str, Any]:
    """The manifest of a sealed salvage, after every digest in it was compared. Raises SalvageError."""
    with open(os.path.join(directory, "manifest.json"), "rb") as source:
        content = source.read()
    manifest: dict[str, Any] = json.loads(content)
    for entry in manifest["files"]:
        path = os.path.join(directory, entry["stored"])
        if not os.path.exists(path) or digest_of(path) != entry["stored_sha256"]:
            raise SalvageError("%s is not as it was sealed" % path)
    return {**manifest, "digest": hashlib.sha256(content).hexdigest(), "directory": directory}


def digest_of(path: str) -> str:
    found = hashlib.sha256()
    with open(path, "rb") as source:
        for block in iter(lambda: source.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def store(name: str, content: bytes, directory: str) -> dict[str, Any]:
    """One compressed file, on disk when this returns."""
    stored = name + ".gz"
    path = os.path.join(directory, stored)
    with open(path, "wb") as target:
        os.fchmod(target.fileno(), 0o400)
        with gzip.GzipFile(filename="", mode="wb", fileobj=target, compresslevel=6, mtime=0) as packed:
            packed.write(content)
        target.flush()
        os.fsync(target.fileno())
    return {
        "name": name,
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "stored": stored,
        "stored_sha256": digest_of(path),
    }


def keep(p: Mapping[str, Any], found: Found) -> dict[str, Any]:
    """Make and seal this run's salvage. p: the options of the module wal_salvage. Raises SalvageError."""
    directory = os.path.join(p["directory"], p["run_id"])
    os.makedirs(p["directory"], mode=0o700, exist_ok=True)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    legs = found.parting.own if found.parting else ()
    names = os.listdir(wal(p))
    kept = (
        salvage.chosen(names, legs, found.segment_bytes, lsn_bytes(found.checkpoint_lsn))
        if legs
        else salvage.Kept([], sorted(name for name in names if name.endswith(".history")), {}, [])
    )
    with _staged(p) as place:
        fetched = _fetch(p, found, kept.missing, place)
        files = [store(name, _content(p, name, place), directory) for name in (*kept.segments, *fetched, *kept.histories)]
        read = {**kept.read, **{read_segment(name, found.segment_bytes).number: name for name in fetched}}
        references = _references(p, read, place)
        told = salvage.transactions(_dump(p, found, read, place) if legs else [])
    lines = "".join(json.dumps(one, sort_keys=True) + "\n" for one in told["committed"])
    files.append(store("transactions.jsonl", lines.encode(), directory))
    with open(os.path.join(p["data_directory"], "global", "pg_control"), "rb") as source:
        files.append(store("pg_control", source.read(), directory))
    manifest = {
        "run_id": p["run_id"],
        "host": p["host"],
        "system_identifier": found.control.get("Database system identifier"),
        "state": found.control.get("Database cluster state"),
        "timeline": found.timeline,
        "common_timeline": found.parting.timeline if found.parting else None,
        "fork_lsn": found.fork_lsn,
        "end_lsn": told["end_lsn"],
        "checkpoint_lsn": found.checkpoint_lsn,
        "unknown": found.unknown,
        "missing": [name for name in kept.missing if name not in fetched],
        "fetched": fetched,
        "committed": len(told["committed"]),
        "unfinished": told["unfinished"],
        "aborted": told["aborted"],
        "relations": salvage.by_relation(told["committed"], p["names"]),
        "transactions": told["committed"][:SHOWN],
        "references": sorted(references),
        "files": files,
    }
    manifest["complete"] = salvage.shortfall(manifest) is None
    host_files.write_atomically(
        os.path.join(directory, "manifest.json"), json.dumps(manifest, sort_keys=True, indent=1) + "\n", 0o400
    )
    sums = "".join("%s  %s\n" % (entry["stored_sha256"], entry["stored"]) for entry in files)
    sums += "%s  manifest.json\n" % digest_of(os.path.join(directory, "manifest.json"))
    host_files.write_atomically(os.path.join(directory, "SHA256SUMS"), sums, 0o400)
    return sealed(directory)


@contextlib.contextmanager
def _staged(p: Mapping[str, Any]) -> Iterator[str]:
    """A place for the cluster's owner, who reads the WAL, on the volume of what is kept."""
    place = tempfile.mkdtemp(prefix=".relevo-salvage-", dir=os.path.dirname(os.path.abspath(p["directory"])))
    account = pwd.getpwnam(p["owner"])
    os.chown(place, account.pw_uid, account.pw_gid)
    try:
        yield place
    finally:
        shutil.rmtree(place)


def _fetch(p: Mapping[str, Any], found: Found, missing: Sequence[str], place: str) -> list[str]:
    """Segments that this host's pg_wal has no more and a repository has: an old primary that was cut off archived to its own site's store.

    Of a timeline whose number the primary has as well nobody knows whose it is. The first that is nowhere ends it: there is a hole then.
    """
    if not (p["config"] and found.parting):
        return []
    theirs = {p["timeline"], *(int(entry["timeline"]) for entry in p["history"])} - {found.parting.timeline}
    fetched: list[str] = []
    for name in missing:
        if int(name[:8], 16) in theirs or not _got(p, name, place):
            break
        fetched.append(name)
    return fetched


def _got(p: Mapping[str, Any], name: str, place: str) -> bool:
    command = Pgbackrest(p["config"], p["stanza"], p["owner"], io_timeout=10, timeout=120)
    for repository in repositories.configured(p["config"]):
        if repositories.takes_connections(repository):
            got, _ = command.succeeds(
                "archive-get", "--no-archive-async", "--repo=%d" % repository.id, name, os.path.join(place, name)
            )
            if got:
                return True
    return False


def _content(p: Mapping[str, Any], name: str, place: str) -> bytes:
    with open(_path(p, name, place), "rb") as source:
        return source.read()


def _path(p: Mapping[str, Any], name: str, place: str) -> str:
    fetched = os.path.join(place, name)
    return fetched if os.path.exists(fetched) else os.path.join(wal(p), name)


def _references(p: Mapping[str, Any], read: Mapping[int, str], place: str) -> set[str]:
    found: set[str] = set()
    # A record may begin in one segment and end in the next.
    stream = b""
    for number in sorted(read) if p["prefix"] else ():
        stream = stream[-256:] + salvage.record_stream(_content(p, read[number], place))
        found |= salvage.references(stream, p["prefix"])
    return found


def _dump(p: Mapping[str, Any], found: Found, read: Mapping[int, str], place: str) -> list[str]:
    """What pg_waldump prints from the fork on. It reads files of one timeline's name, and asks not whose pages are in them."""
    view = os.path.join(place, "view")
    os.mkdir(view)
    for number, name in read.items():
        shown = segment_name(Segment(found.timeline, number), found.segment_bytes)
        os.symlink(_path(p, name, place), os.path.join(view, shown))
    done = waldump.behind(p, found.timeline, str(found.fork_lsn), p["timeout_seconds"], view)
    return str(done.stdout).splitlines()


def newest_timeline(data_directory: str, known: int) -> int:
    """A server that died right after its promotion has segments of a timeline that its control file does not know yet."""
    names = [
        os.path.basename(name)
        for name in glob.glob(os.path.join(data_directory, "pg_wal", "*"))
        if len(os.path.basename(name)) == 24
    ]
    return max([known, *(int(name[:8], 16) for name in names)])


def wal(p: Mapping[str, Any]) -> str:
    return os.path.join(p["data_directory"], "pg_wal")


def earlier(p: Mapping[str, Any], found: Found) -> Optional[dict[str, Any]]:
    """What this run, or a dead one before it, has sealed of these very data.

    Once a rewind was begun there is nothing left to seal again. Until then the host may have been opened and have written more: then it is sealed anew.
    """
    runs = chain(host_files.read_journal(1 << 20), p["run_id"])
    mark = rebuild_plan.standing(
        host_files.read_build(), runs, p["data_directory"], parting.followed(found.control, p["data_directory"])
    )
    for run_id in (*runs, str(mark.get("run_id"))) if mark else runs:
        directory = os.path.join(p["directory"], run_id)
        if os.path.exists(os.path.join(directory, "SHA256SUMS")):
            kept = sealed(directory)
            return kept if mark or covers(p, kept, found) else None
    return None


def covers(p: Mapping[str, Any], kept: Mapping[str, Any], found: Found) -> bool:
    """Whether nothing was written since: the same fork, no checkpoint behind what was sealed, and the segments of its end as they were."""
    end = kept["end_lsn"]
    if (kept["timeline"], kept["fork_lsn"]) != (found.timeline, found.fork_lsn) or not end:
        return False
    if lsn_bytes(found.checkpoint_lsn) > lsn_bytes(end):
        return False
    last = lsn_bytes(end) // found.segment_bytes
    names = {entry["name"]: entry["sha256"] for entry in kept["files"] if re.fullmatch("[0-9A-F]{24}", entry["name"])}
    ends = [name for name in names if read_segment(name, found.segment_bytes).number >= last]
    there = [name for name in ends if os.path.exists(os.path.join(wal(p), name))]
    return any(read_segment(name, found.segment_bytes).number == last for name in there) and all(
        digest_of(os.path.join(wal(p), name)) == names[name] for name in there
    )


def every_reference(directory: str) -> list[str]:
    """Of all that was ever sealed on this host."""
    found: set[str] = set()
    for path in glob.glob(os.path.join(directory, "*", "manifest.json")):
        with open(path, encoding="utf-8") as source:
            found.update(json.load(source).get("references", []))
    return sorted(found)
