"""A lease is over only when every one who could have renewed it says so, and it was armed when it was last heard."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import lease

from .test_guard import guard

OBSERVER = Path(__file__).parents[3] / "roles/dr_ledger/files/relevo_observer.py"
GIVERS = ["b-app1", "b-db1", "wit1"]
ARMED = {"self_fence_seconds": 20, "heard_by": lease.digest(GIVERS)}


def said(sent=31.0, accepted=32.0, **changes):
    return {"sent_age_seconds": sent, "accepted_age_seconds": accepted, **ARMED, **changes}


def judged(**changes):
    seen = {"wit1": said(), "b-app1": said(35.0, 36.0), "b-db1": said(40.0, None, self_fence_seconds=None, heard_by=None)}
    return lease.judge("a-db1", {**seen, **{name.replace("_", "-"): facts for name, facts in changes.items()}})


def test_a_lease_that_nobody_can_have_renewed_is_over():
    found = judged()
    assert found.expired
    assert "armed with 20 s" in found.said
    assert "wit1 last heard it 32 s ago" in found.said


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"wit1": said(sent=29.9)}, "ends in"),
        ({"b_app1": None}, "b-app1 cannot be asked"),
        ({"b_db1": said(1.0, None)}, "left b-db1 1 s ago"),
        ({"b_db1": said(None, None)}, "b-db1 does not know"),
        ({"wit1": said(self_fence_seconds=0, heard_by=None)}, "no self-fence was armed"),
        ({"b_app1": said(31.0, 31.5, self_fence_seconds=0)}, "no self-fence was armed on a-db1 when b-app1"),
        ({"wit1": said(heard_by="00000000")}, "heard by others"),
        ({"wit1": said(accepted=None), "b_app1": said(accepted=None)}, "nobody outside its site remembers"),
    ],
)
def test_anything_less_is_no_proof(changes, says):
    found = judged(**changes)
    assert not found.expired
    assert says in found.said


def test_how_long_it_still_takes_is_said():
    assert judged(wit1=said(sent=10.0)).left_seconds == 20.0


def test_one_giver_less_than_the_guard_hears_is_no_proof():
    """An inventory that lost a host must not make its silence look like everybody's."""
    assert not lease.judge("a-db1", {"wit1": said(), "b-app1": said()}).expired


def test_givers_are_the_observers_and_database_hosts_of_other_sites():
    groups = {"dr_observer": ["wit1", "b-app1", "a-app1"], "dr_database": ["a-db1", "b-db1"], "dr_witness": ["wit1"]}
    sites = {"a-db1": "a", "a-app1": "a", "b-db1": "b", "b-app1": "b", "wit1": "w"}
    assert lease.givers("a-db1", groups, sites) == GIVERS
    assert lease.givers("b-db1", groups, sites) == ["a-app1", "a-db1", "wit1"]


def test_both_sides_name_the_givers_alike():
    assert guard.givers_digest(GIVERS) == lease.digest(reversed(GIVERS))
    armed = "relevo-guard armed=%d by=%s" % (20, guard.givers_digest(GIVERS))
    assert len(armed) < 64, "PostgreSQL would cut it off"
    pattern = re.search(r'^ARMED = re\.compile\(r"(.*)"\)$', OBSERVER.read_text(), re.MULTILINE).group(1)
    assert re.fullmatch(pattern, armed).groups() == ("20", lease.digest(GIVERS))
    assert guard.ARMED.pattern == pattern


BOOT = "b0"


def event(mono, outcome="accepted", *, sent=True, boot=BOOT, **more):
    at = "2026-11-24T12:%02d:%06.3fZ" % divmod(mono, 60)
    base = {"at": at, "mono": mono, "boot_id": boot, "address": "a-db1", "outcome": outcome, "sent_mono": mono if sent else None}
    return {**base, **(ARMED if outcome == "accepted" else {"self_fence_seconds": None}), **more}


def facts(*events, now=100.0):
    return lease.facts_of_log(events, now, BOOT)


def test_the_last_write_that_may_have_arrived_counts_not_the_last_that_was_acknowledged():
    found = facts(event(10.0), event(11.0, "unreachable"), event(14.0, "unreachable", sent=False))
    assert (found["sent_age_seconds"], found["accepted_age_seconds"]) == (89.0, 90.0)


def test_one_that_was_cut_off_before_it_heard_of_the_guard_says_nothing_about_it():
    found = facts(event(10.0), event(11.0, self_fence_seconds=None))
    assert (found["self_fence_seconds"], found["sent_age_seconds"]) == (20, 89.0)


def test_what_was_seen_before_a_reboot_is_at_least_as_old_as_the_boot():
    assert facts(event(5000.0, boot="before"))["sent_age_seconds"] == 100.0


def test_an_address_that_was_never_written_to_is_as_old_as_its_oldest_sight():
    assert facts(event(40.0, "unreachable", sent=False))["sent_age_seconds"] == 60.0
    assert facts()["sent_age_seconds"] is None


def test_an_older_log_takes_every_attempt_for_a_write():
    old = event(10.0, "unreachable")
    del old["sent_mono"]
    assert facts(old)["sent_age_seconds"] == 90.0


def test_what_the_guard_gave(tmp_path):
    path = tmp_path / "given.json"
    given = {"boot_id": BOOT, "sent": {"a-db1": 60.0}, "accepted": {"a-db1": {"at": 61.0, **ARMED}}}
    path.write_text(json.dumps(given))
    found = lease.facts_of_guard(["a-db1", "c-db1"], 100.0, BOOT, 30.0, str(path))
    assert found["a-db1"] == {"sent_age_seconds": 40.0, "accepted_age_seconds": 39.0, **ARMED}
    # Nothing was given to it during this boot.
    assert found["c-db1"]["sent_age_seconds"] == 70.0
    assert lease.facts_of_guard(["a-db1"], 100.0, "another", 30.0, str(path))["a-db1"]["accepted_age_seconds"] is None
    assert lease.facts_of_guard(["a-db1"], 100.0, BOOT, 30.0, "/nonexistent")["a-db1"]["sent_age_seconds"] == 70.0
    assert 0 <= lease.started_boottime() < guard.boottime()
