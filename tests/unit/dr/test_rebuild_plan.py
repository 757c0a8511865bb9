"""Which way data come back: what is possible, quickest first; and never twice by a rewind that did not end."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.parting import line
from ansible_collections.relevo.dr.plugins.module_utils.rebuild_plan import (
    DELTA,
    FULL,
    REWIND,
    backup_of,
    nothing_to_do,
    order,
    shown,
    standing,
    ways,
)
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

GIB = 1 << 30


def found(**obstacles):
    return ways(obstacles, 64 << 20, 100 * GIB, 100 * GIB)


def test_little_wal_on_much_data_is_rewound():
    assert order(found(), "", None, "a-db1") == [REWIND, DELTA, FULL]


def test_much_wal_on_little_data_is_copied():
    assert order(ways({}, 100 * GIB, GIB, GIB), "", None, "a-db1")[-1] == REWIND


def test_what_is_not_possible_is_left_out():
    assert order(found(rewind="permission denied for function pg_ls_dir"), "", None, "a-db1") == [DELTA, FULL]


def test_the_operators_word_is_the_only_method():
    assert order(found(), FULL, None, "a-db1") == [FULL]
    with pytest.raises(Refusal, match="no checksums"):
        order(found(rewind="no checksums"), REWIND, None, "a-db1")


def test_a_rewind_that_did_not_end_is_not_taken_up_again():
    half = {"method": REWIND, "restored": False}
    assert order(found(), "", half, "a-db1") == [DELTA, FULL]
    with pytest.raises(Refusal, match="did not end"):
        order(found(), REWIND, half, "a-db1")
    with pytest.raises(Refusal, match="no store; full: no room"):
        order(found(delta="no store", full="no room"), "", half, "a-db1")


def test_a_restore_that_did_not_end_is_begun_again():
    assert order(found(rewind="x"), "", {"method": DELTA, "restored": False}, "a-db1") == [DELTA, FULL]


def test_what_was_restored_once_is_no_old_primary_to_rewind():
    """An operator who wants another way gets it, where the one that came to its end leads nowhere."""
    ended = {"method": DELTA, "restored": True}
    assert order(found(), FULL, ended, "a-db1") == [FULL]
    assert order(found(), "", ended, "a-db1") == [DELTA, FULL]
    with pytest.raises(Refusal, match="a rebuild by delta that came to its end"):
        order(found(), REWIND, ended, "a-db1")


def test_the_operators_word_is_carried_out_on_data_that_would_do():
    ended = {"method": DELTA, "restored": True}
    assert nothing_to_do(ended, "", "diverged")
    assert nothing_to_do(None, "", None)
    assert not nothing_to_do(None, "", "diverged")
    assert not nothing_to_do({"method": REWIND, "restored": False}, "", None)
    assert not nothing_to_do(ended, FULL, None)


def mark(**changed):
    return {"run_id": "run", "data_directory": "/d", "restored": True, "method": DELTA, **changed}


def test_a_mark_speaks_for_its_own_runs_and_for_data_that_only_followed_since():
    assert standing(mark(), ["run", "before"], "/d", followed=True)
    assert standing(mark(), ["later", "run"], "/d", followed=True)
    assert standing(mark(), ["later"], "/d", followed=True) is None
    assert standing(mark(), ["run"], "/d", followed=False) is None
    assert standing(mark(), ["run"], "/elsewhere", followed=True) is None
    assert standing(None, ["run"], "/d", followed=True) is None


def test_what_did_not_end_is_not_started_whoever_began_it():
    assert standing(mark(restored=False), ["later"], "/d", followed=False)


def backup(label, timeline, stop, repository=1, **more):
    archive = {"start": "%08X0000000000000003" % timeline}
    at = {"stop": int(label[:8])}
    return {
        "label": label,
        "archive": archive,
        "lsn": {"stop": stop},
        "timestamp": at,
        "database": {"repo-key": repository},
        **more,
    }


def test_the_restored_backup_leads_to_the_primarys_timeline():
    """The newest may be the cut-off primary's own, taken behind the fork."""
    theirs = line(2, [{"timeline": 1, "lsn": "0/5000000"}])
    old, ours, new = (
        backup("20261120-000000F", 1, "0/4000000"),
        backup("20261124-000000F", 1, "0/6000000", 2),
        backup("20261123-000000F", 2, "0/7000000"),
    )
    assert backup_of(theirs, [], [old, ours]) == (1, old["label"])
    assert backup_of(theirs, [], [old, new, ours]) == (1, new["label"])
    assert backup_of(theirs, [], [{**new, "error": True}, old]) == (1, old["label"])
    assert backup_of(theirs, [], [ours]) is None
    # Whose timeline 2 it is, if there are two, its number does not tell.
    assert backup_of(theirs, [2], [old, new]) == (1, old["label"])


def test_the_choice_is_shown_with_its_reasons():
    told = shown(found(delta="no store"))
    assert told[DELTA]["obstacle"] == "no store"
    assert told[REWIND]["predicted_seconds"] < told[FULL]["predicted_seconds"]
