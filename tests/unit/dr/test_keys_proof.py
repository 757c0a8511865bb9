"""G15: when keys were last proven to come back, from records alone, never better than they are."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import keys_proof
from ansible_collections.relevo.dr.plugins.module_utils.gates import Limits, blocking
from ansible_collections.relevo.dr.plugins.module_utils.past_proofs import Past

from tests.unit.dr.test_past_proofs import DAY, LONG_AGO, NOW, record

LIMIT = Limits().keys_proof_age_seconds
PAST = Past(NOW, protected_since=LONG_AGO)


def recovered(run_id, days, verdict="passed", paths=("safe by operator", "safe by shares"), **keys):
    return record(run_id, days, verdict, keys={"paths": [{"name": name} for name in paths], **keys})


@pytest.mark.parametrize(
    ("records", "verdict", "words"),
    [
        ([recovered("k1", 106, lost_site="a")], "pass", "106 d ago by run k1, without site a, by 2 ways"),
        ([recovered("k1", 1)], "pass", "with every site there"),
        ([recovered("k1", 108, lost_site="a")], "fail", "108 d ago by run k1"),
        ([recovered("k2", 1, "failed"), recovered("k1", 5)], "pass", "the newest one, run k2, ended as failed"),
        ([recovered("k1", 1, "partial")], "fail", "never: no passed recover_keys in this store"),
        ([recovered("k1", 1, paths=())], "fail", "never"),
        ([record("k1", 1)], "fail", "never"),
        ([], "fail", "never"),
        # Its controller's clock was a year ahead.
        ([recovered("k2", -365), recovered("k1", 108)], "fail", "108 d ago by run k1"),
    ],
)
def test_it_asks_for_a_test_that_passed_and_is_not_too_old(records, verdict, words):
    gate = keys_proof.gate(records, PAST, LIMIT)
    assert (gate.id, gate.verdict) == ("G15", verdict)
    assert words in gate.observed
    assert ("relevo run recover_keys" in gate.next_action) == (verdict == "fail")
    assert blocking([gate]) == []


def test_a_cluster_that_is_younger_than_the_limit_is_not_late():
    assert keys_proof.gate([], Past(NOW, protected_since=NOW - 106 * DAY), LIMIT).verdict == "not_applicable"
    assert keys_proof.gate([], Past(NOW, protected_since=NOW - 108 * DAY), LIMIT).verdict == "fail"


def test_a_store_that_does_not_answer_is_unknown_and_no_proof():
    gate = keys_proof.gate([], Past(NOW, unreadable="The store x cannot be used: refused"), LIMIT)
    assert (gate.verdict, gate.next_action) == ("unknown", "look at RELEVO_STORE")
    assert "not known: The store x" in gate.observed
