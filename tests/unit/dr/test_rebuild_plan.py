"""Which way data come back: what is possible, quickest first; and never twice by a rewind that did not end."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.rebuild_plan import DELTA, FULL, REWIND, order, shown, ways
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


def test_the_choice_is_shown_with_its_reasons():
    told = shown(found(delta="no store"))
    assert told[DELTA]["obstacle"] == "no store"
    assert told[REWIND]["predicted_seconds"] < told[FULL]["predicted_seconds"]
