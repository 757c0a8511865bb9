"""The last look before a promotion: an old host that answers, or a loss that nobody accepted, and nothing is promoted."""

from __future__ import annotations

from collections import defaultdict

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files, promotion_token
from ansible_collections.relevo.dr.plugins.module_utils.probe import PATIENCE_SECONDS
from ansible_collections.relevo.dr.plugins.modules import standby_promote

SERVER = {"in_recovery": True, "system_identifier": "77", "timeline": 1, "segment_bytes": 1 << 24}


class Standby:
    """Stands for the server: a row that describes it, and the ledger references that it has."""

    def __init__(self, present=()):
        self.present = present

    def row(self, _sql):
        return SERVER

    def query(self, _sql):
        return [{"reference": reference} for reference in self.present]

    def execute(self, _sql):
        return ""


@pytest.fixture
def promoted(tmp_path, monkeypatch):
    """The promotions that were asked for; the token is good and the old host is silent."""
    asked = []
    monkeypatch.setattr(host_files, "STATE_DIRECTORY", str(tmp_path / "relevo"))
    monkeypatch.setattr(standby_promote, "check_token", lambda *_: None)
    monkeypatch.setattr(standby_promote, "probe", answers("silent"))
    monkeypatch.setattr(standby_promote.standby, "promote", lambda *_: asked.append(1))
    monkeypatch.setattr(standby_promote.standby, "fork", lambda _: {"timeline": 2, "fork_lsn": "0/3000000"})
    return asked


def answers(result):
    return lambda _vantage, host, address, port, _seconds: {"host": host, "address": f"{address}:{port}", "result": result}


def promote(standby, **changes):
    tail = [{"n": n, "reference": f"relevo-{n}", "at": clock.utc_now()} for n in range(3)]
    words = {
        "run_id": "run",
        "host": "b-db1",
        "old_hosts": [{"host": "a-db1", "address": "198.51.100.71", "port": 5432}],
        "ledger_tail": tail,
        "ledger_present_sql": "select reference from shop.ledger_entries",
        "data_directory": "/nowhere",
        "timeout_seconds": 1.0,
    }
    return standby_promote.promote(defaultdict(lambda: None, {**words, **changes}), standby)


ALL = Standby([f"relevo-{n}" for n in range(3)])


def intents():
    return [entry for entry in host_files.read_journal() if entry["kind"] == "intent"]


def test_a_silent_old_host_and_no_loss_is_promoted_once(promoted):
    assert promote(ALL)["loss"]["transactions"] == 0
    assert promoted == [1]
    assert len(intents()) == 1


def test_an_old_host_that_answers_after_its_fence_stops_the_promotion(promoted, monkeypatch):
    monkeypatch.setattr(standby_promote, "probe", answers("answers"))
    with pytest.raises(standby_promote.Stop, match=r"198\.51\.100\.71:5432 still answers .*Next:"):
        promote(ALL)
    assert promoted == intents() == []


def test_a_loss_that_nobody_accepted_stops_the_promotion(promoted):
    with pytest.raises(standby_promote.Stop, match=r"2 acknowledged ledger transactions .*Next:") as stopped:
        promote(Standby(["relevo-0"]))
    assert stopped.value.loss.numbers == (1, 2)
    assert promoted == intents() == []
    promote(Standby(["relevo-0"]), accept_loss_transactions=2)
    assert promoted == [1]


def test_a_primary_keeps_no_challenge_that_somebody_could_answer(promoted, monkeypatch):
    monkeypatch.setitem(SERVER, "in_recovery", False)
    host_files.write_challenge({"nonce": "n", "run_id": "run"})
    promote(ALL)
    assert host_files.read_challenge() is None
    assert promoted == []


def test_a_loss_of_the_whole_tail_is_in_no_bound(promoted):
    """Behind the oldest entry of the tail there may be more."""
    with pytest.raises(standby_promote.Stop, match=r"none of the newest 3 .*Next: .*dr_accept_unknown=LOSS") as stopped:
        promote(Standby(), accept_loss_transactions=2000)
    assert stopped.value.loss.numbers == (0, 1, 2)
    assert promoted == intents() == []
    assert promote(Standby(), accept_unmeasured=True)["loss"]["transactions"] == 3
    assert promoted == [1]


def test_a_loss_that_cannot_be_measured_stops_the_promotion(promoted):
    with pytest.raises(standby_promote.Stop, match="cannot be measured"):
        promote(ALL, ledger_tail=None)
    assert promoted == intents() == []
    promote(ALL, ledger_tail=None, accept_unmeasured=True)
    assert promoted == [1]


def test_a_token_that_is_not_believed_stops_the_promotion(promoted, monkeypatch):
    def forged(*_):
        message = "the token's signature is not good"
        raise promotion_token.TokenError(message)

    monkeypatch.setattr(standby_promote, "check_token", forged)
    with pytest.raises(promotion_token.TokenError):
        promote(ALL)
    assert promoted == intents() == []


def test_a_promotion_ends_what_a_rebuild_once_said_of_the_data(promoted):
    host_files.write_build({"run_id": "F1", "restored": True, "method": "rewind", "data_directory": "/nowhere"})
    promote(ALL)
    assert promoted == [1]
    assert host_files.read_build() is None


def test_a_host_that_did_not_answer_the_drain_a_moment_ago_is_asked_for_a_shorter_time(promoted, monkeypatch):
    asked = []

    def probe(_vantage, host, _address, _port, seconds):
        asked.append(seconds)
        return {"host": host, "result": "silent"}

    def asked_after(**challenge):
        asked.clear()
        now = clock.boottime_seconds()
        drained = {"run_id": "run", "boot_id": clock.boot_id(), "boottime": now, "probed_boottime": now - 1}
        host_files.write_challenge({**drained, "probes": [{"host": "a-db1", "result": "silent"}], **challenge})
        promote(ALL)
        return asked[0]

    monkeypatch.setattr(standby_promote, "probe", probe)
    assert asked_after() < 0.2
    for other in (
        {"probes": [{"host": "a-db1", "result": "refused"}]},
        {"probes": [{"host": "a-db2", "result": "silent"}]},
        {"probed_boottime": clock.boottime_seconds() - 6},
        {"probed_boottime": clock.boottime_seconds() + 6},
        {"boot_id": "another"},
        {"run_id": "another"},
    ):
        assert asked_after(**other) == PATIENCE_SECONDS, other
    assert len(promoted) == 7
