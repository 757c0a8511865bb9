# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a database host says about itself. Reads only."""

from __future__ import annotations

import glob
import json
import os
import platform
import subprocess
import tempfile
import time
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files, parting, repositories
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import (
    PostgresqlError,
    Psql,
    controldata,
    postmaster_pid,
)
from ansible_collections.relevo.dr.plugins.module_utils.server_limits import server_limits
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import DEFAULT_SEGMENT_BYTES

# Promoting beside one of these would start a fight over who is primary.
HA_MANAGERS = ("patroni", "repmgrd", "pg_autoctl", "stolon-keeper", "stolon-sentinel", "edb-efm", "pacemakerd", "pg_auto_failover")

# A watch of the guard that has not written its state for that long is dead, or as good as.
GUARD_ALIVE_SECONDS = 5.0

SETTINGS = (
    "archive_mode",
    "archive_command",
    "archive_timeout",
    "autovacuum_freeze_max_age",
    "data_checksums",
    "fsync",
    "full_page_writes",
    "hot_standby",
    "max_connections",
    "max_files_per_process",
    "max_locks_per_transaction",
    "max_prepared_transactions",
    "max_wal_senders",
    "max_worker_processes",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_min_apply_delay",
    "reserved_connections",
    "restore_command",
    "server_version_num",
    "ssl",
    "superuser_reserved_connections",
    "synchronous_commit",
    "synchronous_standby_names",
    "wal_level",
    "wal_segment_size",
)

_SERVER = """
select pg_is_in_recovery() as in_recovery,
       (select system_identifier::text from pg_control_system()) as system_identifier,
       (select timeline_id from pg_control_checkpoint()) as checkpoint_timeline,
       to_char(pg_postmaster_start_time() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as started_at,
       (select sum(pg_database_size(oid)) from pg_database)::bigint as size_bytes,
       pg_size_bytes(current_setting('shared_buffers')) as shared_buffers_bytes,
       pg_size_bytes(current_setting('work_mem')) as work_mem_bytes
"""

_PRIMARY = """
select pg_current_wal_flush_lsn()::text as flush_lsn,
       ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int as timeline,
       (select coalesce(json_agg(s), '[]') from (
          select application_name, client_addr::text, state, sync_state, replay_lsn::text,
                 (pg_current_wal_flush_lsn() - replay_lsn)::bigint as lag_bytes
          from pg_stat_replication) s) as senders,
       (select coalesce(json_agg(s), '[]') from (
          select slot_name, slot_type, active, wal_status, (pg_current_wal_lsn() - restart_lsn)::bigint as kept_bytes
          from pg_replication_slots) s) as slots,
       (select count(*) from pg_prepared_xacts) as prepared_transactions,
       (select count(*) from pg_stat_activity where backend_type = 'client backend' and pid <> pg_backend_pid()) as client_connections,
       (select coalesce(extract(epoch from max(clock_timestamp() - xact_start)), 0)::float from pg_stat_activity
        where backend_type = 'client backend' and pid <> pg_backend_pid()) as longest_transaction_seconds,
       (select row_to_json(a) from (
          select last_archived_wal, last_failed_wal, extract(epoch from now() - last_archived_time)::float as last_archived_age_seconds,
                 coalesce(last_failed_time > last_archived_time, last_failed_time is not null) as failing,
                 (select extract(epoch from now() - min(modification))::float from pg_ls_archive_statusdir() where name like '%.ready')
                   as oldest_waiting_age_seconds
          from pg_stat_archiver) a) as archiver
"""

_STANDBY = """
select pg_last_wal_receive_lsn()::text as receive_lsn,
       pg_last_wal_replay_lsn()::text as replay_lsn,
       pg_is_wal_replay_paused() as replay_paused,
       to_char(pg_last_xact_replay_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') as last_replayed_at,
       extract(epoch from clock_timestamp() - pg_last_xact_replay_timestamp())::float as last_replayed_age_seconds,
       (select row_to_json(r) from (
          select status, sender_host, received_tli as timeline, latest_end_lsn::text,
                 extract(epoch from clock_timestamp() - last_msg_receipt_time)::float as last_message_age_seconds
          from pg_stat_wal_receiver) r) as receiver
"""

