"""Promote or restore: what is found and what is asked for settle it, and where they do not, a sentence says so and nothing is chosen."""

from __future__ import annotations

import copy
import json
from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import approval, gates, way_out
from ansible_collections.relevo.dr.plugins.module_utils.gates import ACCEPTED, FAIL, PASS, Controller, Limits, blocking, evaluate
from ansible_collections.relevo.dr.plugins.module_utils.inputs import Inputs, check_extra_variables, read_inputs, wish
from ansible_collections.relevo.dr.plugins.module_utils.plan import make_plan, read_plan
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.status import status
from ansible_collections.relevo.dr.plugins.module_utils.way_out import AUTO, PROMOTE, RESTORE, Rate, Wish

from .conftest import SYSTEM, database, silent

CONTROLLER = Controller(forks=20, public_key="ssh-ed25519 AAAA", free_bytes=1 << 33)
AT = {"time": "2026-11-24T03:12:00Z"}
CHOICE = {
    "repository": 2,
    "label": "20261124-000000F",
    "size": 2_000_000_000,
    "timeline": 1,
    "target_timeline": "current",
    "kind": "end",
    "value": "",
    "target": "the end of the archive",
    "segments": 12,
    "end_lsn": "0/4000000",
    "end_commit_at": "2026-11-24T03:11:00.000000Z",
    "backup_stopped_at": "2026-11-24T00:00:10.000000Z",
    "committed_age_seconds": 64.0,
    "system_identifier": SYSTEM,
    "tails": {"1": "0/4000000"},
    "segment_bytes": 16 << 20,
}
TO_A_TIME = {**CHOICE, "kind": "time", "value": "2026-11-24 03:12:00.000000+00", "target": "time 2026-11-24 03:12:00.000000+00"}
LOOKED = {
    "choice": CHOICE,
    "refusal": None,
    "data": "absent",
    "configuration": True,
    "room_bytes": 1 << 40,
    "window": ["repository 2: all"],
}


def empty(**changed):
    """A target host whose data directory is gone."""
    found = database("standby")
    found["facts"]["cluster"] = {"state": "absent", "role": "none", "system_identifier": None, "timeline": None, **changed}
    return found


def stopped(state="shut down in recovery", **changed):
    return empty(
        state="stopped", system_identifier=SYSTEM, control={"Database cluster state": state}, standby_signal=False, **changed
    )


def begun(found, state="replaying", asked=None, **mark):
    """What a dead run left: in recovery like any standby."""
    found = copy.deepcopy(found)
    found["facts"]["host"]["restore"] = {"run_id": "dead", "state": state, "asked": asked or {}, "goal": CHOICE, **mark}
    return found


def at_b(landscape, found, looked=None, **others):
    """The landscape with these database hosts at the target site; what its repositories said, where they were asked."""
    hosts = {"a-db1": landscape.database["a-db1"], "b-db1": found, **others}
    return replace(
        landscape,
        database=hosts,
        groups={**landscape.groups, "dr_database": list(hosts)},
        sites={**landscape.sites, **dict.fromkeys(others, "b")},
        restore={host: LOOKED for host in hosts if host != "a-db1"} if looked is None else looked,
    )


def plan(landscape, asked=None):
    return make_plan(landscape, "b", "site", wish=asked or Wish(AUTO))


STANDBY = database("standby")
# name: (what is found at the target site, what is asked for, the way)
CHOSEN = {
    "a standby": ((STANDBY,), Wish(AUTO), PROMOTE),
    "a standby, and a target": ((STANDBY,), Wish(AUTO, AT), RESTORE),
    "a standby, and the word": ((STANDBY,), Wish(RESTORE), RESTORE),
    "a standby, by its word": ((STANDBY,), Wish(PROMOTE), PROMOTE),
    "nothing there": ((empty(),), Wish(AUTO), RESTORE),
    "a stopped standby, by the word": ((stopped(),), Wish(RESTORE), RESTORE),
    "a crashed standby, by the word": ((stopped("in archive recovery"),), Wish(RESTORE), RESTORE),
    "a dead run's server that replays": ((begun(STANDBY),), Wish(AUTO), RESTORE),
    "a dead run's server at its goal": ((begun(STANDBY, "reached"),), Wish(AUTO), RESTORE),
    "a dead run's half restored files": ((begun(empty(), "restoring"),), Wish(AUTO), RESTORE),
    "a dead run's server that starts": ((begun(empty(state="unresponsive", error="starting up")),), Wish(AUTO), RESTORE),
    "a restore that was promoted once": ((begun(STANDBY, "promoted"),), Wish(AUTO), PROMOTE),
    "a silent neighbour, by the word": ((empty(), silent()), Wish(RESTORE), RESTORE),
    "a neighbour, beside one that was begun": ((begun(STANDBY), empty()), Wish(AUTO), RESTORE),
}


