"""What a rehearsal says of a recovery: the time until a user is let in, without the proofs; nothing where nobody was."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.rehearsal import measures, proven_loss

BEGAN = "2026-11-27T03:00:00.000000Z"
SECONDS = {"R1": 1.0, "R2": 20.0, "R3": 30.0, "R4": 5.0, "R5": 0.5, "R6": 60.0, "R7": 2.0, "R8": 3.0, "LEDGER": 0.0}


def a_test(**changed):
    rungs = [{"id": name, "verdict": changed.get(name, "pass"), "seconds": seconds} for name, seconds in SECONDS.items()]
    return {
        "rungs": rungs,
        "delta": changed.get("delta", False),
        "last_commit_at": changed.get("commit", "2026-11-27T02:58:30.000000Z"),
    }


def test_the_proofs_are_not_on_the_clock_and_everything_else_is():
    found = measures(a_test(), BEGAN, 130.0)
    assert found["rto_seconds"] == pytest.approx(130.0 - 82.5)
    assert found["rpo_seconds"] == 90.0
    assert found["t0_at"] == BEGAN


@pytest.mark.parametrize("changed", [{"R8": "fail"}, {"R8": "unknown"}])
def test_a_user_who_was_not_let_in_is_no_recovery(changed):
    found = measures(a_test(**changed), BEGAN, 130.0)
    assert (found["rto_seconds"], found["rpo_seconds"]) == (None, None)


def test_a_copy_that_was_brought_up_to_date_says_nothing_of_the_time():
    found = measures(a_test(delta=True), BEGAN, 130.0)
    assert found["rto_seconds"] is None
    assert found["rpo_seconds"] == 90.0


def test_without_a_commit_the_backups_end_is_what_is_there():
    bare = a_test(commit=None)
    assert measures(bare, BEGAN, 130.0)["rpo_seconds"] is None
    assert measures({**bare, "backup_stopped_at": "2026-11-27T02:00:00.000000Z"}, BEGAN, 130.0)["rpo_seconds"] == 3600.0
    assert measures({}, BEGAN, 1.0)["rto_seconds"] is None


READ = {"kind": "end", "read_at": "2026-11-27T03:00:00.000000Z", "backup_stopped_at": "2026-11-27T02:00:00.000000Z"}


@pytest.mark.parametrize(
    ("read", "verdict", "seconds"),
    [
        ({**READ, "end_commit_at": "2026-11-27T02:58:30.000000Z"}, "pass", 90.0),
        ({**READ, "end_commit_at": None}, "pass", 3600.0),
        ({**READ, "end_commit_at": "2026-11-27T03:00:01.000000Z"}, "pass", 0.0),
        ({**READ, "end_commit_at": "2026-11-27T02:58:30.000000Z"}, "fail", None),
        ({**READ, "end_commit_at": "2026-11-27T02:58:30.000000Z", "kind": "time"}, "pass", None),
    ],
)
def test_a_restore_to_the_end_states_what_would_be_lost_and_no_other_does(read, verdict, seconds):
    assert proven_loss(read, [{"id": "R4", "verdict": "pass"}, {"id": "R5", "verdict": verdict}]) == seconds
