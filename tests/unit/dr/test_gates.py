"""Each gate, bent once: what must fail does, with a sentence that names host, observation and the next step."""

from __future__ import annotations

import copy
from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import gates
from ansible_collections.relevo.dr.plugins.module_utils.gates import (
    ACCEPTED,
    FAIL,
    NOT_APPLICABLE,
    PASS,
    UNKNOWN,
    Controller,
    Limits,
    blocking,
    evaluate,
)
from ansible_collections.relevo.dr.plugins.module_utils.inputs import Inputs
from ansible_collections.relevo.dr.plugins.module_utils.plan import make_plan

from .conftest import database, repository, silent

INPUTS = Inputs(mode="drill", scope="site", target_site="b")
CONTROLLER = Controller(forks=20, public_key="ssh-ed25519 AAAA", free_bytes=1 << 33)


def judged(landscape, inputs=INPUTS, controller=CONTROLLER):
    return evaluate(make_plan(landscape, "b", "site"), landscape, inputs, Limits(), controller)


def failing(landscape, **kwargs):
    return {(gate.id, gate.host): gate for gate in blocking(judged(landscape, **kwargs))}


def test_a_healthy_landscape_passes_every_gate(landscape):
    assert failing(landscape) == {}


def bent(landscape, path, value):
    """A copy of the landscape with one value changed: kind, host, then keys."""
    changed = copy.deepcopy(landscape)
    place = getattr(changed, path[0])
    for key in path[1:-1]:
        place = place[key]
    place[path[-1]] = value
    return changed


STANDBY = ("database", "b-db1", "facts", "cluster")
REPOSITORIES = ("database", "b-db1", "facts", "repository", "repositories")
LIMITS = ("database", "b-db1", "facts", "host", "server_limits")
GONE = {"host": "a-store1", "error": "a-store1:443 takes no connection"}