@pytest.mark.parametrize(("found", "asked", "path"), CHOSEN.values(), ids=CHOSEN)
def test_the_way_that_is_taken(landscape, found, asked, path):
    made = plan(at_b(landscape, found[0], **{"b-db%d" % n: host for n, host in enumerate(found[1:], 2)}), asked)
    assert (made.promote, made.path, made.restore is not None) == ("b-db1", path, path == RESTORE)
    assert read_plan(json.loads(json.dumps(made.as_dict()))) == made
    assert set(made.fence) == {"a-db1", *("b-db%d" % n for n in range(2, len(found) + 1))}


REFUSED = {
    "a silent host may be the standby": ((silent(),), Wish(AUTO), "G08 on b-db1.*let b-db1 answer.*dr_path=restore"),
    "one of two is silent": ((empty(), silent()), Wish(AUTO), "let b-db2 answer"),
    "PostgreSQL hangs": ((empty(state="unresponsive", error="no answer"),), Wish(AUTO), "let b-db1 answer"),
    "a stopped standby has more than an archive": ((stopped(),), Wish(AUTO), "start PostgreSQL on b-db1"),
    "two standbys": ((STANDBY, STANDBY), Wish(AUTO), "exactly one running standby"),
    "no standby, by the word": ((empty(),), Wish(PROMOTE), "exactly one running standby"),
    "half restored, by the word": ((begun(STANDBY),), Wish(PROMOTE), "restore of run dead that is not promoted.*without dr_path"),
    "silent, by the word": ((silent(),), Wish(RESTORE), "b-db1 does not answer"),
    "hangs, by the word": ((empty(state="unresponsive", error="no answer"),), Wish(RESTORE), "does not answer"),
    "a stopped primary": ((stopped("in production"),), Wish(RESTORE), "holds a stopped primary.*failback"),
    "another cluster": ((stopped(),), Wish(RESTORE), "holds another cluster"),
    "two places": ((STANDBY, STANDBY), Wish(RESTORE), "restored on b-db1 and b-db2"),
    "unreadable": ((empty(state="stopped", control_error="bad checksum"),), Wish(RESTORE), "bad checksum"),
}


@pytest.mark.parametrize(("found", "asked", "says"), REFUSED.values(), ids=REFUSED)
def test_where_it_is_not_plain_nothing_is_chosen(landscape, found, asked, says):
    found = copy.deepcopy(found)
    if "another" in says:
        found[0]["facts"]["cluster"]["system_identifier"] = "77"
    with pytest.raises(Refusal, match=f"(?s){says}"):
        plan(at_b(landscape, found[0], **{"b-db%d" % n: host for n, host in enumerate(found[1:], 2)}), asked)


@pytest.mark.parametrize(
    ("place", "value", "says"),
    [
        (("host", "fence"), {"run_id": "r7"}, "is fenced by r7"),
        (("guard", "held"), {"reason": "alone"}, "held read-only by its guard"),
    ],
)
def test_a_host_that_is_held_is_no_place_for_a_restore(landscape, place, value, says):
    found = empty()
    found["facts"].setdefault(place[0], {})[place[1]] = value
    with pytest.raises(Refusal, match=says):
        plan(at_b(landscape, found))


@pytest.mark.parametrize(
    ("looked", "says"),
    [
        ({"b-db1": {**LOOKED, "configuration": False}}, "has no configuration"),
        ({"b-db1": {**LOOKED, "data": "partial"}}, "are of no cluster"),
        ({}, "were not asked"),
        ({"b-db1": {"error": "the module failed"}}, "the module failed"),
        (
            {
                "b-db1": {
                    **LOOKED,
                    "choice": None,
                    "refusal": {"observed": "it is in the future", "expected": "e", "next_action": "n"},
                }
            },
            r"it is in the future.*Restorable: repository 2: all",
        ),
    ],
)
def test_what_cannot_be_restored_is_said_with_what_can(landscape, looked, says):
    with pytest.raises(Refusal, match=says):
        plan(at_b(landscape, empty(), looked))


def test_what_a_dead_run_was_asked_for_is_gone_on_with_unless_something_else_is_asked_for(landscape):
    left = at_b(landscape, begun(STANDBY, asked=AT))
    assert plan(left).restore["asked"] == AT
    assert plan(left, Wish(AUTO, {"lsn": "0/3000000"})).restore["asked"] == {"lsn": "0/3000000"}
    assert plan(left, Wish(RESTORE)).restore["asked"] == {}


def test_a_switchover_and_a_check_take_no_half_restored_server_for_a_standby(landscape):
    with pytest.raises(Refusal, match="not promoted"):
        make_plan(at_b(landscape, begun(STANDBY)), "b", "site", planned=True)


