"""The second person's word: of another person, under this very plan, not too old, and signed with the key that the inventory knows."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import approval
from ansible_collections.relevo.dr.plugins.module_utils.inputs import Inputs
from ansible_collections.relevo.dr.plugins.plugin_utils import approvals

from relevo import approve
from relevo.errors import RelevoError, UsageError
from relevo.paths import Place

from .test_reopening import PLAN

NOW = datetime(2026, 11, 27, 3, 0, tzinfo=UTC)
INPUTS = Inputs(mode="disaster", scope="site", target_site="b", accept_loss_seconds=5.0, accept_unknown=("G09",))
ASKED = approval.subject("failover", "shop", PLAN, INPUTS)
PEOPLE = [approval.Approver("mira", "mira", "k1"), approval.Approver("jan", "jk", "k2")]


def said(approver="mira", seconds_ago=60.0, digest=None):
    at = (NOW - timedelta(seconds=seconds_ago)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return approval.Statement(digest or approval.digest(ASKED), approver, at)


def judged(*statements, asked=ASKED, operator="ops"):
    now = NOW.strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return approval.judge(asked, statements, PEOPLE, operator, now, 3600, "20261127T030000Z-failover-1f3a")


def test_another_persons_word_passes():
    gate = judged(said())
    assert (gate.id, gate.verdict) == ("APPROVAL", "pass")
    assert "mira" in gate.observed


@pytest.mark.parametrize(
    ("statements", "operator", "words"),
    [
        ([], "ops", "no approval of plan"),
        ([said(digest="0" * 64)], "ops", "no approval of plan"),
        ([said("stranger")], "ops", "no approval of plan"),
        ([said("jan")], "jk", "jk asked for it and approved it"),
        ([said(seconds_ago=3601)], "ops", "3601 s old"),
        ([said(seconds_ago=-600)], "ops", "-600 s old"),
    ],
    ids=["none", "another plan", "not an approver", "the same person", "too old", "from the future"],
)
def test_nothing_less_does(statements, operator, words):
    gate = judged(*statements, operator=operator)
    assert gate.verdict == "fail"
    assert words in gate.observed
    assert "relevo approve 20261127T030000Z-failover-1f3a" in gate.next_action


@pytest.mark.parametrize(
    "other",
    [
        approval.subject("failover", "shop", PLAN, replace(INPUTS, accept_loss_seconds=600.0)),
        approval.subject("failover", "shop", PLAN, replace(INPUTS, accept_unknown=("G09", "G16"))),
        approval.subject("failover", "shop", PLAN, replace(INPUTS, attest_dead=("a-db1",))),
        approval.subject("failover", "shop", replace(PLAN, fence=("a-db1", "a-db2")), INPUTS),
        approval.subject("failover", "shop", replace(PLAN, promote="b-db2"), INPUTS),
        approval.subject("failover", "store", PLAN, INPUTS),
        approval.subject("switchover", "shop", PLAN, INPUTS),
    ],
)
def test_a_word_is_of_one_plan_and_of_what_is_accepted_with_it(other):
    assert judged(said(), asked=other).verdict == "fail"


def test_who_is_alive_at_the_moment_changes_no_plan():
    later = replace(PLAN, primary=None, quiesce=(), resume=True, parent_run_id="x", began_at="y")
    assert approval.digest(approval.subject("failover", "shop", later, INPUTS)) == approval.digest(ASKED)


@pytest.fixture
def key(tmp_path):
    path = tmp_path / "mira"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path


def asked_of(place):
    """What a run keeps, read as the second person's command reads it."""
    directory = place.run_directory("20261127T030000Z-failover-1f3a") / "control"
    approvals.Control("run", str(directory.parent)).write("approval", {"subject": ASKED, "digest": approval.digest(ASKED)})
    return approve.read(place, directory.parent.name), directory / "approval.json"


def test_what_the_command_signs_is_what_the_run_looks_for(tmp_path, key):
    place = Place(tmp_path, "sqlite://")
    asked, _ = asked_of(place)
    path = approve.sign(asked, "mira", key, tmp_path / "approvals", NOW)
    known = approval.read_approvers([{"name": "mira", "key": key.with_suffix(".pub").read_text()}])
    [statement] = approvals.found(str(tmp_path / "approvals"), known)
    assert judged(statement).verdict == "pass"
    assert ("accept loss seconds", "5.0") in approve.sentences(asked)

    # Another person's key, an edited statement, no signature: none of them is a word.
    assert approvals.found(str(tmp_path / "approvals"), [approval.Approver("mira", "mira", PEOPLE[0].key)]) == []
    path.write_text(path.read_text().replace(asked.digest, "0" * 64))
    assert approvals.found(str(tmp_path / "approvals"), known) == []
    os.unlink(f"{path}.sig")
    assert approvals.found(str(tmp_path / "approvals"), known) == []


def test_what_a_job_shows_among_its_artifacts_can_be_signed_from_a_file(tmp_path):
    (tmp_path / "approval.json").write_text(json.dumps({"subject": ASKED, "digest": approval.digest(ASKED)}, indent=2))
    assert approve.read(Place(tmp_path, "sqlite://"), str(tmp_path / "approval.json")).digest == approval.digest(ASKED)


def test_a_request_that_was_edited_is_not_signed(tmp_path):
    place = Place(tmp_path, "sqlite://")
    _, path = asked_of(place)
    path.write_text(path.read_text().replace('"accept_loss_seconds": 5.0', '"accept_loss_seconds": 1.0'))
    with pytest.raises(RelevoError, match="not what it asks"):
        approve.read(place, str(path))
    with pytest.raises(UsageError, match="asks for no approval"):
        approve.read(place, "20261127T030000Z-failover-0000")
