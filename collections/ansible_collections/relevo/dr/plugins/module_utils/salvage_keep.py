# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep WAL that is nowhere else: copied, compressed, listed and sealed by a manifest of digests. Nothing in the data directory is changed."""

from __future__ import annotations

import glob
import gzip
import hashlib
import json
import os
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import host_files, salvage, waldump
from ansible_collections.relevo.dr.plugins.module_utils.handover_message import chain
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import controldata, postmaster_pid

SHOWN = 100


class SalvageError(Exception):
    """It could not be kept whole; the message is a sentence."""


def fork_of(history: list[dict[str, Any]], timeline: int) -> Optional[str]:
    """Where the new primary's lineage left this timeline; None when it never did."""
    return next((str(entry["lsn"]) for entry in history if int(entry["timeline"]) == timeline), None)


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


def dump(p: dict[str, Any], timeline: int, fork: str) -> list[str]:
    """What pg_waldump prints from the fork on."""
    done = waldump.behind(p, timeline, fork, p["timeout_seconds"])
    return str(done.stdout).splitlines()


def keep(p: dict[str, Any]) -> dict[str, Any]:
    """Make and seal this run's salvage. p: the options of the module wal_salvage. Raises SalvageError."""
    if postmaster_pid(p["data_directory"]) is not None:
        raise SalvageError("PostgreSQL runs in %s" % p["data_directory"])
    control = controldata(p["bin_directory"], p["data_directory"], p["owner"])
    segment_bytes = int(control.get("Bytes per WAL segment", "16777216"))
    timeline = newest_timeline(p["data_directory"], int(control.get("Latest checkpoint's TimeLineID", "0")))
    fork = fork_of(p["history"], timeline)
    directory = os.path.join(p["directory"], p["run_id"])
    os.makedirs(p["directory"], mode=0o700, exist_ok=True)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    names, missing = salvage.chosen(os.listdir(wal(p)), timeline, fork, segment_bytes) if fork else ([], [])
    found: set[str] = set()
    files = []
    # A record may begin in one segment and end in the next.
    stream = b""
    for name in names:
        with open(os.path.join(wal(p), name), "rb") as source:
            content = source.read()
        files.append(store(name, content, directory))
        if p["prefix"] and not name.endswith(".history"):
            stream = stream[-256:] + salvage.record_stream(content)
            found |= salvage.references(stream, p["prefix"])
    told = salvage.transactions(dump(p, timeline, fork)) if fork else salvage.transactions([])
    lines = "".join(json.dumps(one, sort_keys=True) + "\n" for one in told["committed"])
    files.append(store("transactions.jsonl", lines.encode(), directory))
    with open(os.path.join(p["data_directory"], "global", "pg_control"), "rb") as source:
        files.append(store("pg_control", source.read(), directory))
    manifest = {
        "run_id": p["run_id"],
        "host": p["host"],
        "system_identifier": control.get("Database system identifier"),
        "timeline": timeline,
        "fork_lsn": fork,
        "end_lsn": told["end_lsn"],
        "complete": not missing,
        "missing": missing,
        "committed": len(told["committed"]),
        "unfinished": told["unfinished"],
        "aborted": told["aborted"],
        "relations": salvage.by_relation(told["committed"], p["names"]),
        "transactions": told["committed"][:SHOWN],
        "references": sorted(found),
        "files": files,
    }
    host_files.write_atomically(
        os.path.join(directory, "manifest.json"), json.dumps(manifest, sort_keys=True, indent=1) + "\n", 0o400
    )
    sums = "".join("%s  %s\n" % (entry["stored_sha256"], entry["stored"]) for entry in files)
    sums += "%s  manifest.json\n" % digest_of(os.path.join(directory, "manifest.json"))
    host_files.write_atomically(os.path.join(directory, "SHA256SUMS"), sums, 0o400)
    return sealed(directory)


def newest_timeline(data_directory: str, known: int) -> int:
    """A server that died right after its promotion has segments of a timeline that its control file does not know yet."""
    names = [
        os.path.basename(name)
        for name in glob.glob(os.path.join(data_directory, "pg_wal", "*"))
        if len(os.path.basename(name)) == 24
    ]
    return max([known, *(int(name[:8], 16) for name in names)])


def wal(p: dict[str, Any]) -> str:
    return os.path.join(p["data_directory"], "pg_wal")


def earlier(p: dict[str, Any]) -> Optional[dict[str, Any]]:
    """What this run, or a dead one before it, has sealed: after a rewind there is nothing left to seal again."""
    for run_id in chain(host_files.read_journal(1 << 20), p["run_id"]):
        directory = os.path.join(p["directory"], run_id)
        if os.path.exists(os.path.join(directory, "SHA256SUMS")):
            return sealed(directory)
    return None


def every_reference(directory: str) -> list[str]:
    """Of all that was ever sealed on this host."""
    found: set[str] = set()
    for path in glob.glob(os.path.join(directory, "*", "manifest.json")):
        with open(path, encoding="utf-8") as source:
            found.update(json.load(source).get("references", []))
    return sorted(found)