def test_the_repositories_are_asked_only_where_an_answer_is_needed(landscape):
    hosts = ["b-db1"]
    assert not way_out.wants_restore(landscape, hosts, Wish(AUTO))
    assert not way_out.wants_restore(at_b(landscape, empty()), hosts, Wish(PROMOTE))
    assert not way_out.wants_restore(at_b(landscape, database("primary")), hosts, Wish(RESTORE))
    assert way_out.wants_restore(landscape, hosts, Wish(AUTO, AT))
    assert way_out.wants_restore(at_b(landscape, empty()), hosts, Wish(AUTO))
    assert way_out.wants_restore(at_b(landscape, begun(STANDBY)), hosts, Wish(AUTO))


def test_a_primary_is_never_restored_over(landscape):
    over = at_b(landscape, database("primary"))
    over = replace(over, database={**over.database, "a-db1": silent()})
    assert plan(over).done
    with pytest.raises(Refusal, match="it is the primary"):
        plan(over, Wish(RESTORE))
    done = replace(over, database={**over.database, "b-db1": begun(database("primary"), "promoted", AT)})
    assert plan(done, Wish(AUTO, AT)).done, "the same command once more has nothing to do"
    with pytest.raises(Refusal, match="it is the primary"):
        plan(done, Wish(AUTO, {"time": "2026-11-24T03:13:00Z"}))


def test_the_system_is_that_of_the_repository_where_there_is_none(landscape):
    assert plan(at_b(landscape, empty())).system_identifier == SYSTEM


# -- the operator's words --

WORDS = {"dr_mode": "drill", "dr_scope": "site", "dr_target_site": "b"}


def test_the_words_of_restore_tests_are_those_of_a_failover():
    given = check_extra_variables({**WORDS, "dr_path": "restore", "dr_restore_target_time": AT["time"], "dr_restore_timeline": "1"})
    inputs = read_inputs(given)
    assert (inputs.path, inputs.restore) == (RESTORE, {**AT, "timeline": "1"})
    assert wish(given) == Wish(RESTORE, {**AT, "timeline": "1"})
    assert read_inputs(WORDS).path == AUTO


@pytest.mark.parametrize(
    ("words", "says"),
    [
        ({"dr_path": "promote", "dr_restore_target_time": AT["time"]}, "dr_path is promote, beside dr_restore_target_time"),
        ({"dr_restore_set": "all"}, "only a restore test"),
        ({"dr_restore_repository": "each"}, "only a restore test"),
    ],
)
def test_words_that_speak_against_each_other_are_refused(words, says):
    with pytest.raises(Refusal, match=says):
        read_inputs({**WORDS, **words})


@pytest.mark.parametrize("runbook", ["switchover", "failback"])
def test_a_planned_run_restores_nothing(runbook):
    with pytest.raises(Refusal, match="dr_path"):
        read_inputs(
            {**({"dr_scope": "site"} if runbook == "switchover" else {}), "dr_target_site": "b", "dr_path": "restore"}, runbook
        )


# -- the gates --


def judged(landscape, asked=None, **wishes):
    inputs = Inputs(
        mode="drill", scope="site", target_site="b", path=(asked or Wish(AUTO)).path, restore=dict((asked or Wish()).words)
    )
    return evaluate(plan(landscape, asked), landscape, replace(inputs, **wishes), Limits(), CONTROLLER)


def dead(landscape):
    landscape = copy.deepcopy(landscape)
    landscape.observer["wit1"]["facts"]["last_accepted"]["a-db1"]["age_seconds"] = 60.0
    landscape.witness["wit1"]["facts"]["ledger"].update(last_acknowledged_age_seconds=60.0)
    return replace(landscape, database={**landscape.database, "a-db1": silent()})


def the(found, name):
    [gate] = [gate for gate in found if gate.id == name and (name != "LOSS" or "restore" in gate.title)]
    return gate


def test_both_ways_are_shown_where_a_standby_is_promoted(landscape):
    landscape.database["b-db1"]["facts"]["repository"]["repositories"]["1"]["newest_backup_bytes"] = 40_000_000
    gate = the(judged(landscape), "WAYOUT")
    assert (gate.host, gate.verdict) == ("b-db1", PASS)
    assert "promote b-db1: 256 bytes behind a-db1" in gate.observed
    assert "20261124-000000F of repository 1, 40000000 bytes, about 2 s at 20000000 bytes/s (assumed" in gate.observed
    assert gate.observed.endswith("Chosen: promote, for it is a standby")


def test_both_ways_are_shown_where_a_backup_is_restored(landscape):
    lost = replace(dead(at_b(landscape, empty())), rate=Rate(1e8, "measured by run-7"))
    found = judged(lost, accept_loss_seconds=10.0)
    gate = the(found, "WAYOUT")
    assert "no standby can be promoted in site b (b-db1 is absent, none)" in gate.observed
    assert "backup 20261124-000000F of repository 2 along timeline 1 to the end of the archive" in gate.observed
    assert "the archive's last commit is 64 s old" in gate.observed
    assert "about 20 s at 100000000 bytes/s (measured by run-7)" in gate.observed
    assert "loses about 4.0 s. Chosen: restore, for no standby can be promoted" in gate.observed
    assert blocking(found) == []