@pytest.mark.parametrize(
    ("gate", "host", "path", "value"),
    [
        ("G01", "a-db1", ("database", "a-db1", "facts", "cluster", "system_identifier"), "7400000000000000002"),
        ("HA", "a-db1", ("database", "a-db1", "facts", "host", "ha_managers"), ["patroni"]),
        ("G08", "b-db1", (*STANDBY, "standby", "replay_paused"), True),
        ("G08", "b-db1", (*STANDBY, "standby", "receiver"), None),
        ("G08", "b-db1", (*STANDBY, "standby", "receiver", "status"), "waiting"),
        ("G08", "b-db1", (*STANDBY, "standby", "receiver", "last_message_age_seconds"), 16.0),
        ("G08", "b-db1", (*STANDBY, "standby", "replay_lsn"), "0/100"),
        ("G09", "b-db1", (*STANDBY, "timeline"), 2),
        ("G06", "b-db1", (*STANDBY, "available_extensions"), []),
        ("G06", "b-db1", (*STANDBY, "collations", 0, "actual"), "2.36"),
        ("G06", "b-db1", (*STANDBY, "settings", "max_connections"), "50"),
        ("G06", "b-db1", (*STANDBY, "version_num"), 160003),
        ("G16", "a-db1", ("database", "a-db1", "facts", "cluster", "settings", "fsync"), "off"),
        ("G16", "b-db1", (*STANDBY, "settings", "synchronous_standby_names"), "a"),
        ("G05", "b-db1", REPOSITORIES, {"1": {**repository("b-store1"), "newest_backup_age_seconds": 1e6}}),
        ("G05", "b-db1", REPOSITORIES, {"1": {**repository("b-store1"), "newest_backup_error": True}}),
        ("G03", "a-db1", ("database", "a-db1", "facts", "cluster", "primary", "archiver", "failing"), True),
        ("G03", "a-db1", ("database", "a-db1", "facts", "cluster", "primary", "archiver", "oldest_waiting_age_seconds"), 1e5),
        ("G03", "a-db1", ("database", "a-db1", "facts", "cluster", "settings", "archive_mode"), "off"),
        ("G12", "b-db1", ("database", "b-db1", "facts", "host", "data_free_bytes"), 1024),
        ("G12", "b-db1", ("database", "a-db1", "facts", "cluster", "primary", "client_connections"), 98),
        ("G12", "b-db1", ("database", "b-db1", "settings", "connections_expected"), 94),
        ("G12", "b-db1", (*STANDBY, "settings", "superuser_reserved_connections"), "2"),
        ("G12", "b-db1", (*STANDBY, "settings", "reserved_connections"), "86"),
        ("G12", "b-db1", (*STANDBY, "work_mem_bytes"), 1 << 30),
        ("G12", "b-db1", (*STANDBY, "shared_buffers_bytes"), 8 << 30),
        ("G12", "b-db1", (*LIMITS, "memory_bytes"), 175 << 20),
        ("G12", "b-db1", (*LIMITS, "tasks"), 43),
        ("G12", "b-db1", (*LIMITS, "open_files"), 999),
        ("G17", "a-app1", ("application", "a-app1", "clock_offset_seconds"), 1200.0),
        ("G11", "b-app1", ("application", "b-app1", "facts", "application", "databases", "b-db1", "ok"), False),
        ("G11", "b-app1", ("application", "b-app1", "facts", "application", "databases", "b-db1", "tls"), False),
        ("G19", "b-db1", ("database", "b-db1", "settings", "repository_hosts"), ["a-store1"]),
        ("SIGNER", "b-db1", ("database", "b-db1", "facts", "host", "allowed_signers"), []),
        ("REACH", "b-app1", ("application", "b-app1", "reachable"), False),
    ],
)
def test_one_bent_fact_fails_its_gate(landscape, gate, host, path, value):
    found = failing(bent(landscape, path, value))
    assert (gate, host) in found
    assert found[(gate, host)].verdict == FAIL
    assert found[(gate, host)].next_action


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("database", "a-db1", "facts", "cluster", "primary", "client_connections"), 97),
        (("database", "b-db1", "settings", "connections_expected"), 93),
        ((*STANDBY, "settings", "reserved_connections"), "85"),
        ((*LIMITS, "memory_bytes"), 176 << 20),
        ((*LIMITS, "tasks"), 44),
        ((*LIMITS, "tasks"), None),
        ((*LIMITS, "open_files"), 1000),
    ],
)
def test_what_just_suffices_for_all_clients_at_once_passes(landscape, path, value):
    assert failing(bent(landscape, path, value)) == {}


@pytest.mark.parametrize("path", [(*STANDBY, "work_mem_bytes"), (*LIMITS, "memory_bytes"), (*LIMITS, "open_files")])
def test_a_limit_that_nobody_saw_is_unknown_while_there_is_a_primary_to_stay_with(landscape, path):
    assert failing(bent(landscape, path, None))[("G12", "b-db1")].verdict == UNKNOWN


def test_a_storm_that_does_not_fit_keeps_nobody_with_a_dead_primary(landscape):
    small = bent(landscape, (*STANDBY, "settings", "superuser_reserved_connections"), "0")
    small = bent(small, ("database", "b-db1", "settings", "connections_expected"), 500)
    assert ("G12", "b-db1") in failing(small)
    dead = bent(small, ("database", "a-db1"), silent())
    gates = [gate for gate in judged(dead) if gate.id == "G12" and gate.verdict == FAIL]
    assert [gate.title for gate in gates] == ["connections for all clients at once", "connections kept for the run itself"]
    assert ("G12", "b-db1") not in failing(dead)


def test_where_no_primary_runs_and_nothing_is_declared_there_is_no_number_to_compare(landscape):
    dead = bent(landscape, ("database", "a-db1"), silent())
    gates = {gate.title: gate.verdict for gate in judged(dead) if gate.id == "G12"}
    assert gates["connections for all clients at once"] == NOT_APPLICABLE
    assert "memory for all clients at once" not in gates


