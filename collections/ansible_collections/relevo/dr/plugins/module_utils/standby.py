# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Drain and promote a standby, on its own host."""

from __future__ import annotations

import contextlib
import glob
import os
import pwd
import shutil
import signal
import tempfile
import time
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import repositories
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import Pgbackrest
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import Psql, lsn_bytes

_POSITION = """
select pg_is_in_recovery() as in_recovery, pg_last_wal_receive_lsn()::text as receive_lsn, pg_last_wal_replay_lsn()::text as replay_lsn,
       case when pg_is_in_recovery() then pg_is_wal_replay_paused() end as paused, (select pid from pg_stat_wal_receiver) as receiver_pid,
       to_char(pg_last_xact_replay_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as last_replayed_at
"""


class DrainError(Exception):
    """Replay did not come to its end; the message is a sentence."""


@dataclass(frozen=True)
class Archive:
    """Where the standby's tail may be: a pgBackRest stanza. segment_bytes: size of a WAL segment."""

    config: str
    stanza: str
    segment_bytes: int
    timeline: int
    timeout_seconds: float


def segment_name(timeline: int, lsn: str, segment_bytes: int) -> str:
    """The WAL segment that holds a location."""
    number = lsn_bytes(lsn) // segment_bytes
    per_log = 0x100000000 // segment_bytes
    return "%08X%08X%08X" % (timeline, number // per_log, number % per_log)


def archived(archive: Archive, lsn: str, owner: str = "postgres") -> Optional[bool]:
    """Whether a repository holds the segment that comes next; None when none of them answered in time."""
    segment = segment_name(archive.timeline, lsn, archive.segment_bytes)
    answers = repositories.ask_each(repositories.configured(archive.config), lambda place: _holds(archive, place, segment, owner))
    if True in answers.values():
        return True
    return False if False in answers.values() else None


def _holds(archive: Archive, place: repositories.Place, segment: str, owner: str) -> Optional[bool]:
    if not repositories.takes_connections(place):
        return None
    directory = tempfile.mkdtemp(prefix="relevo-archive-", dir="/var/tmp")
    account = pwd.getpwnam(owner)
    os.chown(directory, account.pw_uid, account.pw_gid)
    command = Pgbackrest(
        archive.config, archive.stanza, owner, io_timeout=archive.timeout_seconds, timeout=archive.timeout_seconds * 2
    )
    options = ["--no-archive-async", "--repo=%d" % place.id]
    try:
        found, said = command.succeeds("archive-get", *options, segment, os.path.join(directory, "segment"))
    finally:
        shutil.rmtree(directory)
    if found:
        return True
    # pgBackRest says nothing, or that it found nothing; any other word is a repository that did not answer.
    return False if not said or "unable to find" in said else None


def drain(
    session: Psql,
    archive: Optional[Archive],
    replay_target_lsn: Optional[str],
    timeout_seconds: float,
    settle_seconds: float = 8.0,
) -> dict[str, Any]:
    """Wait until everything received and everything archived is replayed. Raises DrainError when replay is paused or stuck.

    Returns the position, ``replayed_bytes`` (by this drain), ``archive_replayed`` (True, or None when the archive could not be asked) and
    ``target_replayed``: False when what is missing does not come from the archive either, and replay has stood still for ``settle_seconds``.
    """
    deadline = time.monotonic() + timeout_seconds
    asked_at: Optional[str] = None
    stands_since, stands_at = time.monotonic(), ""
    answer: Optional[bool] = None
    began: Optional[int] = None
    while True:
        position = session.row(_POSITION)
        if not position["in_recovery"]:
            return {**position, "archive_replayed": None, "target_replayed": None}
        if position["paused"]:
            raise DrainError(
                "replay is paused; expected it to run; run select pg_wal_replay_resume() on the standby and start again"
            )
        replayed = lsn_bytes(position["replay_lsn"])
        began = replayed if began is None else began
        position["replayed_bytes"] = replayed - began
        behind = position["receive_lsn"] is not None and replayed < lsn_bytes(position["receive_lsn"])
        # Behind the old primary's own shutdown there is nothing, so the archive need not be asked on the outage clock.
        beyond = replay_target_lsn is not None and replayed > lsn_bytes(replay_target_lsn)
        asked = archive is None or asked_at == position["replay_lsn"]
        if not behind and (beyond or (replay_target_lsn is None and asked and not answer)):
            known = beyond or answer is not None
            return {**position, "archive_replayed": True if known else None, "target_replayed": True if beyond else None}
        if not behind and archive is not None and not asked:
            asked_at, answer = position["replay_lsn"], archived(archive, position["replay_lsn"])
            if answer and position["receiver_pid"]:
                # A receiver that waits for a dead sender keeps the startup process away from the archive.
                session.execute("select pg_terminate_backend(%d)" % position["receiver_pid"])
                _wake(position["receiver_pid"])
            continue
        if position["replay_lsn"] != stands_at:
            stands_since, stands_at = time.monotonic(), position["replay_lsn"]
        # The old primary is fenced by now: a receiver that is still there waits for nobody.
        settled = not behind and answer is False and time.monotonic() - stands_since > settle_seconds
        if settled or time.monotonic() > deadline:
            if behind or answer:
                raise DrainError(
                    "replay stands at %s after %g s; expected everything received (%s) and archived to be replayed"
                    % (position["replay_lsn"], timeout_seconds, position["receive_lsn"])
                )
            return {**position, "archive_replayed": answer is False or None, "target_replayed": False}
        time.sleep(0.005)


def _wake(pid: int) -> None:
    """A process that stands still takes no signal but this one."""
    with contextlib.suppress(OSError):
        os.kill(pid, signal.SIGCONT)


def promote(session: Psql, timeout_seconds: float) -> None:
    """Ask for promotion and wait until the server is writable, polling by ourselves (pg_promote waits in steps of 100 ms)."""
    session.execute("select pg_promote(wait => false)")
    deadline = time.monotonic() + timeout_seconds
    while session.execute("select pg_is_in_recovery()") != "f":
        if time.monotonic() > deadline:
            raise DrainError(
                "the standby was told to promote %g s ago and is still in recovery; look at its server log" % timeout_seconds
            )
        time.sleep(0.003)


def fork(data_directory: str) -> dict[str, Any]:
    """The newest timeline of this server, its ancestors, and the location at which it left its parent."""
    names = sorted(glob.glob(os.path.join(data_directory, "pg_wal", "*.history")))
    if not names:
        return {"timeline": 1, "parent": None, "fork_lsn": None, "history": []}
    with open(names[-1], encoding="utf-8") as source:
        lines = [line.split() for line in source if line.strip() and not line.startswith("#")]
    history = [{"timeline": int(words[0]), "lsn": words[1]} for words in lines]
    parent = history[-1] if history else {"timeline": None, "lsn": None}
    newest = int(os.path.basename(names[-1])[:8], 16)
    return {"timeline": newest, "parent": parent["timeline"], "fork_lsn": parent["lsn"], "history": history}
