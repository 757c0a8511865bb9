# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A restored server until it is promoted: its mark, its parameters, and whether it is where it was to be.

It looks like a standby, and must never be taken for one: what it has to reach stands in its mark, and is judged from its own position and log.
"""

from __future__ import annotations

import contextlib
import os
import pwd
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import host_files
from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc
from ansible_collections.relevo.dr.plugins.module_utils.handover_message import chain
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import Psql
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.restore_ladder import Arrival, RungFailed, arrived
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import END, LSN, NAME, TIME
from ansible_collections.relevo.dr.plugins.module_utils.way_out import PROMOTED, REACHED

if TYPE_CHECKING:
    from ansible_collections.relevo.dr.plugins.module_utils.standby_build import Site

# Behind every other file of conf.d, so that it wins, and goes away as a whole.
SETTINGS_FILE = "conf.d/99-relevo-restore.conf"
_TARGETS = {TIME: "recovery_target_time", LSN: "recovery_target_lsn", NAME: "recovery_target_name"}

POSITION = """
select pg_is_in_recovery() as in_recovery, coalesce(pg_last_wal_replay_lsn()::text, '0/0') as replay_lsn,
       case when pg_is_in_recovery() then pg_get_wal_replay_pause_state() end as pause,
       (select count(*) from pg_stat_wal_receiver) as receivers, current_setting('primary_conninfo') as upstream,
       to_char(pg_last_xact_replay_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as last_replayed_at,
       (select setting::bigint from pg_settings where name = 'wal_segment_size') as segment_bytes,
       case when current_setting('logging_collector') = 'on' then pg_current_logfile('stderr') end as log_file
"""


class NotReached(Exception):
    """The restored server is not where it was to be; the message is a sentence."""


def unfinished() -> Optional[dict[str, Any]]:
    """The mark of a restore on this host that is not promoted."""
    mark = host_files.read_restore()
    return mark if mark and mark.get("state") != PROMOTED else None


def forget(config_directory: str) -> None:
    """Something else takes its place: no parameter of the restore may outlive it."""
    _remove(os.path.join(config_directory, SETTINGS_FILE))
    host_files.drop_restore()


def settle(session: Psql, run_id: str) -> Optional[dict[str, Any]]:
    """The restored server is the primary now: its mark says so, and what led it there goes out of its configuration.

    Returns the mark; None where nothing was restored, or long ago and not by this run or one that it goes on for.
    """
    mark = host_files.read_restore()
    # The outage clock runs: without a mark the journal is not read.
    if mark is None or (mark["state"] == PROMOTED and mark["run_id"] not in chain(host_files.read_journal(1 << 20), run_id)):
        return None
    _remove(mark["settings_file"])
    session.execute("select pg_reload_conf()")
    mark = {**mark, "state": PROMOTED}
    host_files.write_restore(mark)
    return mark


def _remove(path: str) -> None:
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
        host_files.sync_directory(os.path.dirname(path))


def same(goal: Mapping[str, Any], mark: Mapping[str, Any]) -> bool:
    """Whether what was begun is what is wanted now; which repository the files came from is no matter once they are whole."""
    return all(goal[name] == mark["goal"].get(name) for name in ("label", "target_timeline", "kind", "value", "system_identifier"))


def check_place(site: Site, held: bool, mark: Optional[Mapping[str, Any]], goal: Mapping[str, Any], host: str) -> None:
    """Raises Refusal unless nothing is lost by a restore here. held: whether the boot guard holds this host. mark: of an unfinished restore."""
    if site.fence is not None or held:
        raise _refusal(host, "a fence or the guard holds this host", "a host that is free", "ask relevo-guard check on this host")
    if not site.configuration:
        raise _refusal(host, "no postgresql.conf", "a configured host", "run playbooks/protect.yml")
    if site.running and site.in_recovery is False:
        raise _refusal(
            host, "PostgreSQL accepts writes here", "a standby, or nothing", "find out who made it a primary; nothing was touched"
        )
    if mark is not None:
        return
    if site.data == "partial":
        raise _refusal(host, "files that are of no cluster", "a standby, or nothing", "look at them and move them away")
    if site.data == "cluster" and site.system_identifier != goal["system_identifier"]:
        raise _refusal(
            host,
            "a cluster of system %s" % site.system_identifier,
            "system %s, as in the repository" % goal["system_identifier"],
            "is this the right host? Move it away if nobody needs it",
        )
    if site.running and site.in_recovery is None:
        raise _refusal(host, "PostgreSQL runs and does not answer", "a standby that answers, or none", "read its log on this host")
    if site.data == "cluster" and not site.running and not site.standby_signal:
        raise _refusal(
            host, "a stopped primary", "a standby, or nothing", "keep its data: they may be nowhere else; move them away"
        )


def settings(goal: Mapping[str, Any]) -> str:
    """The file of parameters: nothing streams in, nothing is archived, and recovery pauses where it is wanted, in words that can be read."""
    said = {
        "primary_conninfo": "",
        "primary_slot_name": "",
        "archive_command": "",
        "hot_standby": "on",
        "recovery_target_timeline": goal["target_timeline"],
        "lc_messages": "C",
        "log_destination": "stderr",
        "log_min_messages": "warning",
    }
    if goal["kind"] in _TARGETS:
        said.update({_TARGETS[goal["kind"]]: goal["value"], "recovery_target_action": "pause"})
    if goal["kind"] == LSN:
        # What begins at the LSN is not wanted any more: a position is read as "all that was written by then".
        said["recovery_target_inclusive"] = "off"
    lines = ["%s = '%s'" % (name, str(value).replace("'", "''")) for name, value in said.items()]
    return "\n".join(["# Relevo: a restored server that is not promoted. This file goes away with the promotion.", *lines, ""])


def write_settings(config_directory: str, goal: Mapping[str, Any], owner: str) -> str:
    """Put that file where PostgreSQL reads it; its path."""
    path, account = os.path.join(config_directory, SETTINGS_FILE), pwd.getpwnam(owner)
    host_files.write_atomically(path, settings(goal), 0o640)
    os.chown(path, account.pw_uid, account.pw_gid)
    return path


def reached(goal: Mapping[str, Any], position: Mapping[str, Any], log: str, more_archived: Optional[bool]) -> str:
    """What proves that it is exactly there. Raises NotReached.

    position: a row of POSITION. log: what the server wrote since it was started. more_archived: whether the archive holds the segment after that position.
    """
    if not position["in_recovery"]:
        raise NotReached("it is not in recovery any more")
    if position["receivers"] or position["upstream"]:
        raise NotReached("it streams from another server, which a restored one must not")
    if goal["kind"] != END and position["pause"] != "paused":
        raise NotReached("replayed to %s and still on the way to %s" % (position["replay_lsn"], goal["target"]))
    if goal["kind"] == END and more_archived is not False:
        said = "the archive holds more" if more_archived else "no repository says whether there is more"
        raise NotReached("replayed to %s; %s" % (position["replay_lsn"], said))
    last = position["last_replayed_at"]
    try:
        return arrived(
            goal["kind"],
            goal["value"],
            Arrival(log, position["replay_lsn"], parse_utc(last) if last else None),
            goal["end_lsn"],
            # Replay of a quiet end shows no commit: the position is the proof there.
            None,
        )
    except RungFailed as failed:
        raise NotReached(failed.observed) from None


def check_reached(mark: Mapping[str, Any]) -> None:
    """Raises NotReached for a server whose own mark does not say that it was seen at its goal."""
    if mark.get("state") not in (REACHED, PROMOTED):
        raise NotReached(
            "this server is a restore of run %s that has not reached %s (%s). Next: start the failover again, it goes on with it; nothing was promoted"
            % (mark.get("run_id"), mark["goal"]["target"], mark.get("state"))
        )


def server_log(mark: Mapping[str, Any], position: Mapping[str, Any]) -> str:
    """What the server wrote since it was started for this restore: to its collector's file, or where its start was told to write."""
    name = position.get("log_file")
    path = os.path.join(mark["data_directory"], str(name)) if name else str(mark["log"]["path"])
    offset = 0 if name else int(mark["log"]["offset"])
    try:
        with open(path, "rb") as source:
            # A file that was rotated meanwhile is read from its beginning.
            source.seek(offset if os.path.getsize(path) >= offset else 0)
            return source.read().decode(errors="replace")
    except OSError:
        return ""


def shown(mark: Mapping[str, Any]) -> dict[str, Any]:
    """For the record."""
    goal, took, size = mark["goal"], mark.get("restore_seconds"), mark.get("restored_bytes")
    return {
        "repository": goal["repository"],
        "set": goal["label"],
        "timeline": goal["timeline"],
        "target": goal["target"],
        "backup_stopped_at": goal["backup_stopped_at"],
        "bytes": size,
        "seconds": took,
        "bytes_per_second": round(size / took) if size and took and not mark.get("delta") else None,
        "delta": mark.get("delta"),
        "replay_seconds": mark.get("replay_seconds"),
        "replay_bytes": goal.get("replay_bytes"),
        "evidence": mark.get("evidence"),
        "salvage": mark.get("salvage"),
    }


def _refusal(host: str, observed: str, expected: str, next_action: str) -> Refusal:
    return Refusal("RESTORE", host, observed, expected, next_action)