def test_a_standby_that_is_ahead_of_the_primary_is_never_built_anew(landscape):
    """It was promoted by a run that died, and its host restarted: what it wrote meanwhile is nowhere else."""
    ahead = bent(landscape, (*STANDBY, "timeline"), 2)
    assert "do not rebuild it" in failing(ahead)[("G09", "b-db1")].next_action
    held = bent(ahead, ("database", "b-db1", "facts", "guard"), {"held": {"reason": "nobody answers"}})
    assert "relevo-guard start --reason ... on b-db1" in failing(held)[("G09", "b-db1")].next_action
    behind = bent(landscape, ("database", "a-db1", "facts", "cluster", "timeline"), 2)
    assert failing(behind)[("G09", "b-db1")].next_action == "rebuild the standby with playbooks/protect.yml"


LOCK = {"run_id": "other", "owner": "ana", "controller": "ops1", "since": "2026-11-24T03:00:00Z"}


def test_a_living_lock_of_another_run_fails(landscape):
    locked = bent(landscape, ("database", "b-db1", "facts", "host", "lock"), LOCK)
    gate = failing(locked)[("G10", "b-db1")]
    assert "ana" in gate.observed and "2026-11-24T03:00:00Z" in gate.observed
    assert failing(bent(locked, ("database", "b-db1", "lock_owner_dead"), True)) == {}


@pytest.mark.parametrize(
    ("host", "path", "value", "says"),
    [
        ("b-db1", ("lock_owner_alive",), True, "lives on this controller"),
        ("a-db1", ("facts", "host", "lock"), LOCK, "its lease on a-db1 has not ended"),
        ("a-db1", ("facts", "host", "actor"), "other", "at work on a-db1"),
    ],
    ids=["its process lives", "a lease elsewhere", "a task elsewhere"],
)
def test_a_lock_whose_lease_is_over_fails_while_something_shows_that_its_run_lives(landscape, host, path, value, says):
    locked = bent(landscape, ("database", "b-db1", "facts", "host", "lock"), LOCK)
    over = bent(locked, ("database", "b-db1", "facts", "host", "lock_expired"), True)
    assert failing(over) == {}
    gate = failing(bent(over, ("database", host, *path), value))[("G10", "b-db1")]
    assert says in gate.observed


def test_too_few_forks_would_wait_for_themselves(landscape):
    assert ("FORKS", "controller") in failing(landscape, controller=replace(CONTROLLER, forks=3))


def dead(landscape, age_seconds=60.0):
    landscape = replace(landscape, database={**landscape.database, "a-db1": silent()})
    return bent(landscape, ("observer", "wit1", "facts", "last_accepted", "a-db1", "age_seconds"), age_seconds)


def test_a_dead_primary_with_a_power_command_passes(landscape):
    assert failing(dead(landscape)) == {}


def test_a_primary_that_only_the_controller_cannot_see_is_alive(landscape):
    gate = failing(dead(landscape, age_seconds=1.0))[("G07", "a-db1")]
    assert "wit1 accepted" in gate.observed


@pytest.mark.parametrize(
    ("lease", "accept", "verdict", "says"),
    [
        ({"expired": True, "said": "armed with 20 s", "left_seconds": None}, ("lease_expired",), ACCEPTED, ""),
        ({"expired": True, "said": "armed with 20 s", "left_seconds": None}, (), FAIL, "-e dr_accept_fence=lease_expired"),
        ({"expired": False, "said": "armed", "left_seconds": 12.0}, ("lease_expired",), FAIL, "start again in 12 s"),
        ({"expired": False, "said": "wit1 cannot be asked"}, ("lease_expired",), FAIL, "no proof by lease: wit1 cannot be asked"),
    ],
)
def test_a_silent_primary_with_an_armed_self_fence(landscape, lease, accept, verdict, says):
    leased = bent(dead(landscape), ("fence", "a-db1"), {"power": None, "error": None, "settings": {"lease": lease}})
    gate = next(gate for gate in judged(leased, inputs=replace(INPUTS, accept_fence=accept)) if gate.id == "G07")
    assert gate.verdict == verdict
    assert says in gate.next_action


def test_a_dead_primary_without_any_proof_is_refused_until_somebody_attests(landscape):
    bare = bent(dead(landscape), ("fence", "a-db1", "power"), None)
    assert ("G07", "a-db1") in failing(bare)
    attested = replace(INPUTS, attest_dead=("a-db1",), attested_by="Ana, in the rack room")
    gates = judged(bare, inputs=attested)
    assert not blocking(gates)
    assert [gate.verdict for gate in gates if gate.id == "G07"] == [ACCEPTED]


