# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The end-to-end proof of an archive: a marker that was written into the WAL is read back from every repository."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import tempfile
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest, explained
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql

_ARCHIVER = """
select coalesce(last_failed_time > last_archived_time, last_failed_time is not null) as failing, last_failed_wal,
       current_setting('archive_command') as command
from pg_stat_archiver
"""


@dataclass(frozen=True)
class Archive:
    """A stanza, the numbers of its repositories, and the primary that archives into it."""

    config: str
    stanza: str
    repositories: tuple[int, ...]
    bin_directory: str
    port: int = 5432
    owner: str = "postgres"


@dataclass(frozen=True)
class Proof:
    """missing: why the segment could not be read back, by place; empty is the proof. said: what the archiver says when it could not.

    read_back: numbers of the repositories that gave it back.
    switched_at: everything that was committed before this moment is in this segment or in earlier ones; empty when it never came to that.
    """

    segment: str
    seconds: float
    limit_seconds: float
    at: str
    switched_at: str = ""
    missing: Mapping[str, str] = field(default_factory=dict)
    said: str = ""
    read_back: tuple[int, ...] = ()

    @property
    def proven(self) -> bool:
        """Whether every repository gave the segment back."""
        return not self.missing


def prove(archive: Archive, limit_seconds: float) -> Proof:
    """Write the marker, switch the segment, and wait until it can be read back or the time is over."""
    marker = "relevo-archive-probe-%s" % uuid.uuid4().hex
    segment = switched_at = ""
    read_back: tuple[int, ...] = ()
    started = time.monotonic()
    try:
        with Psql(archive.bin_directory, archive.port, "postgres", archive.owner) as session:
            # Twice, for a page header may cut one in two.
            lsn = [session.execute("select pg_logical_emit_message(true, 'relevo', '%s')" % marker) for _ in range(2)][-1]
            segment = session.row("select pg_walfile_name('%s') as name" % lsn)["name"]
            switched_at = clock.utc_now()
            session.execute("select pg_switch_wal()")
            started = time.monotonic()
            missing = _read_back(archive, segment, marker.encode(), started + limit_seconds)
            reasons = {"repository %d" % key: reason for key, reason in missing.items()}
            read_back = tuple(key for key in archive.repositories if key not in missing)
            seconds = round(time.monotonic() - started, 3)
            said = _archiver(session.row(_ARCHIVER)) if missing else ""
    except PostgresqlError as error:
        seconds, reasons, said = round(time.monotonic() - started, 3), {"PostgreSQL": str(error)}, ""
    return Proof(segment, seconds, limit_seconds, clock.utc_now(), switched_at, reasons, said, read_back)


def gate(proof: Optional[Proof], host: str) -> dict[str, Any]:
    """G03. No proof was tried: unknown."""
    result = {
        "id": "G03",
        "title": "End-to-end archive probe",
        "phase": "PREFLIGHT",
        "host": host,
        "expected": "the segment with a marker written now, read back from every repository",
        "next_action": "",
    }
    if proof is None:
        return {**result, "observed": "not tried", "verdict": "unknown", "next_action": "run playbooks/protect.yml without --check"}
    if proof.proven:
        return {
            **result,
            "observed": "segment %s after %.1f s, at %s" % (proof.segment, proof.seconds, proof.at),
            "verdict": "pass",
        }
    reasons = "; ".join("%s: %s" % place for place in proof.missing.items())
    observed = "segment %s not read back within %g s (%s)%s" % (proof.segment or "?", proof.limit_seconds, reasons, proof.said)
    next_action = "read the server's log on this host for what archive_command said, then run again"
    return {**result, "observed": observed, "verdict": "fail", "next_action": next_action}


def without(judged: Mapping[str, Any], unused: Sequence[int]) -> dict[str, Any]:
    """G03 where repositories are not in use on the primary: what it writes is proven for the others alone."""
    if not unused:
        return dict(judged)
    named = "repository %s is not in use on the primary: nothing is archived there" % ", ".join(map(str, unused))
    return {
        **judged,
        "observed": "%s; %s" % (judged["observed"], named),
        "verdict": "fail",
        "next_action": judged["next_action"]
        or "once its store is back, run playbooks/protect.yml: it takes a new full backup there",
    }


def _read_back(archive: Archive, segment: str, marker: bytes, deadline: float) -> dict[int, str]:
    missing = dict.fromkeys(archive.repositories, "not tried")
    with _directory_of(archive.owner) as directory:
        while missing and time.monotonic() < deadline:
            for key in list(missing):
                missing[key] = _get(archive, key, segment, os.path.join(directory, "segment"), marker, deadline)
                if not missing[key]:
                    del missing[key]
            if missing:
                time.sleep(0.3)
    return missing


@contextlib.contextmanager
def _directory_of(owner: str) -> Iterator[str]:
    """A private directory that the cluster's owner may write to."""
    account = pwd.getpwnam(owner)
    directory = tempfile.mkdtemp(prefix="relevo-archive-probe-", dir="/var/tmp")
    try:
        os.chown(directory, account.pw_uid, account.pw_gid)
        yield directory
    finally:
        shutil.rmtree(directory)


def _get(archive: Archive, key: int, segment: str, target: str, marker: bytes, deadline: float) -> str:
    """Why the segment is not there, or an empty text."""
    left = max(1.0, min(15.0, deadline - time.monotonic()))
    command = Pgbackrest(archive.config, archive.stanza, archive.owner, io_timeout=3, timeout=left)
    # Not asynchronously: that would fill the spool with segments nobody asked for.
    got, said = command.succeeds("archive-get", "--no-archive-async", "--repo=%d" % key, segment, target)
    if not got:
        return "not in the archive" if "unable to find" in said or not said else explained(said).observed
    with open(target, "rb") as source:
        found = marker in source.read()
    os.unlink(target)
    return "" if found else "another segment of the same name is in the archive"


def _archiver(row: Mapping[str, Any]) -> str:
    if row["failing"]:
        return "; archive_command fails, last for %s" % row["last_failed_wal"]
    return "; archive_command is %s and does not fail" % (row["command"] or "empty")
