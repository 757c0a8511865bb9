"""Who does what, from what was discovered."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.plan import make_plan, read_plan
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

from .conftest import database, silent
from .test_gates import bent


def test_site_scope_stops_there_and_starts_here(landscape):
    plan = make_plan(landscape, "b", "site")
    assert (plan.promote, plan.fence, plan.quiesce, plan.cutover) == ("b-db1", ("a-db1",), ("a-app1",), ("b-app1",))
    assert (plan.source_site, plan.done, plan.resume) == ("a", False, False)


IDLE = {"active": False, "enabled": False}


@pytest.mark.parametrize("target", ["a", "b"])
def test_database_scope_points_the_application_hosts_that_serve_elsewhere(landscape, target):
    """On the way there and on the way home, on which the application is not at the site that is left."""
    if target == "a":
        landscape.database.update({"a-db1": database("standby"), "b-db1": database("primary")})
    idle = bent(landscape, ("application", "b-app1", "facts", "application"), IDLE)
    plan = make_plan(idle, target, "database", planned=True)
    assert plan.quiesce == plan.cutover == ("a-app1",)


@pytest.mark.parametrize(
    ("seen", "parts"),
    [
        ({"a-app1": {"active": False, "enabled": True}, "b-app1": IDLE}, ("a-app1",)),
        ({}, ("a-app1", "b-app1")),
        ({"a-app1": None, "b-app1": IDLE}, ("a-app1",)),
        ({"a-app1": IDLE, "b-app1": None}, ("a-app1",)),
        ({"a-app1": IDLE, "b-app1": IDLE}, ("a-app1",)),
    ],
    ids=["stopped by a dead run", "both serve", "silent where it was", "silent where it was not", "nowhere"],
)
def test_who_serves_in_database_scope(landscape, seen, parts):
    for host, application in seen.items():
        path = ("application", host, "facts", "application") if application else ("application", host)
        landscape = bent(landscape, path, application or silent())
    plan = make_plan(landscape, "b", "database")
    assert plan.quiesce == plan.cutover == parts


def test_every_database_host_of_the_other_sites_is_fenced(landscape):
    more = {**landscape.database, "a-db2": database("standby")}
    wide = replace(
        landscape,
        database=more,
        groups={**landscape.groups, "dr_database": ["a-db1", "a-db2", "b-db1"]},
        sites={**landscape.sites, "a-db2": "a"},
    )
    assert make_plan(wide, "b", "site").fence == ("a-db1", "a-db2")


@pytest.mark.parametrize("other", [silent(), database("primary")], ids=["silent", "stopped or odd"])
def test_a_second_host_at_the_target_that_is_no_standby_is_fenced_too(landscape, other):
    """It may be the primary: silence proves nothing at the target's own site either."""
    if other["reachable"]:
        other["facts"]["cluster"].update(state="stopped", role="none")
    hosts = {"a-db1": database("standby"), "b-db1": database("standby"), "b-db2": other}
    wide = replace(
        landscape,
        database=hosts,
        groups={**landscape.groups, "dr_database": list(hosts)},
        sites={**landscape.sites, "b-db2": "b"},
        fence={**landscape.fence, "b-db2": {"power": None, "error": None, "settings": {}}},
    )
    plan = make_plan(wide, "b", "site")
    assert (plan.promote, plan.fence, plan.source_site) == ("b-db1", ("a-db1", "b-db2"), "a")


def test_plan_survives_json(landscape):
    plan = make_plan(landscape, "b", "site")
    assert read_plan(json.loads(json.dumps(plan.as_dict()))) == plan


def test_a_dead_primary_is_still_fenced(landscape):
    dead = replace(landscape, database={**landscape.database, "a-db1": silent()})
    assert make_plan(dead, "b", "site").fence == ("a-db1",)


@pytest.mark.parametrize("group", ["dr_database", "dr_application", "dr_witness", "dr_observer"])
def test_refuses_an_empty_or_misspelt_group(landscape, group):
    with pytest.raises(Refusal, match=group):
        make_plan(replace(landscape, groups={**landscape.groups, group: []}), "b", "site")


def test_refuses_an_unknown_site(landscape):
    with pytest.raises(Refusal, match="'c'"):
        make_plan(landscape, "c", "site")


def test_refuses_two_primaries(landscape):
    split = replace(landscape, database={**landscape.database, "b-db1": database("primary")})
    with pytest.raises(Refusal, match="2 writable primaries"):
        make_plan(split, "b", "site")