def test_a_host_that_denies_us_is_not_dead(landscape):
    denied = {**silent(), "denied": True, "error": "Permission denied (publickey)"}
    assert ("REACH", "a-db1") in failing(replace(landscape, database={**landscape.database, "a-db1": denied}))


def test_a_standby_that_is_days_behind_the_ledger_is_refused_until_the_loss_is_accepted(landscape):
    stale = bent(dead(landscape), (*STANDBY, "standby", "last_replayed_age_seconds"), 6 * 86400.0)
    gate = failing(stale)[("LOSS", "b-db1")]
    assert "518399" in gate.observed and "dr_accept_loss_seconds=518401" in gate.next_action
    assert failing(stale, inputs=replace(INPUTS, accept_loss_seconds=600000.0)) == {}


def aged(landscape, **ages):
    found = landscape
    for name, seconds in ages.items():
        found = bent(found, ("witness", "wit1", "facts", "ledger", f"last_{name}_age_seconds"), seconds)
    return found


@pytest.mark.parametrize("age", [None, 3 * 86400.0])
def test_a_ledger_that_is_not_at_work_makes_the_loss_unknown_with_a_living_primary_too(landscape, age):
    gate = failing(aged(landscape, attempt=age, acknowledged=age))[("LOSS", "wit1")]
    assert gate.verdict == UNKNOWN and "relevo-ledger" in gate.next_action


def test_a_ledger_that_stopped_before_the_standby_did_hides_no_loss(landscape):
    """Three days ago the ledger stopped, two days ago the standby: it has everything that the ledger knows, and still lacks two days."""
    stopped = bent(dead(landscape), (*STANDBY, "standby", "last_replayed_age_seconds"), 2 * 86400.0)
    found = failing(aged(stopped, attempt=3 * 86400.0, acknowledged=3 * 86400.0))
    assert found[("LOSS", "wit1")].verdict == UNKNOWN
    # The observers wrote to the primary until a minute ago.
    assert found[("LOSS", "b-db1")].verdict == FAIL
    assert "172740" in found[("LOSS", "b-db1")].observed


def test_a_receiver_that_lacks_nothing_may_be_silent(landscape):
    """Where nothing is written, the primary has nothing to say for half of wal_receiver_timeout."""
    idle = bent(landscape, ("database", "a-db1", "facts", "cluster", "primary", "flush_lsn"), "0/5000000")
    assert failing(bent(idle, (*STANDBY, "standby", "receiver", "last_message_age_seconds"), 29.0)) == {}


def test_a_delayed_standby_would_keep_the_service_down_for_its_delay(landscape):
    gate = failing(bent(landscape, (*STANDBY, "settings", "recovery_min_apply_delay"), "3600000"))[("G08", "b-db1")]
    assert "3600000" in gate.observed


def test_a_power_command_that_can_only_look_is_no_way_to_a_fence(landscape):
    blind = bent(dead(landscape), ("fence", "a-db1", "settings"), {"command_off": []})
    assert ("G07", "a-db1") in failing(blind)
    assert failing(bent(blind, ("fence", "a-db1", "power"), "off")) == {}


def test_unknown_never_passes_silently(landscape):
    unseen = bent(landscape, REPOSITORIES, {"1": GONE, "2": GONE})
    gate = failing(unseen)[("G05", "b-db1")]
    assert gate.verdict == UNKNOWN and "dr_accept_unknown" in gate.next_action
    assert failing(unseen, inputs=replace(INPUTS, accept_unknown=("G05",), reason="store under repair")) == {}


