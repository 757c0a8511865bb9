"""The steps of a failback in their order: nothing is rebuilt that was not sealed, and only what was proven is called protected."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible_collections.relevo.dr.plugins.action import follow, lost, rebuild, salvage, salvaged
from ansible_collections.relevo.dr.plugins.module_utils.inputs import Inputs
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control, ControlError

from .test_reopening import PLAN

SETTINGS = {"unit": "u.service", "data_directory": "/d", "bin_directory": "/b", "port": 5432, "database": "shop", "stanza": "shop"}
KEPT = {
    "directory": "/var/lib/relevo-salvage/run",
    "digest": "f6" * 32,
    "missing": [],
    "timeline": 1,
    "fork_lsn": "0/3000000",
    "end_lsn": "0/3010000",
    "checkpoint_lsn": "0/3000100",
    "committed": 12,
}
WAYS = {"rewind": {"predicted_seconds": 5.0, "obstacle": None}, "delta": {"predicted_seconds": 10.0, "obstacle": "no store"}}
REBUILT = {"method": "rewind", "failed": {}, "seconds": 8.1}
CHOICE = {"methods": ["rewind"], "ways": WAYS}
ANSWERS = {
    "relation_names": {"names": {"1663/5/16388": "shop.orders"}},
    "server_fence": {"changed": False},
    "wal_salvage": {"changed": True, "salvage": KEPT, "references": ["relevo-5f3a90c1-7"]},
    "standby_rebuild": {"changed": True, "choice": CHOICE, "rebuild": REBUILT},
    "standby_follow": {"changed": True, "proof": {"timeline": 2, "replay_lsn": "0/4000000", "at": "2026-11-24T03:13:00.000000Z"}},
}
PROMOTED = {
    "already": True,
    "promoted_at": "2026-11-24T03:12:00.000000Z",
    "timeline": 2,
    "parent": 1,
    "fork_lsn": "0/3000000",
    "history": [{"timeline": 1, "lsn": "0/3000000"}],
}


class Everything(dict):
    """Whatever a step's arguments are asked for."""

    def __missing__(self, key):
        return f"<{key}>"


@pytest.fixture
def control(tmp_path):
    control = Control("run", str(tmp_path))
    failback = {**PLAN.as_dict(), "promote": "b-db1", "primary": "b-db1", "quiesce": (), "cutover": (), "planned": False}
    control.write("plan", failback)
    control.write("inputs", vars(Inputs(mode="planned", scope="", target_site="a")) | {"given": []})
    control.write("handover/promoted", PROMOTED)
    cluster = {"timeline": 2, "history": [{"timeline": 1, "lsn": "0/3000000"}], "size_bytes": 1 << 30}
    for host in ("a-db1", "b-db1"):
        facts = {"cluster": cluster, "host": {"promoted_at": PROMOTED["promoted_at"]}}
        control.write(f"database/{host}", {"reachable": True, "settings": SETTINGS, "facts": facts})
    return control


def act(step, control, host, asked=None, answers=None, **arguments):
    action = step.ActionModule.__new__(step.ActionModule)
    action.host, action.control = host, control
    action._task = SimpleNamespace(args=Everything(arguments), check_mode=False)
    action._display = SimpleNamespace(display=lambda text: asked.append(("shown", text)) if asked is not None else None)

    def ask(module, given):
        name = module.rsplit(".", 1)[1]
        if asked is not None:
            asked.append((name, given))
        return {"phase": Milestone(name, host).ended(), **{**ANSWERS, **(answers or {})}[name]}

    action.ask = ask
    return action.act()


def miss(control, *numbers):
    entries = [{"n": number, "reference": f"relevo-5f3a90c1-{number}", "at": "", "server": "a-db1"} for number in numbers]
    act(lost, control, "wit1", prefix="relevo-5f3a90c1", lost=entries, acknowledged=900)


def said(result):
    return result["ansible_stats"]["data"]["relevo"]


