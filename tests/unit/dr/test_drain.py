"""The drain: everything received and archived is replayed, and what is provably missing is said."""

from __future__ import annotations

import time

import pytest
from ansible_collections.relevo.dr.plugins.action import handover
from ansible_collections.relevo.dr.plugins.module_utils import host_files, standby, wal_tail
from ansible_collections.relevo.dr.plugins.module_utils.probe import PATIENCE_SECONDS
from ansible_collections.relevo.dr.plugins.modules import standby_promote

ARCHIVE = standby.Archive("/etc/pgbackrest.conf", "minimarket", 16 << 20, 1, 2.0)


class Session:
    """A standby whose replay moves by a step each time it is asked."""

    def __init__(self, *replayed: str, received: str | None = None, paused: bool = False, receiver: int | None = 77) -> None:
        self.replayed, self.received, self.paused, self.receiver = list(replayed), received, paused, receiver
        self.told: list[str] = []

    def row(self, sql: str) -> dict:
        if "segment_bytes" in sql:
            return {"in_recovery": True, "system_identifier": "7", "timeline": 1, "segment_bytes": 16 << 20}
        replay = self.replayed.pop(0) if len(self.replayed) > 1 else self.replayed[0]
        known = {"in_recovery": True, "receive_lsn": self.received, "replay_lsn": replay, "paused": self.paused}
        return {**known, "receiver_pid": self.receiver, "last_replayed_at": None}

    def query(self, _sql: str) -> list:
        return []

    def execute(self, sql: str) -> str:
        self.told.append(sql)
        return ""


@pytest.fixture
def archive_says(monkeypatch):
    def say(*answers: bool | None) -> None:
        left = list(answers)
        monkeypatch.setattr(standby, "archived", lambda *_: left.pop(0) if len(left) > 1 else left[0])

    return say


def test_it_ends_when_all_that_was_received_and_archived_is_replayed(archive_says):
    archive_says(False)
    found = standby.drain(Session("0/3000000", "0/4000000", received="0/4000000"), ARCHIVE, None, 5)
    assert (found["replay_lsn"], found["archive_replayed"], found["target_replayed"]) == ("0/4000000", True, None)
    assert found["replayed_bytes"] == 0x1000000


def test_what_only_the_archive_has_is_fetched_without_a_receiver_in_the_way(archive_says, monkeypatch):
    woken: list[int] = []
    monkeypatch.setattr(standby, "_wake", woken.append)
    archive_says(True, False)
    session = Session("0/3000000", "0/3000000", "0/4000000")
    assert standby.drain(session, ARCHIVE, None, 5)["replay_lsn"] == "0/4000000"
    assert session.told == ["select pg_terminate_backend(77)"]
    assert woken == [77]


def test_an_archive_that_does_not_answer_is_unknown(archive_says):
    archive_says(None)
    assert standby.drain(Session("0/4000000"), ARCHIVE, None, 5)["archive_replayed"] is None


def test_a_shutdown_that_never_comes_is_said(archive_says):
    archive_says(False)
    assert standby.drain(Session("0/3000000"), ARCHIVE, "0/3000028", 0.05)["target_replayed"] is False


def test_what_comes_from_nowhere_is_not_waited_for_to_the_end(archive_says):
    archive_says(False)
    began = time.monotonic()
    found = standby.drain(Session("0/3000000"), ARCHIVE, "0/3000028", 60, settle_seconds=0.1)
    assert found["target_replayed"] is False
    assert time.monotonic() - began < 5


def test_paused_replay_is_no_end(archive_says):
    archive_says(False)
    with pytest.raises(standby.DrainError, match="paused"):
        standby.drain(Session("0/3000000", paused=True), ARCHIVE, None, 5)


def parameters(**more: object) -> dict:
    base = {"stanza": "minimarket", "pgbackrest_config": "/etc/pgbackrest.conf", "run_id": "run", "timeout_seconds": 0.05}
    base |= {"replay_target_lsn": "", "leave_out": [], "host": "b-db1"}
    return {**base, "old_hosts": [{"host": "a-db1", "address": "127.0.0.1", "port": 1}], **more}


@pytest.fixture
def challenge(monkeypatch):
    written: list[dict] = []
    monkeypatch.setattr(host_files, "write_challenge", written.append)
    monkeypatch.setattr(host_files, "read_peers", lambda: ["a-db1", "b-db2"])
    return written


