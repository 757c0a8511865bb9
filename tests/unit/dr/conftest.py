"""A healthy two-site landscape that each test bends in one place."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.plan import Landscape

SYSTEM = "7400000000000000001"


def settings(**changed: str) -> dict[str, str]:
    base = {
        "archive_mode": "on",
        "fsync": "on",
        "full_page_writes": "on",
        "synchronous_commit": "on",
        "synchronous_standby_names": "",
        "recovery_min_apply_delay": "0",
        "max_connections": "100",
        "max_worker_processes": "8",
        "max_wal_senders": "10",
        "max_prepared_transactions": "0",
        "max_locks_per_transaction": "64",
        "max_files_per_process": "1000",
        "superuser_reserved_connections": "3",
        "reserved_connections": "0",
    }
    return {**base, **changed}


def host_facts() -> dict[str, Any]:
    return {
        "lock": None,
        "lock_expired": None,
        "fence": None,
        "ha_managers": [],
        "data_free_bytes": 1 << 34,
        "wal_free_bytes": 1 << 34,
        "server_limits": {"memory_bytes": 8 << 30, "memory_from": "the host", "tasks": 4915, "open_files": 1024},
        "allowed_signers": ['relevo-controller namespaces="relevo-token" ssh-ed25519 AAAA'],
    }


def database(role: str) -> dict[str, Any]:
    cluster: dict[str, Any] = {
        "state": "running",
        "role": role,
        "system_identifier": SYSTEM,
        "timeline": 1,
        "version_num": 170005,
        "settings": settings(),
        "shared_buffers_bytes": 128 << 20,
        "work_mem_bytes": 4 << 20,
        "extensions": [{"name": "pgcrypto", "version": "1.3"}],
        "available_extensions": [{"name": "pgcrypto", "version": "1.3"}],
        "collations": [{"name": "minimarket", "recorded": "2.41", "actual": "2.41"}],
    }
    if role == "primary":
        archiver = {"oldest_waiting_age_seconds": None, "failing": False, "last_failed_wal": None}
        cluster["primary"] = {
            "flush_lsn": "0/5000100",
            "archiver": archiver,
            "prepared_transactions": 0,
            "client_connections": 12,
            "longest_transaction_seconds": 0.1,
        }
    else:
        cluster["standby"] = {
            "receive_lsn": "0/5000000",
            "replay_lsn": "0/5000000",
            "replay_paused": False,
            "last_replayed_age_seconds": 0.5,
            "receiver": {"status": "streaming", "timeline": 1, "last_message_age_seconds": 0.4},
        }
    return {
        "reachable": True,
        "error": None,
        "denied": False,
        "clock_offset_seconds": 0.0,
        "settings": {"repository_hosts": ["b-store1", "a-store1"]},
        "facts": {
            "cluster": cluster,
            "host": host_facts(),
            "repository": {"repositories": {"1": repository("b-store1"), "2": repository("a-store1")}, "left_out": {}},
        },
    }


def repository(host: str) -> dict[str, Any]:
    return {
        "host": host,
        "newest_backup": "20261124-000000F",
        "newest_backup_age_seconds": 3600.0,
        "newest_backup_error": False,
    }


def silent() -> dict[str, Any]:
    return {"reachable": False, "denied": False, "error": "no connection to port 22", "settings": {}, "clock_offset_seconds": None}


@pytest.fixture
def landscape() -> Landscape:
    answer = {"ok": True, "error": None, "in_recovery": True, "system_identifier": SYSTEM, "tls": True}
    application = {
        "reachable": True,
        "error": None,
        "clock_offset_seconds": 0.0,
        "facts": {"application": {"active": True, "databases": {"a-db1": answer, "b-db1": answer}}, "host": {}},
    }
    accepted = {"outcome": "accepted", "age_seconds": 1.0, "observer": "wit1", "system_identifier": SYSTEM, "timeline": 1}
    return Landscape(
        groups={
            "dr_database": ["a-db1", "b-db1"],
            "dr_application": ["a-app1", "b-app1"],
            "dr_witness": ["wit1"],
            "dr_observer": ["wit1", "b-app1"],
        },
        sites={"a-db1": "a", "a-app1": "a", "b-db1": "b", "b-app1": "b", "wit1": "w", "a-store1": "a", "b-store1": "b"},
        database={"a-db1": database("primary"), "b-db1": database("standby")},
        application={"a-app1": application, "b-app1": copy.deepcopy(application)},
        witness={
            "wit1": {
                "reachable": True,
                "error": None,
                "clock_offset_seconds": 0.0,
                "facts": {"ledger": {"last_acknowledged_age_seconds": 0.4, "last_attempt_age_seconds": 0.4}},
            }
        },
        observer={"wit1": {"reachable": True, "facts": {"last_accepted": {"a-db1": accepted}}}},
        fence={host: {"power": "on", "error": None, "settings": {"command_off": ["off", host]}} for host in ("a-db1", "b-db1")},
    )