def test_salvage_then_rebuild_then_follow(control):
    asked = []
    miss(control, 7)
    act(salvage, control, "b-db1", asked)
    kept = act(salvage, control, "a-db1", asked)
    judged = act(salvaged, control, "a-db1", asked)
    assert not judged["failed"], judged["msg"]
    assert said(judged)["measures"] == {"salvaged": {"lost_numbers": [7], "not_found_numbers": []}}
    brought = act(rebuild, control, "a-db1", asked)
    followed = act(follow, control, "a-db1", asked)
    steps = [(name, given) for name, given in asked if name != "shown"]
    assert [name for name, _ in steps] == [
        "relation_names",
        "server_fence",
        "wal_salvage",
        "standby_rebuild",
        "standby_rebuild",
        "standby_follow",
    ]
    assert steps[2][1]["prefix"] == "relevo-5f3a90c1"
    assert steps[3][1]["divergent_bytes"] == 0x10000
    told = said(brought)["measures"]["rebuild"]["a-db1"]
    assert (told["primary_bytes"], told["divergent_bytes"], told["seconds"]) == (1 << 30, 0x10000, 8.1)
    assert (steps[5][1]["timeline"], steps[5][1]["history"]) == (2, PROMOTED["history"])
    assert said(kept)["measures"]["salvage"]["a-db1"]["digest"] == KEPT["digest"]
    assert "by rewind in 8 s; predicted: rewind in about 5 s; delta not possible (no store)" in brought["msg"]
    assert said(followed)["measures"]["time_to_reprotect_seconds"] == 60.0


def test_the_way_is_said_with_its_time_before_the_data_are_touched(control):
    asked = []
    act(salvage, control, "b-db1")
    act(salvage, control, "a-db1")
    act(rebuild, control, "a-db1", asked)
    assert [given["step"] if name == "standby_rebuild" else name for name, given in asked if name != "shown"] == ["choose", "act"]
    order = [name if name == "shown" else given["step"] for name, given in asked]
    assert order == ["choose", "shown", "act", "shown"]
    assert asked[1][1].startswith("a-db1: its data come back by rewind, in about 5 s; predicted: rewind in about 5 s; delta not")
    assert asked[2][1]["methods"] == ["rewind"]


def test_what_needs_no_rebuild_is_left_alone(control):
    asked = []
    act(salvage, control, "b-db1")
    act(salvage, control, "a-db1")
    nothing = {"standby_rebuild": {"changed": False, "choice": {"methods": [], "ways": {}}}}
    left = act(rebuild, control, "a-db1", asked, nothing)
    assert not left["changed"]
    assert [name for name, _ in asked] == ["standby_rebuild", "shown"]
    assert said(left)["measures"]["rebuild"]["a-db1"]["method"] == "none"


def test_nothing_is_rebuilt_that_was_not_sealed(control):
    asked = []
    with pytest.raises(ControlError):
        act(rebuild, control, "a-db1", asked)
    assert asked == []


def test_a_lost_transaction_that_is_not_found_stops_it(control):
    miss(control, 7, 8)
    act(salvage, control, "b-db1")
    act(salvage, control, "a-db1")
    judged = act(salvaged, control, "a-db1")
    assert judged["failed"]
    assert "2 lost, 1 of them found" in judged["msg"]
    assert "Nothing was rewound" in judged["msg"]
    control.write("inputs", {**control.read("inputs"), "accept_unknown": ["G21"]})
    accepted = act(salvaged, control, "a-db1")
    assert not accepted["failed"]
    assert "accepted" in {gate["verdict"] for gate in said(accepted)["gates"]}


def test_without_the_ledger_it_goes_on_only_by_name(control):
    act(salvage, control, "b-db1")
    act(salvage, control, "a-db1")
    assert act(salvaged, control, "a-db1")["failed"]


@pytest.mark.parametrize(
    ("step", "module", "words"),
    [
        (salvage, "wal_salvage", "Nothing was rewound"),
        (rebuild, "standby_rebuild", "stays fenced"),
        (follow, "standby_follow", "NOT protected"),
    ],
    ids=["salvage", "rebuild", "follow"],
)
def test_a_failure_says_in_which_state_it_leaves_the_host(control, step, module, words):
    act(salvage, control, "b-db1")
    if step is not salvage:
        act(salvage, control, "a-db1")
    result = act(step, control, "a-db1", answers={module: {"failed": True, "msg": "no"}})
    assert result["failed"]
    assert words in result["msg"]
    assert "Next:" in result["msg"]


def test_hosts_without_a_part_do_nothing(control):
    asked = []
    for step in (rebuild, follow):
        assert not act(step, control, "b-db1", asked).get("failed")
    control.write("plan", {**control.read("plan"), "done": True})
    for step in (salvage, salvaged, rebuild, follow):
        assert not act(step, control, "a-db1", asked).get("failed")
    assert asked == []
