"""Providers of the fence: what is tried next, and what ends the run instead."""

from __future__ import annotations

import sys

import pytest
from ansible_collections.relevo.dr.plugins.plugin_utils.fencing import Fencing, LockLost, NotFenced, fence


def switch(tmp_path, state: str) -> dict[str, list[str]]:
    """A power switch as commands: a file that says on or off."""
    place = tmp_path / "power"
    place.write_text(state)
    return {
        "command_off": [sys.executable, "-c", f"open({str(place)!r}, 'w').write('off')"],
        "command_status": [sys.executable, "-c", f"print(open({str(place)!r}).read())"],
    }


def fencing(tmp_path, *, answer=None, power: str = "on", lease_left: float = 60.0, **settings) -> Fencing:
    return Fencing(
        run_id="run",
        host="a-db1",
        settings={"providers": ["service", "command"], **switch(tmp_path, power), **settings},
        server_fence=lambda: answer,
        reachable=answer is not None,
        attested_by="",
        lease_left_seconds=lambda: lease_left,
    )


def test_a_silent_host_is_switched_off(tmp_path):
    proof = fence(fencing(tmp_path))
    assert (proof["class"], proof["changed"]) == ("powered_off", True)


def test_a_stop_that_failed_is_followed_by_the_power_switch(tmp_path):
    assert fence(fencing(tmp_path, answer={"failed": True, "msg": "it hangs"}))["class"] == "powered_off"


def test_a_run_that_lost_its_lock_switches_nothing_off(tmp_path):
    """Another run may have made that host the primary meanwhile."""
    lost = {"failed": True, "lock_lost": True, "msg": "this run no longer holds the lock"}
    with pytest.raises(LockLost, match="no longer holds"):
        fence(fencing(tmp_path, answer=lost))
    assert (tmp_path / "power").read_text() == "on"


def test_a_run_whose_lease_may_have_ended_switches_nothing_off(tmp_path):
    with pytest.raises(LockLost, match="lease of this run ended 5 s ago"):
        fence(fencing(tmp_path, lease_left=-5.0))
    assert (tmp_path / "power").read_text() == "on"


def test_a_host_that_is_off_already_needs_no_lease(tmp_path):
    proof = fence(fencing(tmp_path, lease_left=-5.0, power="off"))
    assert (proof["class"], proof["changed"]) == ("powered_off", False)


def test_without_any_provider_nothing_is_proven(tmp_path):
    with pytest.raises(NotFenced, match="nobody attested"):
        fence(fencing(tmp_path, command_off=[], command_status=[]))


ENDED = {"expired": True, "accepted": True, "said": "armed with 20 s, last heard 40 s ago"}
LEASED = {"providers": ["service", "command", "lease"], "command_off": [], "command_status": []}


def test_an_ended_lease_is_a_proof_of_its_own_class(tmp_path):
    proof = fence(fencing(tmp_path, **LEASED, lease=ENDED))
    assert (proof["class"], proof["provider"], proof["changed"]) == ("lease_expired", "lease", False)
    assert proof["probes"][0]["result"] == ENDED["said"]


def test_the_power_switch_comes_before_the_lease(tmp_path):
    assert fence(fencing(tmp_path, providers=LEASED["providers"], lease=ENDED))["class"] == "powered_off"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"lease": {**ENDED, "expired": False}}, "armed with 20 s"),
        ({"lease": {**ENDED, "accepted": False}}, "nobody accepted by name"),
        ({"lease": None}, "was not judged"),
        ({"lease": ENDED, "providers": ["service", "command"]}, "nobody attested"),
    ],
)
def test_a_lease_that_has_not_ended_or_was_not_accepted_proves_nothing(tmp_path, changes, says):
    with pytest.raises(NotFenced, match=says):
        fence(fencing(tmp_path, **{**LEASED, **changes}))
