"""What an inventory declares of an application: its order, and everything that is refused before anything changes."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.action.preflight import declared_components
from ansible_collections.relevo.dr.plugins.module_utils import app_components
from ansible_collections.relevo.dr.plugins.module_utils.app_components import (
    Component,
    before,
    behind,
    grouped,
    load,
    of_host,
    parts,
    read,
)
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from hypothesis import given
from hypothesis import strategies as st

HOSTS = ["a-app1", "b-app1"]
SHOP = {"name": "shop", "provider": "systemd", "unit": "shop.service"}
POOL = {"name": "pool", "provider": "pgbouncer", "databases": ["shop"]}
DNS = {"name": "dns", "provider": "route53", "zone_id": "Z1", "record": "shop.example.org", "values": {"a": ["x"], "b": ["y"]}}


def everywhere(*entries):
    return {host: list(entries) for host in HOSTS}


def named(components):
    return [component.name for component in components]


def test_an_inventory_that_says_nothing_has_one_component_on_every_host():
    [shop] = read(everywhere({**SHOP, "name": "application"}), HOSTS)
    assert (shop.name, shop.provider, shop.hosts, shop.after) == ("application", "systemd", ("a-app1", "b-app1"), ())
    assert shop.settings == {host: {"unit": "shop.service"} for host in HOSTS}
    assert parts([shop], "a-app1") == [(0, [shop])]


def test_groups_stand_behind_what_they_come_after():
    cache = {"name": "cache", "provider": "systemd", "unit": "redis.service", "hosts": ["a-app1"]}
    found = read(everywhere({**DNS, "after": ["shop"]}, {**SHOP, "after": ["pool", "cache"]}, POOL, cache), HOSTS)
    assert [named(group) for group in grouped(found)] == [["pool", "cache"], ["shop"], ["dns"]]
    assert [(number, named(group)) for number, group in parts(found, "b-app1")] == [(0, ["pool"]), (1, ["shop"])]
    assert before(found, 2) == [(0, "a-app1"), (0, "b-app1"), (1, "a-app1"), (1, "b-app1")]
    assert behind(found, 0) == [(1, "a-app1"), (1, "b-app1")]
    assert [(number, one.name) for number, one in app_components.of_controller(found)] == [(2, "dns")]
    assert load([one.as_dict() for one in found]) == found


def test_each_host_may_have_settings_of_its_own():
    [shop] = read({"a-app1": [SHOP], "b-app1": [{**SHOP, "unit": "store.service"}]}, HOSTS)
    assert {host: settings["unit"] for host, settings in shop.settings.items()} == {
        "a-app1": "shop.service",
        "b-app1": "store.service",
    }


@pytest.mark.parametrize(
    ("entries", "words"),
    [
        ([{**SHOP, "provider": "magic"}], "the provider 'magic'; expected one of systemd"),
        ([{**SHOP, "provider": ["systemd"]}], r"the provider \['systemd'\]"),
        ([{**SHOP, "name": "Shop one"}], "the name 'Shop one'"),
        ([SHOP, SHOP], "two components shop"),
        ([{**SHOP, "hosts": ["c-app1"]}], "to run on c-app1; expected hosts of the group dr_application"),
        ([{**SHOP, "hosts": []}], "shop has no hosts"),
        ([{**SHOP, "hosts": "a-app1"}], "shop has no hosts"),
        ([{**SHOP, "after": ["pool"]}], "shop comes after pool"),
        ([{**SHOP, "after": "pool"}], "after is no list"),
        ([{**SHOP, "after": ["pool"]}, {**POOL, "after": ["shop"]}], "a circle: shop -> pool -> shop"),
        ([{**SHOP, "after": ["shop"]}], "a circle: shop -> shop"),
        ([{**SHOP, "helth_url": "x"}], "the setting helth_url"),
        ([{"name": "shop", "provider": "systemd"}], "shop lacks unit"),
        ([{**SHOP, "unit": ""}], "shop lacks unit"),
        ([{**SHOP, "unit": 7}], "unit is a int; expected a str"),
        ([{**SHOP, "repoint": "false"}], "repoint is a str; expected a bool"),
        ([{**POOL, "port": True}], "port is a bool"),
        ([{**DNS, "hosts": ["a-app1"]}], "dns has hosts"),
        (["shop"], "no list of mappings"),
        (None, "no list of mappings"),
    ],
)
def test_what_cannot_be_meant_is_refused_by_name(entries, words):
    with pytest.raises(Refusal, match=words) as refusal:
        read(dict.fromkeys(HOSTS, entries), HOSTS)
    assert refusal.value.gate["id"] == "COMPONENT"


def test_hosts_that_do_not_say_the_same_are_refused():
    with pytest.raises(Refusal, match="b-app1 says other components"):
        read({"a-app1": [SHOP], "b-app1": [SHOP, POOL]}, HOSTS)


def test_a_host_looks_at_what_is_its_own_whatever_else_is_wrong():
    assert of_host([SHOP, {**POOL, "hosts": ["b-app1"]}, DNS, "junk", {**SHOP, "provider": "magic"}], "a-app1", HOSTS) == [SHOP]
    assert of_host("junk", "a-app1", HOSTS) == []


def test_an_application_host_without_a_component_is_refused(landscape):
    for entry in landscape.application.values():
        entry["settings"] = {"components": [{**SHOP, "hosts": ["a-app1"]}]}
    with pytest.raises(Refusal, match="COMPONENT on b-app1: observed no component runs there"):
        declared_components(landscape)


@st.composite
def graphs(draw):
    """Components that come after some of any others."""
    names = [f"c{number}" for number in range(draw(st.integers(1, 7)))]
    return [
        Component(name, "systemd", (name,), tuple(draw(st.lists(st.sampled_from(names), max_size=3, unique=True))), {})
        for name in names
    ]


@given(graphs())
def test_every_order_is_kept_or_a_real_circle_is_named(components):
    after = {one.name: set(one.after) for one in components}
    try:
        groups = grouped(components)
    except Refusal as refusal:
        circle = refusal.gate["observed"].removeprefix("a circle: ").split(" -> ")
        assert len(circle) > 1
        assert circle[0] == circle[-1]
        assert all(second in after[first] for first, second in zip(circle, circle[1:], strict=False))
        return
    place = {one.name: number for number, group in enumerate(groups) for one in group}
    assert sorted(place) == sorted(after)
    # As early as can be: right behind the last of those that it comes after.
    assert all(place[name] == max((place[one] + 1 for one in others), default=0) for name, others in after.items())
