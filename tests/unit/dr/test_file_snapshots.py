"""Snapshots of files as a repository lists them: which is taken, when one is too old or too small, and what is read again when."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import file_snapshots
from ansible_collections.relevo.dr.plugins.module_utils.file_snapshots import FAIL, NOT_APPLICABLE, PASS, Size, Snapshot
from hypothesis import given
from hypothesis import strategies as st

DAY = 86400.0
OLD = {
    "time": "2026-11-25T03:28:39.097644904Z",
    "tree": "964d",
    "paths": ["/etc"],
    "hostname": "h1",
    "username": "root",
    "tags": ["relevo-configuration"],
    "id": "fa3ec13392d9d0684cc1601afd56fee7e3e674f12880975a78a7d37a047cc188",
    "short_id": "fa3ec133",
}
NEW = {
    **OLD,
    "time": "2026-11-25T04:28:50.690517819+01:00",
    "id": "422e7045d8e2b62bbe69955e1f14014efed57ec1b5c7b7b32405d06046b89588",
    "program_version": "restic 0.18.0",
    "summary": {"total_files_processed": 5, "total_bytes_processed": 3398369},
}


def snapshot(at, name="a"):
    return Snapshot(name * 64, at, "h1", ("relevo-configuration",))


def test_both_versions_lists_are_read_in_the_order_of_time():
    found = file_snapshots.read([NEW, OLD])
    assert [entry.short for entry in found] == ["fa3ec133", "422e7045"]
    assert (found[0].files, found[1].files, found[1].size) == (None, 5, 3398369)
    assert 11 < found[1].at - found[0].at < 12


@pytest.mark.parametrize("text", ["2026-11-25 03:28:39", "2026-11-25T03:28:39", "yesterday"])
def test_a_time_without_an_offset_is_no_time(text):
    with pytest.raises(ValueError, match="offset"):
        file_snapshots.seconds(text)


def test_only_the_sets_own_snapshots_of_the_host_count():
    listed = file_snapshots.read([OLD, {**OLD, "hostname": "h2"}, {**OLD, "tags": ["relevo-system"]}, {**OLD, "tags": None}])
    assert len(file_snapshots.of_set(listed, "h1", "relevo-configuration")) == 1


@given(st.lists(st.floats(0, 1e9), max_size=20), st.one_of(st.none(), st.floats(0, 1e9)))
def test_the_chosen_one_is_the_newest_that_fits(times, until):
    found = file_snapshots.chosen([snapshot(at) for at in sorted(times)], until)
    fitting = [at for at in times if until is None or at <= until]
    assert (found.at if found else None) == (max(fitting) if fitting else None)


@pytest.mark.parametrize(
    ("age", "verdict"),
    [(0, PASS), (DAY, PASS), (DAY + 1, FAIL), (-30, PASS), (-3600, FAIL)],
    ids=["new", "just", "old", "skew", "future"],
)
def test_the_age_is_judged_in_both_directions(age, verdict):
    gate = file_snapshots.age_gate("h1", "repository 1", "configuration", snapshot(10 * DAY - age), 10 * DAY, DAY)
    assert gate["verdict"] == verdict
    assert gate["host"] == "h1, repository 1, set configuration"
    assert bool(gate["next_action"]) == (verdict == FAIL)


@pytest.mark.parametrize(("since", "verdict"), [(9.5 * DAY, NOT_APPLICABLE), (5 * DAY, FAIL), (None, FAIL)])
def test_no_snapshot_is_bad_once_one_was_due(since, verdict):
    assert file_snapshots.age_gate("h1", "r", "system", None, 10 * DAY, DAY, since)["verdict"] == verdict


@pytest.mark.parametrize(
    ("newest", "before", "verdict"),
    [
        (Size(10, 1000), [], PASS),
        (Size(0, 0), [], FAIL),
        (Size(3, 0), [], FAIL),
        (Size(60, 6000), [Size(100, 10000)], PASS),
        (Size(40, 6000), [Size(100, 10000)], FAIL),
        (Size(100, 400), [Size(100, 10000), Size(100, 10000), Size(1, 1)], FAIL),
        (Size(300, 90000), [Size(100, 10000)], PASS),
    ],
)
def test_an_empty_or_suddenly_small_snapshot_is_seen_even_after_another_one(newest, before, verdict):
    assert file_snapshots.size_gate("h1", "r", "system", newest, before, 0.5)["verdict"] == verdict


def test_damage_names_the_pack():
    gate = file_snapshots.data_gate("h1", "r", ["ab" * 32], [], "all packs")
    assert (gate["verdict"], gate["observed"]) == (FAIL, "pack " + "ab" * 32)
    assert file_snapshots.data_gate("h1", "r", [], [], "all packs")["verdict"] == PASS


@given(st.integers(1, 40), st.integers(1, 20), st.floats(0.2, 2.0))
def test_everything_is_read_again_in_time_whatever_the_pace(shares, days, pace_days):
    """Runs come at a steady pace; from the second on no share is ever older than the limit plus nothing."""
    within, pace = days * DAY, min(pace_days, days) * DAY
    read_at = {}
    now = 1000 * DAY
    for turn in range(60):
        due = file_snapshots.shares_due(read_at, shares, now, within, pace if turn else DAY)
        assert due
        read_at |= dict.fromkeys(due, now)
        assert set(read_at) == set(range(1, shares + 1))
        now += pace
        assert now - min(read_at.values()) <= within + 1e-6


def test_in_quiet_times_one_share_is_read():
    read_at = {share: share * DAY for share in range(1, 8)}
    assert file_snapshots.shares_due(read_at, 7, 8 * DAY, 30 * DAY, DAY) == [1]


def test_a_share_is_cut_as_restic_cuts_it():
    assert [file_snapshots.share_of(first + "0" * 62, 14) for first in ("00", "0d", "0e", "ff")] == [1, 14, 1, 255 % 14 + 1]


@pytest.mark.parametrize(("length", "text"), [(5, "5 s"), (300, "5.0 min"), (7200, "2.0 h"), (626400, "7.2 days")])
def test_durations_are_for_people(length, text):
    assert file_snapshots.duration(length) == text
