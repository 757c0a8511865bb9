"""Repositories that were restored one by one to the same target: the same point, another one, or not known."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.restore_alike import gates

COMMIT, LATER = "2026-11-27T02:58:30.000000Z", "2026-11-27T02:58:31.000000Z"


def of(repository, lsn="0/5000148", commit=COMMIT, *, kind="time", target_reached="pass"):
    return {
        "repository": repository,
        "label": f"20261127-02000{repository}F",
        "target_kind": kind,
        "target": f"{kind} x",
        "replayed_to_lsn": lsn,
        "last_commit_at": commit,
        "rungs": [{"id": "R4", "verdict": "pass"}, {"id": "R5", "verdict": target_reached}],
    }


@pytest.mark.parametrize(
    ("tests", "verdict"),
    [
        ([of(1), of(2)], "pass"),
        # Nothing was committed after the end of the second one's backup.
        ([of(1), of(2, commit=None)], "pass"),
        ([of(1), of(2, lsn="0/5000100")], "fail"),
        ([of(1), of(2, commit=LATER)], "fail"),
        ([of(1), of(1), of(2), of(2, lsn="0/5000100")], "fail"),
        ([of(1), of(2, target_reached="fail")], "unknown"),
        ([of(1), of(2, lsn=None)], "unknown"),
        ([of(1, kind="end"), of(2, kind="end")], "pass"),
        ([of(1, kind="end"), of(2, lsn="0/6000000", commit=LATER, kind="end")], "not_applicable"),
        # An older backup of a left timeline, which comes to the end of that one.
        ([of(1, kind="end"), of(1, lsn="0/4000000", kind="end"), of(2, kind="end")], "pass"),
    ],
)
def test_each_repository_alone_must_lead_to_the_same_point(tests, verdict):
    (gate,) = gates(tests, "b-scratch")
    assert gate["verdict"] == verdict
    assert bool(gate["next_action"]) == (verdict != "pass")
    assert all(f"of repository {number}" in gate["observed"] for number in (1, 2))


@pytest.mark.parametrize("tests", [[], [of(1)], [of(1), of(1, lsn="0/4000000")]])
def test_one_repository_is_compared_with_nothing(tests):
    assert gates(tests, "b-scratch") == []
