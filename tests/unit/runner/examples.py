"""A record of each kind of run, with what its modules measure, as they wrote it on the laboratory."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from relevo.record import Record
from relevo.verdict import Ending
from tests.unit.runner.streams import build, failed, read, record_of, said, stats

RUNGS = [
    {"id": "R1", "name": "exists", "verdict": "pass", "seconds": 0.023, "evidence": "its manifest", "next_action": ""},
    {"id": "R3", "name": "restores", "verdict": "pass", "seconds": 3.4, "evidence": "34065736 bytes in 3.4 s", "next_action": ""},
    {"id": "R8", "name": "a user logs in", "verdict": "pass", "seconds": 1.973, "evidence": "logged in", "next_action": ""},
]
RESTORE_TEST = {
    "number": 1,
    "repository": 1,
    "label": "20261128-002001F_20261128-002227I",
    "timeline": 6,
    "target_kind": "time",
    "target": "time 2026-11-28 00:22:56.224297+00",
    "verdict": "passed",
    "proven_up_to": "a user logs in",
    "rungs": RUNGS,
    "delta": False,
    "restored_bytes": 34065736,
    "restore_seconds": 3.392,
    "restore_bytes_per_second": 10042965,
    "replay_seconds": 1.227,
    "replayed_to_lsn": "0/1503BF30",
    "last_commit_at": "2026-11-28T00:22:56.218432Z",
    "backup_stopped_at": "2026-11-28T00:22:29.000000Z",
    "archive_end_commit_at": "2026-11-28T00:26:29.563592Z",
    "rpo_seconds": 1.3,
    "live_bytes": 34859951,
    "predicted_rto_seconds": 4.7,
}
WINDOW = [
    (
        "repository 1: timeline 6 from 2026-11-28T00:20:04.000000Z (LSN 0/4000050, backup 20261128-002001F) to 2026-11-28T00:26:29.563592Z "
        "(LSN 0/29031B00); timeline 5 from 2026-11-28T00:20:04.000000Z (LSN 0/4000050, backup 20261128-002001F) to 2026-11-28T00:25:55.880685Z "
        "(LSN 0/2311C720)"
    )
]
BACKUP = {
    "label": "20261128-002001F",
    "type": "full",
    "size_bytes": 33729453,
    "copied_bytes": 33729453,
    "copied_from": "standby b-db1",
    "repository_bytes": 4191016,
    "duration_seconds": 2.0,
    "bytes_per_second": 16864726,
}
VERIFIED = {
    "backups": 3,
    "coverage": "24 of 24 hours",
    "missing_periods": [],
    "protected_since": 1795000000.0,
    "segments": 41,
    "objects": 1290,
    "bytes": 90177536,
    "objects_read": 92,
    "bytes_read": 6291456,
    "seconds": 4.211,
    "restorable_from": "2026-11-21T00:20:04.000000Z",
    "restorable_until": "2026-11-28T00:26:29.563592Z",
}
SNAPSHOT = {
    "snapshot": "1c6226508327ceb0915e9bef0e12103a9141adc66cc091cfdae3bdb492c38892",
    "files": 206,
    "bytes": 1461606,
    "added_bytes": 1759609,
    "seconds": 1.638,
    "outcome": "taken",
}
RESTORED = {
    "id": "1c6226508327ceb0915e9bef0e12103a9141adc66cc091cfdae3bdb492c38892",
    "at": "2026-11-28T00:20:04Z",
    "repository": 2,
    "entries": 412,
    "bytes": 1461606,
    "seconds": 0.911,
    "bytes_per_second": 1604397,
    "canaries": ["/etc/postgresql/17/main/postgresql.conf"],
    "age_seconds": 86912.4,
}
SALVAGE = {
    "host": "a-db1",
    "committed": 1765,
    "aborted": 0,
    "unfinished": [],
    "complete": True,
    "missing": [],
    "bytes": 67349704,
    "timeline": 1,
    "fork_lsn": "0/7090450",
    "end_lsn": "0/08000028",
    "relations": {"relevo.observation": {"updated": 332}, "shop.ledger_entries": {"inserted": 1433}},
    "directory": "/var/lib/relevo-salvage/20261128T004217Z-failback-bd98",
    "digest": "78faa362b40a336c92c543e5a50fdbd2805d23ac52a932852d8316c14d475c58",
}
REBUILD = {
    "method": "rewind",
    "seconds": 1.169,
    "failed": {"delta": "the repository did not answer"},
    "ways": {
        "rewind": {"obstacle": None, "predicted_seconds": 5.4},
        "full": {"obstacle": "no room: 4 GiB are free", "predicted_seconds": None},
    },
}
HOSTS = {
    "a-db1": {
        "role": "none",
        "site": "a",
        "state": "stopped",
        "timeline": 1,
        "fence": "fenced by r1",
        "guard": "at start",
        "lag_seconds": None,
    },
    "b-db1": {
        "role": "primary",
        "site": "b",
        "state": "running",
        "timeline": 2,
        "lsn": "0/C0BCAF8",
        "guard": "at start",
        "lag_seconds": None,
    },
    "a-app1": {"role": "application", "site": "a", "state": "active, uses b-db1:5432"},
    "wit1": {"role": "witness", "site": "w", "state": "last acknowledgement 0.0 s ago"},
}
PROMOTION = {
    "path": "promote",
    "promotion": {"timeline": 2, "parent": 1, "fork_lsn": "0/7092560", "promoted_at": "2026-11-24T12:15:43.141781Z"},
    "handover": {"at": "2026-11-24T12:15:40Z", "shutdown_lsn": "0/8000028", "timeline": 1},
    "loss_before_promotion": {"numbers": [147], "seconds": 39.3, "transactions": 1},
    "archive_replayed": True,
    "replay_lsn": "0/7092560",
    "repositories": {"in_use": [2], "left_out": [1]},
}
GATE = {
    "id": "G08",
    "title": "the standby has everything that was committed",
    "phase": "PREFLIGHT",
    "host": "b-db1",
    "observed": "284680 bytes behind a-db1, 20.0 s of commits",
    "expected": "at most 67108864 bytes behind",
    "verdict": "fail",
    "next_action": "wait, or leave what it lacks with -e dr_accept_loss_seconds=80",
}
VERDICTS = ("fail", "unknown", "accepted", "pass", "not_applicable")
GATES = [{**GATE, "id": f"G0{number}", "verdict": verdict} for number, verdict in enumerate(VERDICTS)]


def of(runbook: str, gates: Any = (), inputs: dict[str, str] | None = None, status: Any = None, **measures: Any) -> Record:
    """A run of a runbook that said so and measured that."""
    opening, _ = read("failover_disaster")
    run = {"cluster": "minimarket", "runbook": runbook, **({"done": True} if "done" in (inputs or {}) else {})}
    phases = [
        {"name": name, "host": "b-db1", "started_at": began, "ended_at": ended, "duration_seconds": 3.0, "outcome": "ok"}
        for name, began, ended in (
            ("FIRST", "2026-11-24T12:15:31Z", "2026-11-24T12:15:34Z"),
            ("SECOND", "2026-11-24T12:15:36Z", "2026-11-24T12:15:39Z"),
        )
    ]
    opening = replace(opening, runbook=runbook, inputs={name: value for name, value in (inputs or {}).items() if name != "done"})
    event = said(run=run, gates=list(gates), measures=measures, phases=phases, status=status or {})
    return build(opening, [event, stats()])


def every() -> dict[str, Record]:
    """By name: each runbook, and each way in which a run can end."""
    opening, events = read("failover_disaster")
    planned = {"mode": "planned", "scope": "site", "target_site": "b"}
    accepted = {
        "loss_seconds": 300.0,
        "loss_transactions": 1697,
        "unknown": ["G05"],
        "fence": ["attested"],
        "attested_dead": ["a-db1"],
    }
    holding = [gate for gate in GATES if gate["verdict"] in {"pass", "not_applicable"}]
    return {
        "disaster": record_of("failover_disaster"),
        "drill": record_of("failover_drill"),
        "failed": record_of("failover_failed"),
        "refused": record_of("failover_refused"),
        "refused_inputs": build(opening, [], Ending(refusal="-e dr_mode is missing; expected drill. Nothing was started.")),
        "interrupted": build(opening, events[:14]),
        "partial": build(opening, [*events, said(run={"accepted": accepted, "reason": "site a burns"}, gates=GATES[2:]), stats()]),
        "unreached": build(opening, [said(run={}), failed("no route", host="a-db1"), stats(failures=("a-db1",))]),
        "check": of("check", holding, status={"hosts": HOSTS}),
        "check_fails": of("check", GATES, status={"hosts": HOSTS}),
        "switchover": of("switchover", holding, planned, {"hosts": HOSTS}, **PROMOTION),
        "switchover_done": of("switchover", holding, {**planned, "done": "yes"}),
        "failback": of(
            "failback",
            holding,
            planned,
            {"hosts": HOSTS},
            salvage={"a-db1": SALVAGE},
            rebuild={"a-db1": REBUILD},
            reprotected_at="2026-11-24T12:32:47Z",
            time_to_reprotect_seconds=1023.94,
        ),
        "rehearse": of(
            "rehearse",
            holding,
            {"mode": "drill"},
            restore_tests=[RESTORE_TEST],
            rto_seconds=31.2,
            rpo_seconds=8.4,
            proofs_seconds=4.1,
            t0_at="2026-11-24T12:15:30Z",
            t0_source="command",
        ),
        "restore_test": of("restore_test", holding, restore_tests=[RESTORE_TEST], restore_window=WINDOW),
        "restore_test_two": of(
            "restore_test", holding, restore_tests=[RESTORE_TEST, {**RESTORE_TEST, "repository": 2, "delta": True}]
        ),
        "protect": of(
            "protect", backups={"repository_1": BACKUP, "repository_2": BACKUP}, files={"a-db1": {"configuration": {"1": SNAPSHOT}}}
        ),
        "backup": of("backup", holding, backups={"repository_1": BACKUP}),
        "verify_backup": of(
            "verify_backup",
            holding,
            backup_verification={"1": VERIFIED, "2": {**VERIFIED, "restorable_from": None}},
            files={
                "a-db1": {
                    "1": {
                        "age_seconds": {"configuration": 3600.0, "system": None},
                        "snapshots": 9,
                        "read": "share 3 of 14",
                        "seconds": 2.5,
                    }
                }
            },
        ),
        "restore_files": of("restore_files", holding, files={"a-db1": {"restored": {"configuration": RESTORED}}}),
        "nightly": of("nightly", holding),
        "bare": build(replace(opening, runbook="check", inputs={}, cluster=None), [said(run={}), stats()]),
    }
