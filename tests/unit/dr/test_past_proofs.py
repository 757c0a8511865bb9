"""To which second can be restored, and when was that last proven: from records alone, never said plainly, never better than they are."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.action import preflight
from ansible_collections.relevo.dr.plugins.module_utils import past_proofs
from ansible_collections.relevo.dr.plugins.module_utils.clock import utc
from ansible_collections.relevo.dr.plugins.module_utils.gates import Limits, blocking
from ansible_collections.relevo.dr.plugins.module_utils.past_proofs import Past, read
from ansible_collections.relevo.dr.plugins.plugin_utils import history
from hypothesis import given
from hypothesis import strategies as st

from relevo.errors import StoreError

DAY = 86400.0
NOON = datetime(2026, 11, 24, 12, tzinfo=timezone.utc)
NOW = NOON.timestamp()
LIMIT = Limits().proof_age_seconds
LONG_AGO = NOW - 400 * DAY


def record(run_id, days, verdict="passed", **measures):
    """Of a run that ended so many days ago."""
    gates = measures.pop("gates", [])
    return {
        "run_id": run_id,
        "verdict": verdict,
        "closed_at": utc(NOON - timedelta(days=days)),
        "measures": measures,
        "gates": gates,
    }


def restored(run_id, days, verdict="passed", rungs=("a user logs in",)):
    return record(run_id, days, verdict, restore_tests=[{"proven_up_to": rung} for rung in rungs])


def verified(run_id, days, verdict="passed", **changed):
    windows = {"1": {"restorable_from": NOW - 9 * DAY, "restorable_until": utc(NOON - timedelta(days=days))}}
    return record(run_id, days, verdict, **{"backup_verification": windows, **changed})


def proofs(*restore_tests, verifications=(), since=LONG_AGO):
    return read(verifications, restore_tests, since, NOW)


@pytest.mark.parametrize(
    ("restore_tests", "since", "verdict", "words"),
    [
        ([restored("r1", 34)], LONG_AGO, "pass", "34 d ago by run r1, up to: a user logs in"),
        ([restored("r1", 36)], LONG_AGO, "fail", "36 d ago by run r1"),
        ([restored("r2", 1, "failed"), restored("r1", 34)], LONG_AGO, "pass", "the newest one, run r2, ended as failed"),
        ([restored("r2", 1, "partial"), restored("r1", 36)], LONG_AGO, "fail", "run r2, ended as partial"),
        ([restored("r1", 1, "partial")], LONG_AGO, "fail", "never: no passed restore_test in this store"),
        ([], LONG_AGO, "fail", "never"),
        ([], None, "fail", "never"),
        ([], NOW - 34 * DAY, "not_applicable", "never: no passed restore_test in this store; protected since 2026-10-21"),
        ([], NOW - 36 * DAY, "fail", "never"),
        ([restored("r1", 1, rungs=())], LONG_AGO, "fail", "never"),
        # Its controller's clock was a year ahead.
        ([restored("r2", -365), restored("r1", 36)], LONG_AGO, "fail", "36 d ago by run r1"),
    ],
)
def test_g02_asks_for_a_restore_test_that_passed_and_is_not_too_old(restore_tests, since, verdict, words):
    gate = past_proofs.gate(proofs(*restore_tests, since=since), LIMIT)
    assert (gate.id, gate.verdict) == ("G02", verdict)
    assert words in gate.observed
    assert ("relevo run restore_test" in gate.next_action) == (verdict == "fail")


def test_a_store_that_does_not_answer_is_unknown_and_no_proof():
    gate = past_proofs.gate(Past(NOW, unreadable="The store x cannot be used: refused"), LIMIT)
    assert (gate.verdict, gate.next_action) == ("unknown", "look at RELEVO_STORE")
    assert "not known: The store x" in gate.observed
    assert "history_error" in past_proofs.told(Past(NOW, unreadable="x"))


def test_in_a_check_it_is_a_finding_and_stops_nothing():
    assert blocking([past_proofs.gate(proofs(), LIMIT, required=False)]) == []
    assert len(blocking([past_proofs.gate(proofs(), LIMIT)])) == 1


@pytest.mark.parametrize("runbook", ["failover", "switchover", "failback"])
def test_a_run_that_moves_the_service_reads_no_store(runbook, monkeypatch):
    monkeypatch.setattr(preflight.importlib, "import_module", lambda _: pytest.fail("it was read"))
    assert preflight.what_was_proven({"runbook": runbook, "cluster": "shop"}) is None


def test_a_check_reads_it(monkeypatch):
    monkeypatch.setattr(preflight.importlib, "import_module", lambda _: SimpleNamespace(past=lambda cluster: f"of {cluster}"))
    assert preflight.what_was_proven({"runbook": "check", "cluster": "shop"}) == "of shop"


def test_the_status_names_the_window_of_each_repository_and_the_last_proof():
    away = {"id": "REPOSITORY", "host": "repository 2 (x)", "verdict": "fail", "observed": "takes no connection"}
    verification = verified("v1", 0.125, "failed", gates=[away, {"id": "G05", "verdict": "fail", "host": "x", "observed": "y"}])
    told = past_proofs.told(proofs(restored("r1", 3, rungs=["a user logs in", "starts and replays"]), verifications=[verification]))
    assert json.loads(json.dumps(told)) == {
        "restorable": {
            "run_id": "v1",
            "at": "2026-11-24T09:00:00.000000Z",
            "age_seconds": 10800,
            "verdict": "failed",
            "repositories": {"1": {"from": "2026-11-15T12:00:00.000000Z", "until": "2026-11-24T09:00:00.000000Z"}},
            "unreadable": ["repository 2 (x): takes no connection"],
        },
        "restore_proven": {
            "run_id": "r1",
            "at": "2026-11-21T12:00:00.000000Z",
            "age_seconds": 259200,
            "verdict": "passed",
            "copies": 2,
            "proven_up_to": "a user logs in, starts and replays",
        },
    }
    assert past_proofs.told(proofs()) == {"restorable": None, "restore_proven": None}


def test_a_verification_that_never_came_to_the_repositories_is_passed_over_and_one_that_read_none_is_not():
    refused, empty = record("v2", 0, "refused"), verified("v1", 1, "failed", backup_verification={})
    assert past_proofs.told(proofs(verifications=[refused, empty]))["restorable"]["repositories"] == {}


@pytest.mark.parametrize(
    ("past", "expected"),
    [
        (proofs(restored("r1", 3), verifications=[verified("v1", 1)]), []),
        (proofs(since=NOW - DAY), []),
        (
            proofs(),
            [
                "the backups were never verified: run playbooks/verify_backup.yml",
                "a restore was never proven: run playbooks/restore_test.yml",
            ],
        ),
        (
            proofs(restored("r1", 40), verifications=[verified("v1", 3)]),
            [
                "the newest verification of the backups, run v1, is 3 d old: run playbooks/verify_backup.yml",
                "a restore was last proven 40 d ago: run playbooks/restore_test.yml",
            ],
        ),
        (
            proofs(restored("r2", 1, "failed"), restored("r1", 3), verifications=[verified("v1", 1, "failed")]),
            [
                "the newest verification of the backups, run v1, ended as failed: relevo results show v1",
                "the newest restore test, run r2, ended as failed: relevo results show r2",
            ],
        ),
        (Past(NOW, unreadable="gone"), ["look at RELEVO_STORE: gone"]),
    ],
)
def test_what_is_old_or_did_not_pass_is_said_with_what_to_do(past, expected):
    assert [action for _, action in past_proofs.lacks(past, Limits())] == expected


@given(st.lists(st.tuples(st.integers(-400, 400), st.sampled_from(["passed", "failed", "partial", "refused"])), max_size=8))
def test_it_passes_only_with_a_passed_run_of_the_last_days(runs):
    found = [restored(f"r{number}", days, verdict) for number, (days, verdict) in enumerate(sorted(runs))]
    expected = any(verdict == "passed" and 0 <= days <= 35 for days, verdict in runs)
    assert (past_proofs.gate(proofs(*found), LIMIT).verdict == "pass") is expected


def test_it_is_read_from_the_records_of_both_runbooks(monkeypatch):
    asked = {"verify_backup": [verified("v1", 0)], "restore_test": [restored("r1", 0)]}
    monkeypatch.setattr(history, "settled", lambda _cluster, runbook: asked[runbook])
    monkeypatch.setattr(history, "protected_since", lambda _cluster: 5.0)
    monkeypatch.setattr(history.time, "time", lambda: NOW)
    found = history.past("shop")
    assert (found.verified["run_id"], found.proven["run_id"], found.protected_since) == ("v1", "r1", 5.0)


def test_a_store_that_is_away_is_said(monkeypatch):
    def gone(_cluster, _runbook):
        message = "The store x cannot be used: refused."
        raise StoreError(message)

    monkeypatch.setattr(history, "settled", gone)
    assert history.past("shop").unreadable == "The store x cannot be used: refused"