def test_a_living_primary_that_lost_its_standby_is_left_only_with_a_loss_that_was_accepted(landscape):
    cut = bent(landscape, (*STANDBY, "standby", "receiver", "last_message_age_seconds"), 120.0)
    cut = bent(cut, (*STANDBY, "standby", "last_replayed_age_seconds"), 120.4)
    gate = failing(cut)[("G08", "b-db1")]
    assert "120.0 s of commits" in gate.observed and "dr_accept_loss_seconds=180" in gate.next_action
    assert ("G08", "b-db1") in failing(cut, inputs=replace(INPUTS, accept_loss_seconds=60.0))
    judgements = judged(cut, inputs=replace(INPUTS, accept_loss_seconds=180.0))
    assert not blocking(judgements)
    assert ACCEPTED in [gate.verdict for gate in judgements if gate.id == "G08"]
    # What nobody saw committed, or what never replayed, has no number that could be accepted.
    unknown = bent(cut, (*STANDBY, "standby", "last_replayed_age_seconds"), None)
    assert ("G08", "b-db1") in failing(unknown, inputs=replace(INPUTS, accept_loss_seconds=180.0))


def test_another_cluster_is_seen_even_when_its_primary_is_dead(landscape):
    stranger = bent(dead(landscape), ("observer", "wit1", "facts", "last_accepted", "a-db1", "system_identifier"), "1")
    assert ("G01", "b-db1") in failing(stranger)


def test_a_promoted_target_needs_no_standby_gates(landscape):
    over = replace(landscape, database={"a-db1": silent(), "b-db1": database("primary")})
    over = bent(over, ("observer", "wit1", "facts", "last_accepted"), {})
    ids = {gate.id for gate in judged(over)}
    assert "G09" not in ids


# -- a repository that is gone with the site that is left --


def test_one_repository_that_answers_is_enough_and_the_lost_one_is_a_finding(landscape):
    lost = bent(landscape, (*REPOSITORIES, "2"), GONE)
    assert failing(lost) == {}
    finding = next(gate for gate in judged(lost) if gate.id == "G23")
    assert (finding.verdict, finding.required) == (FAIL, False)
    assert "a-store1:443 takes no connection" in finding.observed and "playbooks/protect.yml" in finding.next_action
    assert gates.to_leave_out(lost, "b-db1") == [2]
    assert next(gate for gate in judged(landscape) if gate.id == "G23").verdict == PASS


def test_a_good_backup_in_either_repository_counts(landscape):
    old = bent(landscape, (*REPOSITORIES, "1", "newest_backup_age_seconds"), 1e6)
    flagged = bent(landscape, (*REPOSITORIES, "2", "newest_backup_error"), True)
    assert failing(old) == failing(flagged) == {}


def test_the_last_repository_is_never_left_out(landscape):
    none = bent(landscape, REPOSITORIES, {"1": GONE, "2": GONE})
    assert gates.to_leave_out(none, "b-db1") == []
    assert ("G05", "b-db1") in failing(none)


def test_an_archive_that_hangs_on_the_lost_store_does_not_keep_a_primary_from_being_left(landscape):
    archiver = ("database", "a-db1", "facts", "cluster", "primary", "archiver", "failing")
    hanging = bent(bent(landscape, (*REPOSITORIES, "2"), GONE), archiver, True)
    assert failing(hanging) == {}
    found = next(gate for gate in judged(hanging) if gate.id == "G03")
    assert (found.verdict, found.required) == (FAIL, False) and "repository 2 does not answer" in found.observed
    # With every store alive the archive fails for another reason.
    assert ("G03", "a-db1") in failing(bent(landscape, archiver, True))


def test_a_repository_that_was_left_out_before_is_not_forgotten(landscape):
    alone = bent(landscape, REPOSITORIES, {"1": repository("b-store1")})
    alone = bent(alone, (*REPOSITORIES[:-1], "left_out"), {"2": {"at": "2026-11-24T12:00:00.000000Z"}})
    found = next(gate for gate in judged(alone) if gate.id == "G23")
    assert found.verdict == FAIL and "left out since 2026-11-24T12" in found.observed


def test_a_store_that_is_no_host_of_the_inventory_has_the_site_that_its_repository_says(landscape):
    there = bent(landscape, ("database", "b-db1", "settings", "repository_hosts"), ["s3.a.example.org"])
    assert failing(there) == {}
    there = bent(there, ("database", "b-db1", "settings", "repository_sites"), {"s3.a.example.org": "a"})
    assert ("G19", "b-db1") in failing(there)
