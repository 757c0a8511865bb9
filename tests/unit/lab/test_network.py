from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible_collections.relevo.lab.plugins.module_utils import network
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Host, Laboratory, LaboratoryError

NETWORKS = {"a": "198.51.100.64/26", "b": "198.51.100.0/26"}
A = Host("a-db1", "a", "198.51.100.71", NETWORKS["a"])
B = Host("b-db1", "b", "198.51.100.11", NETWORKS["b"])


@pytest.fixture
def machine(monkeypatch):
    """What `ip` says; tests put links and routes into it."""
    said = {"address": [], "route": []}
    monkeypatch.setattr(network, "run", lambda argv: json.dumps(said[argv[-1]]))
    monkeypatch.setattr(network, "installed", lambda _command: True)
    return said


@pytest.fixture
def lab(tmp_path):
    return Laboratory(tmp_path / "relevo-lab-unit")


def link(name, address=None, alias=None):
    addresses = [{"family": "inet", "local": address, "prefixlen": 24}] if address else []
    return {"ifname": name, "ifalias": alias or "", "addr_info": addresses}


def test_a_free_machine_is_accepted(machine, lab):
    machine["address"] = [link("eth0", "192.0.2.2")]
    machine["route"] = [{"dst": "default", "dev": "eth0"}, {"dst": "192.0.2.0/24", "dev": "eth0"}]
    network.refuse_collisions(lab, NETWORKS, {"192.0.2.53": "the name server"})


def test_its_own_bridges_are_no_collision(machine, lab):
    machine["address"] = [link("rl-a", "198.51.100.65", "relevo-lab-unit ip_forward_before=0")]
    machine["route"] = [{"dst": "198.51.100.64/26", "dev": "rl-a"}]
    network.refuse_collisions(lab, NETWORKS, {})
    assert network.forwarding_before(network.own_bridges(lab)) == "0"


@pytest.mark.parametrize(
    ("link_seen", "route", "watched", "sentence"),
    [
        (link("eth0", "198.51.100.2"), None, {}, "interface eth0 has 198.51.100.2/24"),
        (link("eth0"), "198.51.100.0/25", {}, "a route to 198.51.100.0/25 goes through eth0"),
        (link("eth0"), None, {"198.51.100.70": "the mirror m"}, "the mirror m has the address 198.51.100.70"),
        (link("rl-a"), None, {}, "An interface rl-a exists that is not a bridge of the laboratory"),
    ],
)
def test_what_belongs_to_something_else_is_refused_by_name(machine, link_seen, route, watched, sentence):
    machine["address"] = [link_seen]
    machine["route"] = [{"dst": route, "dev": "eth0"}] if route else []
    with pytest.raises(LaboratoryError, match=sentence):
        network.refuse_collisions(Laboratory(Path("/nowhere/relevo-lab-unit")), NETWORKS, watched)


def test_a_bare_machine_without_ip_and_nft_has_no_network(monkeypatch, lab):
    monkeypatch.setattr(network, "installed", lambda _command: False)
    assert network.plan_absence(lab) == []


def test_a_cut_names_the_receivers_port_and_the_senders_mark_in_both_directions():
    assert network.cut_elements([A, B], "a-db1", "b-db1") == [("bridge", '"vb-b-db1" . 0x5201'), ("bridge", '"vb-a-db1" . 0x5202')]
    assert network.cut_elements([A, B], "controller", "b-db1") == [("bridge", '"vb-b-db1" . 0x5200'), ("inet", "0x5202")]


def test_the_rules_mark_each_host_and_let_only_the_sites_talk(lab):
    rules = network.ruleset(lab, [A, B])
    assert 'iifname "vb-a-db1" meta mark set 0x5201' in rules
    assert 'iifname { "rl-a", "rl-b" } drop' in rules


SCRATCH = Host("b-scratch", "b", "198.51.100.41", NETWORKS["b"], reaches="b-store1")
STORE = Host("b-store1", "b", "198.51.100.31", NETWORKS["b"])


def test_a_confined_host_reaches_its_few_and_the_controller_and_all_else_is_counted(lab):
    rules = network.ruleset(lab, [A, B, STORE, SCRATCH])
    assert "ip daddr { 198.51.100.1, 198.51.100.31, 198.51.100.41 } accept" in rules
    assert "ip saddr { 198.51.100.1, 198.51.100.31, 198.51.100.41 } accept" in rules
    assert "counter name leaked_b_scratch drop" in rules
    assert 'iifname "vb-b-scratch" jump from_b_scratch' in rules
    assert 'oifname "vb-b-scratch" jump to_b_scratch' in rules
    # What it may reach is a list of those, so the last word of each chain is a drop.
    assert rules.index("ip daddr { 198.51.100.1,") < rules.index("ip dscp cs1") < rules.index("counter name leaked_b_scratch drop")


def test_nobody_else_is_confined(lab):
    assert "leaked" not in network.ruleset(lab, [A, B, STORE])


def test_what_leaked_is_read_from_the_counters(lab, monkeypatch):
    said = {"leaked_b_scratch": 3, "probed_b_scratch": 8}
    monkeypatch.setattr(network, "run", lambda argv: json.dumps({"nftables": [{"counter": {"packets": said[argv[-1]]}}]}))
    assert network.leaked(lab, SCRATCH) == (3, 8)


def test_the_first_address_of_a_network_is_the_controllers():
    assert A.gateway == "198.51.100.65"
    assert B.interface == "198.51.100.11/26"