def restoring_to_a_time(landscape, **wishes):
    choice = {**TO_A_TIME, "committed_age_seconds": 600.0}
    return judged(at_b(landscape, STANDBY, {"b-db1": {**LOOKED, "choice": choice}}), Wish(AUTO, AT), **wishes)


@pytest.mark.parametrize(
    ("wishes", "verdict"),
    [
        ({}, FAIL),
        ({"accept_loss_seconds": 599.0}, FAIL),
        ({"accept_loss_seconds": 600.0}, PASS),
        ({"accept_loss_transactions": 9}, PASS),
        ({"accept_loss_seconds": 5.0, "accept_loss_transactions": 9}, FAIL),
        ({"accept_unknown": ("LOSS",), "reason": "a table was dropped"}, ACCEPTED),
    ],
)
def test_a_loss_by_wish_is_named_before_anything_changes(landscape, wishes, verdict):
    gate = the(restoring_to_a_time(landscape, **wishes), "LOSS")
    assert (gate.verdict, gate.observed) == (verdict, "about 599.6 s")
    assert "dr_accept_loss_seconds=660" in gate.next_action


def test_a_point_without_a_time_needs_a_bound_all_the_same(landscape):
    choice = {**CHOICE, "kind": "name", "value": "before", "target": "restore point before", "committed_age_seconds": None}
    looked = {"b-db1": {**LOOKED, "choice": choice}}
    named = at_b(landscape, STANDBY, looked)
    assert the(judged(named, Wish(AUTO, {"name": "before"})), "LOSS").verdict == FAIL
    assert the(judged(named, Wish(AUTO, {"name": "before"}), accept_loss_transactions=5), "LOSS").verdict == PASS


def test_an_archive_that_ends_before_what_was_acknowledged_is_a_loss(landscape):
    lost = dead(at_b(landscape, empty(), {"b-db1": {**LOOKED, "choice": {**CHOICE, "committed_age_seconds": 90.0}}}))
    assert the(judged(lost), "LOSS").verdict == FAIL
    assert the(judged(lost, accept_loss_seconds=30.0), "LOSS").verdict == PASS


def test_nothing_is_taken_for_seen_that_only_a_running_server_shows(landscape):
    found = judged(dead(at_b(landscape, empty())))
    for name in ("G06", "G11"):
        assert {gate.verdict for gate in found if gate.id == name} == {gates.NOT_APPLICABLE}
    assert [gate.verdict for gate in found if gate.id == "G16" and gate.host == "b-db1"] == [gates.NOT_APPLICABLE]


def test_a_disk_that_is_too_small_is_said_first(landscape):
    small = at_b(landscape, empty(), {"b-db1": {**LOOKED, "room_bytes": 1 << 20}})
    assert the(judged(dead(small)), "G12").verdict == FAIL


def test_a_restore_along_another_timeline_than_the_primarys_must_be_named(landscape):
    other = at_b(landscape, empty(), {"b-db1": {**LOOKED, "choice": {**CHOICE, "timeline": 2}}})
    assert the(judged(dead(other)), "G09").verdict == FAIL
    assert the(judged(dead(other), Wish(AUTO, {"timeline": "2"})), "G09").verdict == PASS


# -- two persons, and who looks on --


def test_a_second_person_agrees_to_one_way_and_one_target(landscape):
    inputs = Inputs(mode="drill", scope="site", target_site="b")

    def digest(found, asked=None):
        return approval.digest(approval.subject("failover", "shop", plan(found, asked), inputs))

    restored = at_b(landscape, STANDBY)
    first = digest(restored, Wish(RESTORE))
    assert first != digest(restored)
    later = {**CHOICE, "committed_age_seconds": 3600.0, "end_lsn": "0/9000000"}
    assert digest(at_b(landscape, STANDBY, {"b-db1": {**LOOKED, "choice": later}}), Wish(RESTORE)) == first
    other = at_b(landscape, STANDBY, {"b-db1": {**LOOKED, "choice": TO_A_TIME}})
    assert digest(other, Wish(AUTO, AT)) != first


def test_status_names_a_restore_that_is_not_promoted(landscape):
    for host in ("a-db1", "b-db1"):
        landscape.database[host]["facts"]["host"]["boottime"] = 100.0
    found = status(at_b(landscape, begun(STANDBY)))
    assert "b-db1 holds a restore of run dead that is not promoted (replaying)" in found["unsafe"]
    assert "never resume its replay" in found["next"]