def test_refuses_without_a_standby(landscape):
    with pytest.raises(Refusal, match="exactly one running standby"):
        make_plan(replace(landscape, database={**landscape.database, "b-db1": silent()}), "b", "site")


def test_a_server_of_another_cluster_that_is_no_standby_is_named_so(landscape):
    foreign = database("standby")
    error = 'database "minimarket" does not exist'
    foreign["facts"]["cluster"] = {"state": "unresponsive", "role": "none", "system_identifier": "77", "error": error}
    with pytest.raises(Refusal, match=r"of system 77 and not of 7400000000000000001 .*minimarket"):
        make_plan(replace(landscape, database={**landscape.database, "b-db1": foreign}), "b", "site")


def test_a_finished_failover_has_nothing_to_do(landscape):
    over = replace(landscape, database={"a-db1": silent(), "b-db1": database("primary")})
    plan = make_plan(over, "b", "site")
    assert plan.done and not plan.resume


NAMES = {"a-db1": {"name": "a-db1.example.org", "port": 5432}, "b-db1": {"name": "b-db1.example.org", "port": 5432}}


@pytest.mark.parametrize(
    ("application", "done"),
    [
        ({"active": True, "address": "b-db1.example.org:5432"}, True),
        ({"active": True, "address": "B-DB1.example.org:5432"}, True),
        ({"active": True, "address": "db.shop.example:5432"}, True),
        ({"active": True, "address": "a-db1.example.org:5432"}, False),
        ({"active": False, "address": "b-db1.example.org:5432"}, False),
        ({}, False),
    ],
    ids=["on it", "on it, in capitals", "by a name of its own", "on the old primary", "stopped", "not seen"],
)
def test_a_failover_whose_application_does_not_serve_is_not_done(landscape, application, done):
    """Killed before the cutover, and its locks removed by hand or by another run: nothing else tells of it."""
    hosts = {"a-db1": silent(), "b-db1": database("primary")}
    for host, entry in hosts.items():
        entry["settings"] = NAMES[host]
    there = {**landscape.application, "b-app1": {"reachable": True, "facts": {"application": application, "host": {}}}}
    plan = make_plan(replace(landscape, database=hosts, application=there), "b", "site")
    assert (plan.done, plan.resume) == (done, False)


def test_a_lock_on_an_application_host_alone_is_gone_on_with(landscape):
    held = {"run_id": "20261124T121530Z-failover-1f3a", "since": "2026-11-24T12:00:02.000000Z"}
    over = replace(landscape, database={"a-db1": silent(), "b-db1": database("primary")})
    over.application["b-app1"] = {**over.application["b-app1"], "facts": {"application": {"active": True}, "host": {"lock": held}}}
    plan = make_plan(over, "b", "site")
    assert (plan.done, plan.resume, plan.parent_run_id) == (False, True, held["run_id"])


def locked(role, **lock):
    left = database(role)
    left["facts"]["host"]["lock"] = {"run_id": "earlier", "since": "2026-11-24T12:00:02.000000Z", **lock}
    return left


def test_a_lock_that_was_left_makes_the_next_run_go_on(landscape):
    plan = make_plan(replace(landscape, database={"a-db1": silent(), "b-db1": locked("primary")}), "b", "site")
    assert plan.resume and not plan.done and plan.parent_run_id == "earlier"
    assert plan.began_at == "2026-11-24T12:00:02.000000Z"


def test_what_goes_on_began_with_the_first_of_the_killed_runs(landscape):
    """Or the outage would look as short as its last part."""
    hosts = {"a-db1": locked("primary"), "b-db1": locked("standby", began_at="2026-11-24T11:59:00.000000Z")}
    assert make_plan(replace(landscape, database=hosts), "b", "site").began_at == "2026-11-24T11:59:00.000000Z"
    assert make_plan(landscape, "b", "site").began_at is None


def test_the_clocks_of_all_hosts_that_said_the_time(landscape):
    silent = {"reachable": False, "clock_offset_seconds": None}
    seen = replace(
        landscape,
        database={"a-db1": silent, "b-db1": {"clock_offset_seconds": -0.3}},
        application={"a-app1": {"clock_offset_seconds": 0.0}},
    )
    assert seen.clock_offsets() == {"a-app1": 0.0, "b-db1": -0.3, "wit1": 0.0}
