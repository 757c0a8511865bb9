"""The lock is given back once the run is accounted for, and not before."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.action.lock import ActionModule
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control

MADE = {"dr_ledger_measures": {"ansible_stats": {"data": {}}}}


@pytest.fixture
def free(tmp_path):
    """Give a host's part back, after a run that promoted or had nothing to do; known: what the witness said."""

    def run(known, *, promoted=True, reachable=True, accounted=True, host="b-db1"):
        control = Control("20261128T054249Z-switchover-666f", str(tmp_path))
        control.write("witness/wit1", {"reachable": reachable})
        if promoted:
            control.write("handover/promoted", {"timeline": 2})
        action = ActionModule.__new__(ActionModule)
        action._task = SimpleNamespace(args={"state": "free", "accounted": accounted})
        action.host, action.control, action.variables = host, control, {"hostvars": {"wit1": known}}
        asked = []
        action.ask = lambda module, arguments: asked.append((module, arguments["state"])) or {}
        return action._free("b-db1"), asked

    return run


@pytest.mark.parametrize("known", [{}, {"dr_ledger_measures": {"unreachable": True}}], ids=["never asked", "fell silent"])
def test_a_run_whose_witness_was_lost_keeps_its_lock(free, known):
    """Or nobody would know that it is unfinished, and its account would never be made."""
    answer, asked = free(known)
    assert answer["failed"] and asked == []
    assert "wit1 made no account of it. Next: bring wit1 back" in answer["msg"]


def test_the_others_keep_theirs_and_leave_the_words_to_one(free):
    answer, asked = free({}, host="a-app1")
    assert answer == {"msg": "keeps its part of the lock, as b-db1 tells"} and asked == []


@pytest.mark.parametrize(
    ("known", "about"),
    [(MADE, {}), ({}, {"promoted": False}), ({}, {"reachable": False}), ({}, {"accounted": False})],
    ids=[
        "accounted for",
        "nothing was promoted",
        "no witness from the start, as was accepted",
        "a failback, which hands nothing over",
    ],
)
def test_otherwise_it_is_given_back(free, known, about):
    answer, asked = free(known, **about)
    assert not answer["failed"] and asked == [("relevo.dr.run_lock", "free")]