_EXTENSIONS = "select extname as name, extversion as version from pg_extension order by extname"
_AVAILABLE = "select name, version from pg_available_extension_versions order by name, version"
_COLLATIONS = """
select datname as name, datcollversion as recorded, pg_database_collation_actual_version(oid) as actual
from pg_database where datallowconn order by datname
"""
# Before PostgreSQL 15 a database does not know its version; the collations in its catalog do, and a C library changes all of them at once.
_COLLATIONS_BEFORE_15 = """
select distinct case collprovider when 'i' then 'ICU' else 'C library' end as name,
       collversion as recorded, pg_collation_actual_version(oid) as actual
from pg_collation where collversion is not null order by 1, 2
"""


@dataclass(frozen=True)
class ClusterLocation:
    """Where a cluster is on its host."""

    unit: str
    data_directory: str
    bin_directory: str
    port: int
    database: str


def cluster_facts(location: ClusterLocation) -> dict[str, Any]:
    """State, role and everything a gate compares; see the RETURN of ``cluster_info``."""
    facts: dict[str, Any] = {"state": "absent", "role": "none", "version_num": None, "system_identifier": None, "timeline": None}
    if not os.path.exists(os.path.join(location.data_directory, "PG_VERSION")):
        return facts
    try:
        facts["control"] = control = controldata(location.bin_directory, location.data_directory)
        facts["system_identifier"] = control.get("Database system identifier")
        facts["timeline"] = int(control.get("Latest checkpoint's TimeLineID", "0")) or None
    except PostgresqlError as error:
        facts["control_error"] = str(error)
    facts["standby_signal"] = os.path.exists(os.path.join(location.data_directory, "standby.signal"))
    facts["timelines"] = timeline_history(location.data_directory)
    facts["history"] = ancestors(location.data_directory)
    facts["births"] = _births(location.data_directory, facts)
    if postmaster_pid(location.data_directory) is None:
        facts["state"] = "stopped"
        return facts
    try:
        with Psql(location.bin_directory, location.port, location.database, timeout_seconds=5) as session:
            facts.update(_running_facts(session))
    except PostgresqlError as error:
        facts.update(state="unresponsive", error=str(error))
    return facts


def _running_facts(session: Psql) -> dict[str, Any]:
    facts = session.row(_SERVER)
    settings = session.query(
        "select name, setting from pg_settings where name in (%s)" % ", ".join("'%s'" % name for name in SETTINGS)
    )
    facts["settings"] = {row["name"]: row["setting"] for row in settings}
    facts["version_num"] = int(facts["settings"]["server_version_num"])
    if facts["in_recovery"]:
        facts.update(role="standby", standby=session.row(_STANDBY))
        receiver = facts["standby"]["receiver"] or {}
        facts["timeline"] = receiver.get("timeline") or facts["checkpoint_timeline"]
    else:
        primary = session.row(_PRIMARY)
        facts.update(role="primary", timeline=primary.pop("timeline"), primary=primary)
    facts["extensions"] = session.query(_EXTENSIONS)
    facts["available_extensions"] = session.query(_AVAILABLE)
    facts["collations"] = session.query(_COLLATIONS if facts["version_num"] >= 150000 else _COLLATIONS_BEFORE_15)
    facts["tablespaces"] = session.query(
        "select spcname as name, pg_tablespace_location(oid) as path from pg_tablespace where pg_tablespace_location(oid) <> ''"
    )
    facts["state"] = "running"
    return facts


def repository_facts(config: str, stanza: str) -> dict[str, Any]:
    """By number the newest backup of each configured repository, or why it is not known; and those that were left out."""
    return {"repositories": repositories.facts(config, stanza, time.time()), "left_out": repositories.left_out(config)}


def timeline_history(data_directory: str) -> list[int]:
    """Timelines whose history files are in pg_wal: the ancestors that this server knows."""
    names = glob.glob(os.path.join(data_directory, "pg_wal", "*.history"))
    return sorted(int(os.path.basename(name)[:8], 16) for name in names)


def ancestors(data_directory: str) -> list[dict[str, Any]]:
    """Timelines that this server's lineage has left, oldest first, and where: {timeline, lsn}."""
    names = sorted(glob.glob(os.path.join(data_directory, "pg_wal", "*.history")))
    if not names:
        return []
    with open(names[-1], encoding="utf-8") as source:
        lines = [line.split() for line in source if line.strip() and not line.startswith("#")]
    return [{"timeline": int(words[0]), "lsn": words[1]} for words in lines]


