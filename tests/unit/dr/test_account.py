"""The judgement over the account: a loss that cannot be judged is unknown, never within its bound."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.action.account import ActionModule
from ansible_collections.relevo.dr.plugins.lookup import run

BOUNDS = {"accept_loss_seconds": None, "accept_loss_transactions": None, "accept_unknown": []}


def judged(measures: dict, restore: dict | None = None, **inputs: object) -> dict[str, str]:
    kept = {"plan": {"promote": "b-db1", "restore": restore}, "inputs": {**BOUNDS, **inputs}}
    action = ActionModule.__new__(ActionModule)
    action.control = SimpleNamespace(read=kept.__getitem__)
    action._task = SimpleNamespace(args={"measures": measures})
    gates = action.act()["ansible_stats"]["data"]["relevo"]["gates"]
    return {gate["id"]: gate["verdict"] for gate in gates}


def measures(lost: int = 0, rpo_seconds: float | None = 0.0) -> dict:
    return {
        "first_write_at": "2026-11-24T03:00:00.000000Z",
        "outage_seconds": 4.2,
        "rpo_seconds": rpo_seconds,
        "ledger": {"lost": lost, "acknowledged": 100},
        "writable_overlap_seconds": 0,
    }


def test_nothing_lost_passes():
    assert set(judged(measures()).values()) == {"pass"}


@pytest.mark.parametrize(
    ("lost", "rpo", "bounds", "verdict"),
    [
        (1, 0.5, {}, "fail"),
        (3, 2.0, {"accept_loss_seconds": 5.0}, "pass"),
        (3, 9.0, {"accept_loss_seconds": 5.0}, "fail"),
        (3, 2.0, {"accept_loss_seconds": 5.0, "accept_loss_transactions": 2}, "fail"),
        # The oldest entry that is known is missing too: nobody knows since when, or how many.
        (3, None, {"accept_loss_transactions": 3}, "unknown"),
        (3, None, {"accept_loss_seconds": 5.0}, "unknown"),
        (4, None, {"accept_loss_transactions": 3}, "fail"),
    ],
)
def test_a_loss_is_held_against_every_bound_that_was_given(lost, rpo, bounds, verdict):
    assert judged(measures(lost, rpo), **bounds)["LOSS"] == verdict


def test_what_a_restore_loses_by_wish_may_be_accepted_by_name():
    assert judged(measures(30, 600.0), {"label": "20261124-000000F"}, accept_unknown=["LOSS"])["LOSS"] == "accepted"
    assert judged(measures(30, 600.0), accept_unknown=["LOSS"])["LOSS"] == "fail"


def test_a_loss_whose_beginning_nobody_knows_may_be_accepted_by_name():
    assert judged(measures(2000, None), accept_loss_seconds=5.0, accept_unknown=["LOSS"])["LOSS"] == "accepted"


def test_without_a_witness_nothing_is_known_until_it_is_accepted_by_name():
    assert set(judged({}).values()) == {"unknown"}
    assert set(judged({}, accept_unknown=["LOSS"]).values()) == {"accepted"}


def last_position(*seen: dict) -> str:
    observers = {
        str(number): {"reachable": True, "facts": {"last_accepted": {"a-db1": event}}} for number, event in enumerate(seen)
    }
    return run.last_seen(SimpleNamespace(read_all=lambda _: observers), ["a-db1"])


def test_an_observer_that_was_cut_off_before_it_heard_the_position_does_not_name_one():
    cut_off = {"at": "2026-11-24T03:00:02.000000Z", "flush_lsn": None}
    earlier = {"at": "2026-11-24T03:00:01.000000Z", "flush_lsn": "0/5000000"}
    assert last_position(cut_off) == ""
    assert last_position(cut_off, earlier) == "0/5000000"


def accounted(promotion: dict, proofs: dict, **turns: dict) -> list[dict]:
    """The proofs that the account of a run rests on. turns: what the journals of the hosts say."""
    kept = {
        "plan": {"promote": "b-db1", "fence": [], "follow": ["a-db1"], "planned": False, "began_at": "2026-11-24T03:00:00.000000Z"},
        "landscape": {"began": {"at": "2026-11-24T03:01:00.000000Z"}},
        "handover/promoted": {"promoted_at": "2026-11-24T03:01:10.000000Z", "fork_lsn": "0/3000000", **promotion},
        "inputs": {"failed_at": None},
    }
    kept |= {
        f"database/{host}": {"settings": {"name": host}, "facts": {"host": {"last_turn": turns.get(host[0], {})}}}
        for host in ("a-db1", "b-db1")
    }
    several = {"handover/proof": proofs}
    return run.account(SimpleNamespace(read=kept.__getitem__, read_all=lambda name: several.get(name, {})))["proofs"]


def test_what_a_dead_run_proved_counts_for_the_one_that_goes_on():
    """By then nobody is left to be stopped or promoted: only the journals know that somebody was."""
    a, b = {"stopped_at": "2026-11-24T03:00:05.000000Z"}, {"promotion_began_at": "2026-11-24T03:00:06.000000Z"}
    assert accounted({"already": True, "promotion_began_at": None}, {}, a=a, b=b) == [
        {"address": "a-db1", "class": "stopped", "at": "2026-11-24T03:00:05.000000Z"},
        {"address": "b-db1", "class": "in_recovery", "until": "2026-11-24T03:00:06.000000Z"},
    ]


def test_what_this_run_proved_itself_comes_first():
    proof = {"class": "powered_off", "at": "2026-11-24T03:01:05.000000Z"}
    a = {"stopped_at": "2026-11-24T03:00:05.000000Z"}
    promotion = {"already": False, "promotion_began_at": "2026-11-24T03:01:09.000000Z"}
    # What the promoted host was in an earlier life proves nothing of this one.
    assert accounted(promotion, {"a-db1": proof}, a=a, b=a) == [
        {"address": "a-db1", **proof},
        {"address": "b-db1", "class": "in_recovery", "until": "2026-11-24T03:01:09.000000Z"},
    ]
    assert accounted({"already": True, "promotion_began_at": None}, {}) == []
