"""Where am I, what is unsafe, what is next: a table of what can be seen."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.past_proofs import Past
from ansible_collections.relevo.dr.plugins.module_utils.status import status

from .conftest import silent

GUARD = {
    "installed": True,
    "asked_at_start": True,
    "self_fence_seconds": 20,
    "alive": True,
    "heard_age_seconds": 2.0,
    "held": None,
}
RUN = "20261124T121530Z-failover-1f3a"
LOCK = {"run_id": RUN, "owner": "ana", "since": "2026-11-24T12:15:31Z", "lease_until_boottime": 160.0}


@pytest.fixture
def healthy(landscape):
    """A protected cluster, as check sees it."""
    for host in ("a-db1", "b-db1"):
        facts = landscape.database[host]["facts"]
        facts["guard"] = dict(GUARD)
        facts["host"] = {**facts["host"], "boottime": 100.0}
    landscape.database["b-db1"]["facts"]["guard"]["heard_age_seconds"] = None
    primary = landscape.database["a-db1"]["facts"]["cluster"]["primary"]
    primary["senders"] = [{"application_name": "b-db1", "state": "streaming"}]
    return landscape


def bent(landscape: Any, *changes: tuple[str, dict[str, Any] | None]) -> Any:
    """Changes by host: facts to merge (host, guard, cluster, repository), or None for a silent host."""
    changed = copy.deepcopy(landscape)
    for host, facts in changes:
        if facts is None:
            changed.database[host] = silent()
            continue
        for kind, more in facts.items():
            place = changed.database[host]["facts"].setdefault(kind, {})
            place.update(more)
    return changed


def test_a_protected_cluster_has_nothing_unsafe(healthy):
    found = status(healthy)
    assert found["primary"] == "a-db1"
    assert found["protected"] is True
    assert found["unsafe"] == []
    assert found["next"] == "nothing: the cluster is protected"
    assert found["hosts"]["a-db1"]["guard"] == "at start, self-fence 20 s"


def test_a_later_prediction_learns_the_size(healthy):
    assert status(bent(healthy, ("a-db1", {"cluster": {"size_bytes": 7}})))["hosts"]["a-db1"]["size_bytes"] == 7


def test_what_was_never_proven_is_said_last_and_makes_nothing_unprotected(healthy):
    past = Past(now=1e9)
    found = status(healthy, past)
    assert found["unsafe"] == ["the backups were never verified", "a restore was never proven"]
    assert found["next"] == "the backups were never verified: run playbooks/verify_backup.yml"
    assert (found["protected"], found["restorable"], found["restore_proven"]) == (True, None, None)
    assert status(bent(healthy, ("b-db1", None)), past)["unsafe"][0] == "b-db1 does not answer"
    assert "restorable" not in status(healthy)


# As after a crash, which empties the statistics.
ARCHIVES = {"failing": False, "last_archived_wal": None, "last_failed_wal": None, "oldest_waiting_age_seconds": None}
STOPPED = {"state": "stopped", "role": "none", "primary": None}
FENCED = {"fence": {"run_id": RUN, "class": "stopped"}}
SELF = {"fence": {"by": "relevo-guard", "class": "self", "reason": "nobody heard this primary for 15 s"}}
PROMOTED = {
    "cluster": {
        "role": "primary",
        "standby": None,
        "timeline": 2,
        "primary": {
            "flush_lsn": "0/6000000",
            "senders": [],
            "archiver": ARCHIVES,
        },
    }
}
NO_SENDER = {"cluster": {"primary": {"flush_lsn": "0/5", "senders": [], "archiver": ARCHIVES}}}


def archiving(**said: object) -> dict[str, Any]:
    return {"cluster": {"primary": {"flush_lsn": "0/5", "senders": [{"state": "streaming"}], "archiver": {**ARCHIVES, **said}}}}


OLD_BACKUP = {"repository": {"repositories": {"1": {"newest_backup_age_seconds": 200_000.0, "newest_backup_error": False}}}}
BAD_BACKUP = {"repository": {"repositories": {"1": {"newest_backup_age_seconds": 20.0, "newest_backup_error": True}}}}
GONE_STORE = {
    "repository": {
        "repositories": {
            "1": {"newest_backup_age_seconds": 20.0, "newest_backup_error": False},
            "2": {"error": "takes no connection"},
        }
    }
}
LEFT_OUT = {"repository": {"left_out": {"2": {"at": "2026-11-24T12:00:00Z"}}}}
BEGUN = [
    {"run_id": RUN, "phase": "PROMOTE", "kind": "intent"},
    {"run_id": "20261001T000000Z-failover-0000", "phase": "FENCE", "kind": "intent"},
]
DEAD_RUN = {"host": {"lock": LOCK, "lock_expired": True, "open_phases": BEGUN}}
LIVING_RUN = {"host": {"lock": LOCK, "lock_expired": False, "open_phases": BEGUN}}

# name, what is seen, what is said to be unsafe (parts of the first sentences, in this order), what is next, protected
TABLE = [
    ("two primaries", [("b-db1", PROMOTED)], ["a-db1, b-db1 are all writable"], "STOP", False),
    ("two primaries and a run at work", [("b-db1", {**PROMOTED, **LIVING_RUN})], ["are all writable"], "STOP", False),
    (
        "a run that died",
        [("b-db1", DEAD_RUN)],
        [f"run {RUN} was interrupted in PROMOTE on b-db1"],
        "start failover again",
        True,
    ),
    ("a run at work", [("b-db1", LIVING_RUN)], [], f"run {RUN} of ana is at work: wait", True),
    ("a lock that cannot be read", [("b-db1", {"host": {"lock_unreadable": True}})], ["lock file on b-db1"], "remove", True),
    ("the primary is gone", [("a-db1", None)], ["no primary answers"], "run the failover", False),
    (
        "the primary stopped itself",
        [("a-db1", {"host": SELF, "cluster": STOPPED})],
        ["a-db1 stopped itself: nobody heard", "no primary answers"],
        "relevo-guard lift",
        False,
    ),
    (
        "the guard holds the primary",
        [("a-db1", {"guard": {"held": {"reason": "no other host answers"}}, "cluster": {"role": "standby", "standby": {}}})],
        ["holds it read-only: no other host answers"],
        "relevo-guard start --reason",
        False,
    ),
    (
        "the guard holds whom a dead run promoted",
        [
            ("a-db1", {"host": FENCED, "cluster": STOPPED}),
            ("b-db1", {**DEAD_RUN, "guard": {"held": {"reason": "no other host answers"}}}),
        ],
        ["the guard of b-db1 holds it read-only", f"run {RUN} was interrupted"],
        "relevo-guard start --reason",
        False,
    ),
    (
        "a fenced host was not brought back",
        [("a-db1", {"host": FENCED, "cluster": STOPPED}), ("b-db1", PROMOTED)],
        ["no standby streams from b-db1", f"a-db1 is fenced by {RUN} and was not brought back"],
        "bring a-db1 back as a standby with playbooks/failback.yml",
        False,
    ),
    (
        "the old primary is back and stale",
        [("a-db1", {"cluster": {**STOPPED, "timeline": 1}}), ("b-db1", PROMOTED)],
        ["no standby streams from b-db1", "a-db1 is stale: its data end on timeline 1, b-db1 is on 2"],
        "bring a-db1 back as a standby with playbooks/failback.yml",
        False,
    ),
    ("a stopped standby", [("b-db1", {"cluster": STOPPED})], ["PostgreSQL is stopped on b-db1"], "its guard decides", True),
    (
        "another cluster",
        [("b-db1", {"cluster": {"system_identifier": "9"}})],
        ["holds another cluster, system 9"],
        "inventory",
        True,
    ),
    ("a silent standby", [("b-db1", None)], ["b-db1 does not answer"], "what became of b-db1", True),
    (
        "a silent standby that the primary misses",
        [("a-db1", NO_SENDER), ("b-db1", None)],
        ["no standby streams from a-db1", "b-db1 does not answer"],
        "what became of b-db1",
        False,
    ),
    (
        "a stopped standby that the primary misses",
        [("a-db1", NO_SENDER), ("b-db1", {"cluster": STOPPED})],
        ["no standby streams from a-db1", "PostgreSQL is stopped on b-db1"],
        "start PostgreSQL on b-db1",
        False,
    ),
    ("no standby streams", [("a-db1", NO_SENDER)], ["no standby streams from a-db1"], "playbooks/protect.yml", False),
    (
        "WAL was not archived since a crash, for none was due",
        [("a-db1", archiving())],
        [],
        "nothing: the cluster is protected",
        True,
    ),
    (
        "WAL is not archived",
        [("a-db1", archiving(failing=True, last_failed_wal="x"))],
        ["WAL of a-db1 is not archived: failing on x"],
        "playbooks/protect.yml",
        False,
    ),
    (
        "WAL waits",
        [("a-db1", archiving(oldest_waiting_age_seconds=7200.0))],
        ["WAL of a-db1 is not archived: a segment waits for 7200 s"],
        "playbooks/protect.yml",
        False,
    ),
    (
        "archiving is off",
        [("a-db1", {"cluster": {"settings": {"archive_mode": "off"}}})],
        ["WAL of a-db1 is not archived: archive_mode is off"],
        "playbooks/protect.yml",
        False,
    ),
    ("an old backup", [("a-db1", OLD_BACKUP)], ["newest backup is 56 h old"], "playbooks/backup.yml", False),
    ("only a backup with errors", [("a-db1", BAD_BACKUP)], ["no backup without errors"], "playbooks/backup.yml", False),
    ("a repository is away", [("a-db1", GONE_STORE)], ["repository 2 does not answer a-db1"], "store of repository 2", True),
    ("a repository was left out", [("a-db1", LEFT_OUT)], ["repository 2 is left out since"], "playbooks/protect.yml", True),
    ("no guard", [("b-db1", {"guard": {"installed": False}})], ["no guard is asked"], "playbooks/protect.yml", True),
    ("a dead watch", [("a-db1", {"guard": {"alive": False}})], ["self-fence of a-db1 is wanted and dead"], "relevo-guard", True),
    ("hardly heard", [("a-db1", {"guard": {"heard_age_seconds": 12.0}})], ["for 12 s: it stops itself after 20 s"], "mend", True),
]


@pytest.mark.parametrize(("changes", "unsafe", "next_step", "protected"), [row[1:] for row in TABLE], ids=[row[0] for row in TABLE])
def test_the_table(healthy, changes, unsafe, next_step, protected):
    found = status(bent(healthy, *changes))
    assert len(found["unsafe"]) >= len(unsafe)
    for said, part in zip(found["unsafe"], unsafe, strict=False):
        assert part in said
    if not unsafe:
        assert found["unsafe"] == []
    assert next_step in found["next"]
    assert found["protected"] is protected


def test_a_run_that_only_an_application_host_still_knows_of_is_gone_on_with(healthy):
    """It was lost when the locks were given back: any other runbook refuses as long as it holds one."""
    left = copy.deepcopy(healthy)
    left.application["a-app1"]["facts"]["host"].update(lock=LOCK, lock_expired=True)
    found = status(left)
    assert (found["interrupted_run"], found["lock"]["run_id"]) == (RUN, RUN)
    assert "start failover again" in found["next"]
    left.application["a-app1"]["facts"]["host"].update(lock=None, lock_unreadable=True)
    assert "the lock file on a-app1 cannot be read" in status(left)["unsafe"][0]


def test_a_phase_that_an_older_run_left_open_is_not_shown(healthy):
    found = status(bent(healthy, ("b-db1", DEAD_RUN)))
    assert found["hosts"]["b-db1"]["open_phases"] == ["PROMOTE"]
    assert status(bent(healthy, ("b-db1", {"host": {"open_phases": BEGUN}})))["hosts"]["b-db1"]["open_phases"] == []


@pytest.mark.parametrize("ledger", [{}, {"last_attempt_age_seconds": 300.0}])
def test_a_ledger_that_is_not_at_work_is_said(healthy, ledger):
    changed = copy.deepcopy(healthy)
    changed.witness["wit1"]["facts"]["ledger"] = ledger
    assert "ledger on wit1 is not at work" in status(changed)["unsafe"][0]


def test_a_silent_witness_is_said(healthy):
    changed = copy.deepcopy(healthy)
    changed.witness["wit1"] = silent()
    assert "witness wit1 does not answer" in status(changed)["unsafe"][0]


def test_nobody_answers(healthy):
    found = status(bent(healthy, ("a-db1", None), ("b-db1", None)))
    assert found["primary"] is None
    assert "no primary answers" in found["unsafe"][0]