def _births(data_directory: str, facts: dict[str, Any]) -> dict[str, str]:
    """How the timelines of this server began, as far as its WAL is still there."""
    if not facts["history"]:
        return {}
    segment_bytes = int(facts.get("control", {}).get("Bytes per WAL segment", DEFAULT_SEGMENT_BYTES))
    legs = parting.line(facts["timelines"][-1], facts["history"]).legs
    return {str(timeline): birth for timeline, birth in parting.births(data_directory, legs, segment_bytes).items()}


def host_facts(location: Optional[ClusterLocation] = None) -> dict[str, Any]:
    """Clock, Relevo's files and what else a gate wants to know of any host."""
    journal = host_files.read_journal(1 << 20)
    lock = host_files.read_lock()
    facts: dict[str, Any] = {
        "wall_at": clock.utc_now(),
        "boottime": clock.boottime_seconds(),
        "boot_id": clock.boot_id(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "lock": asdict(lock) if lock else None,
        "lock_unreadable": host_files.lock_unreadable(),
        "lock_expired": lock.expired(clock.boottime_seconds(), clock.boot_id()) if lock else None,
        "actor": host_files.actor_alive(),
        "fence": host_files.read_fence(),
        "restore": host_files.read_restore(),
        "open_phases": host_files.open_phases(host_files.read_journal()),
        "promoted_at": host_files.last_promotion(journal),
        "last_turn": host_files.last_turn(journal),
        "ha_managers": ha_managers(),
        "temporary_free_bytes": free_bytes(tempfile.gettempdir()),
        "allowed_signers": _first_lines("/etc/relevo/allowed_signers"),
    }
    if location is not None:
        facts["unit"] = unit_state(location.unit)
        facts["data_free_bytes"] = free_bytes(location.data_directory)
        facts["wal_free_bytes"] = free_bytes(os.path.join(location.data_directory, "pg_wal"))
        pid = postmaster_pid(location.data_directory)
        facts["server_limits"] = server_limits(pid) if pid is not None else {}
    return facts


def guard_facts(unit: str) -> dict[str, Any]:
    """The guard as its files and systemd show it: armed, alive, last heard, holding."""
    settings, watched = _json("/etc/relevo/guard.json"), _json("/run/relevo-guard/watch.json")
    age = clock.boottime_seconds() - float(watched["at"]) if watched.get("boot_id") == clock.boot_id() else None
    heard = watched.get("heard") if age is not None else None
    wanted = int(settings.get("self_fence_seconds") or 0)
    return {
        "installed": bool(settings),
        "asked_at_start": os.path.exists("/etc/systemd/system/%s.d/relevo-guard.conf" % unit),
        "self_fence_seconds": wanted,
        "alive": age is not None and age <= GUARD_ALIVE_SECONDS and watched.get("self_fence_seconds") == wanted,
        "heard_age_seconds": None if heard is None else clock.boottime_seconds() - float(heard),
        "held": _json("/var/lib/relevo/guard-held.json") or None,
    }


def _json(path: str) -> dict[str, Any]:
    try:
        with open(path, encoding="utf-8") as source:
            value = json.load(source)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}


def ha_managers() -> list[str]:
    """High-availability managers that run here, by the names of their processes."""
    found: set[str] = set()
    for path in glob.glob("/proc/[0-9]*/cmdline"):
        try:
            with open(path, "rb") as source:
                words = source.read().decode(errors="replace").split("\0")
        except OSError:
            continue
        names = {os.path.basename(word) for word in words[:3]}
        found.update(manager for manager in HA_MANAGERS if manager in names)
    return sorted(found)


def unit_state(unit: str) -> dict[str, str]:
    """ActiveState, UnitFileState and friends of a systemd unit."""
    wanted = "ActiveState,SubState,UnitFileState,LoadState,MainPID"
    done = subprocess.run(
        ["systemctl", "show", "--property=" + wanted, "--", unit], capture_output=True, text=True, check=False, timeout=10
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def free_bytes(path: str) -> Optional[int]:
    """Bytes that are free for an unprivileged user on the volume of path; None when there is no such path."""
    try:
        volume = os.statvfs(path)
    except OSError:
        return None
    return volume.f_bavail * volume.f_frsize


def _first_lines(path: str, most: int = 20) -> list[str]:
    try:
        with open(path, encoding="utf-8") as source:
            return [line.strip() for line in source][:most]
    except OSError:
        return []
