"""What a backup comes to in the record, and what a person sees while it is at work."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import backup_outcome as outcome

BACKUP = {
    "label": "20261125-030457F",
    "type": "full",
    "timestamp": {"start": 100, "stop": 110},
    "info": {"size": 5000, "delta": 4000, "repository": {"delta": 700}},
}
ATTEMPT = {"repository": 1, "outcome": "taken", "label": "20261125-030457F", "reason": None}


def judged(attempt=ATTEMPT, backup=BACKUP):
    return outcome.gate("a-db1", 1, attempt, backup, "relevo-backup-r.service")


def test_a_good_backup_passes_and_is_measured():
    assert judged()["verdict"] == "pass"
    assert judged()["host"] == "a-db1 repository 1"
    assert outcome.measure(BACKUP) == {
        "label": "20261125-030457F",
        "type": "full",
        "duration_seconds": 10.0,
        "size_bytes": 5000,
        "copied_bytes": 4000,
        "repository_bytes": 700,
        "bytes_per_second": 400,
    }


def test_from_where_it_was_copied_is_said_where_it_is_not_the_primary_as_ever():
    assert "copied" not in judged({**ATTEMPT, "copied_from": "primary"})["observed"]
    assert judged({**ATTEMPT, "copied_from": "standby b-db1"})["observed"].endswith(", copied from the standby b-db1")
    told = judged({**ATTEMPT, "copied_from": "primary, because b-db1: it is no standby"})
    assert told["observed"].endswith("copied from the primary, because b-db1: it is no standby")
    assert told["verdict"] == "pass"


def test_no_rate_is_made_up_where_none_was_measured():
    quick = {**BACKUP, "timestamp": {"start": 100, "stop": 100}}
    assert outcome.measure(quick)["bytes_per_second"] is None


@pytest.mark.parametrize(
    ("attempt", "backup", "says"),
    [
        (None, None, "ended without a word"),
        ({**ATTEMPT, "outcome": "skipped", "label": None, "reason": "held by daily-incr"}, None, "held by daily-incr"),
        (
            {**ATTEMPT, "outcome": "damaged", "reason": "page checksum errors in base/5/1"},
            BACKUP,
            "page checksum errors in base/5/1",
        ),
        (ATTEMPT, {**BACKUP, "error": True}, "page checksum errors"),
        ({**ATTEMPT, "outcome": "failed", "label": None, "reason": "no answer"}, None, "no answer"),
        (ATTEMPT, None, "not in the repository's list"),
        (ATTEMPT, {**BACKUP, "info": {"size": 0}}, "0 bytes"),
    ],
    ids=["vanished", "skipped", "damaged by its log", "damaged by the list", "failed", "not listed", "empty"],
)
def test_everything_else_fails_and_says_what_to_do(attempt, backup, says):
    gate = judged(attempt, backup)
    assert gate["verdict"] == "fail"
    assert says in gate["observed"]
    assert gate["next_action"]


def test_a_person_sees_how_far_it_is():
    known = {"repository": 1, "bytes": 512 << 20, "total_bytes": 1 << 30}
    assert outcome.progress_line(known, "full", 12.4) == "full backup into repository 1: 50.0 % of 1.0 GiB after 12 s"
    unknown = {"repository": 2, "bytes": None, "total_bytes": None}
    assert outcome.progress_line(unknown, "incr", 3) == "incr backup into repository 2: at work for 3 s"