def gate(position: dict, *commits: int | None):
    replayed = {"replay_lsn": "0/3000000", "archive_replayed": None, "target_replayed": None, **position}
    return handover.archive_gate("b-db1", replayed, [{"commits": number} for number in commits])


def test_only_what_was_committed_is_a_loss():
    """A standby that lacks nothing but the shutdown itself is complete."""
    assert gate({"target_replayed": True}).verdict == "pass"
    assert gate({"target_replayed": False}, 0).verdict == "pass"
    lost = gate({"target_replayed": False}, 3)
    assert (lost.verdict, "3 commits" in lost.observed) == ("fail", True)
    assert gate({"target_replayed": False}, 0, None).verdict == "fail"
    assert gate({"target_replayed": False}).verdict == "fail"


def test_without_a_clean_shutdown_the_archive_must_have_answered():
    assert gate({"archive_replayed": True}).verdict == "pass"
    assert gate({}).verdict == "unknown"


WALDUMP = """rmgr: XLOG        len (rec/tot):     24/    24, tx:          0, lsn: 0/04FFFFE8, prev 0/04FFFF80, desc: SWITCH
rmgr: Transaction len (rec/tot):     46/    46, tx:        747, lsn: 0/05000028, prev 0/04FFFFE8, desc: COMMIT 2026-11-25 03:00:00.1 UTC
rmgr: Heap        len (rec/tot):     59/    59, tx:        748, lsn: 0/05000058, prev 0/05000028, desc: INSERT off: 2
rmgr: XLOG        len (rec/tot):    114/   114, tx:          0, lsn: 0/05000098, prev 0/05000058, desc: CHECKPOINT_SHUTDOWN redo 0/5000098
"""


def test_commits_are_counted_up_to_the_shutdown():
    assert wal_tail.count(WALDUMP) == 1
    assert wal_tail.count(WALDUMP.splitlines()[-1]) == 0
    assert wal_tail.count("\n".join(WALDUMP.splitlines()[:-1])) is None
    assert wal_tail.count("") is None


def test_the_fence_must_cover_every_host_that_this_one_was_told_of(archive_says, challenge):
    """A controller whose inventory has lost a host would otherwise prove too little."""
    archive_says(False)
    standby_promote.drain(parameters(), Session("0/3000000"))
    assert challenge[0]["old_hosts"] == ["a-db1", "b-db2"]


def test_the_drain_probes_every_old_host_with_all_patience(archive_says, challenge, monkeypatch):
    """Also where a drain of this run did so a moment ago: short looks must not rest on short looks."""
    archive_says(False)
    asked = []

    def probe(vantage, host, address, port, seconds):
        asked.append((vantage, host, address, port, seconds))
        return {"host": host, "result": "silent"}

    monkeypatch.setattr(standby_promote, "probe", probe)
    for _ in range(2):
        answer = standby_promote.drain(parameters(), Session("0/3000000"))
        monkeypatch.setattr(host_files, "read_challenge", lambda: challenge[-1])
    assert asked == [("b-db1", "a-db1", "127.0.0.1", 1, PATIENCE_SECONDS)] * 2
    assert answer["probes"] == challenge[1]["probes"] == [{"host": "a-db1", "result": "silent"}]


def test_a_probe_is_as_old_as_the_drain_that_it_began_with(archive_says, challenge, monkeypatch):
    """A long drain makes no fresh probe of an old one."""
    archive_says(False)
    moments = iter(range(100, 200, 10))
    monkeypatch.setattr(standby_promote.clock, "boottime_seconds", lambda: float(next(moments)))
    standby_promote.drain(parameters(), Session("0/3000000"))
    assert challenge[0]["probed_boottime"] == 100.0 < challenge[0]["boottime"]


@pytest.mark.parametrize("tail", [None, []])
def test_an_empty_or_unread_ledger_measures_no_loss(tail):
    asked = {"ledger_tail": tail, "ledger_present_sql": "select 1", "accept_unmeasured": False}
    with pytest.raises(standby_promote.Stop, match="cannot be measured"):
        standby_promote.check_loss(asked, Session("0/0"))
    assert standby_promote.check_loss({**asked, "accept_unmeasured": True}, Session("0/0")) is None
