"""The archive as arithmetic: names, holes, forks, and what two repositories disagree about."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import wal_archive
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import Archive, Fork, Segment
from hypothesis import given
from hypothesis import strategies as st

SHA = "0f02f23cf8d3491aad6a3646a60b2367610df115"
OTHER = "43e35c338dcac8b554e6364d0454247525a0b579"
MEGABYTE = 1 << 20
SIZES = st.sampled_from([1, 16, 64, 1024]).map(lambda megabytes: megabytes * MEGABYTE)


def archive(*segments: Segment, histories: tuple[int, ...] = (), checksum: str = SHA) -> Archive:
    names = [f"{wal_archive.segment_name(segment)}-{checksum}.zst" for segment in segments]
    return wal_archive.read_archive(
        [f"17-1/{name[:16]}/{name}" for name in names] + [f"17-1/{timeline:08X}.history" for timeline in histories]
    )


def run(timeline: int, first: int, last: int) -> list[Segment]:
    return [Segment(timeline, number) for number in range(first, last + 1)]


@given(st.integers(1, 0xFFFFFFFF), st.integers(0, (1 << 40) - 1), SIZES)
def test_a_segment_and_its_name_are_the_same(timeline, megabyte, size):
    segment = Segment(timeline, megabyte * MEGABYTE // size)
    assert wal_archive.read_segment(wal_archive.segment_name(segment, size), size) == segment


def test_names_go_on_behind_the_last_segment_of_a_log():
    assert wal_archive.segment_name(Segment(1, 256)) == "000000010000000100000000"


def test_what_is_no_segment_is_left_out():
    found = wal_archive.read_archive(
        [
            f"17-1/0000000100000000/000000010000000000000007.partial-{SHA}.zst",
            "17-1/0000000100000000/000000010000000000000002.00000028.backup",
            f"17-1/0000000100000000/000000010000000000000002-{SHA}",
            "17-1/00000002.history",
        ]
    )
    assert list(found.segments) == [Segment(1, 2)]
    assert found.histories == {2}


def test_the_names_of_segments_are_known_before_their_size():
    listing = [
        "0000000100000000",
        "00000002.history",
        *(f"0000000{line}00000000/0000000{line}00000000000000FF-{SHA}.lz4" for line in (2, 1)),
    ]
    assert wal_archive.segment_names(listing) == ["0000000100000000000000FF", "0000000200000000000000FF"]


@given(st.integers(0, 300), st.integers(2, 40), st.data())
def test_exactly_the_holes_are_missing(first, count, data):
    every = run(1, first, first + count)
    # The first is the backup's own, and behind the last nobody can see a hole.
    holes = set(data.draw(st.lists(st.sampled_from(every[:-1]), unique=True)))
    found = wal_archive.missing(archive(*(segment for segment in every if segment not in holes)), [(every[0], every[0])], {})
    assert found == sorted(holes)


def test_what_lies_before_the_oldest_backup_may_be_gone():
    assert wal_archive.missing(archive(*run(1, 5, 9)), [(Segment(1, 5), Segment(1, 5))], {}) == []


def test_the_parent_must_reach_the_fork_and_the_child_begin_there():
    fork = {2: Fork(1, 8 * 16 * MEGABYTE + 40)}
    whole = [*run(1, 5, 7), *run(2, 8, 10)]
    assert wal_archive.missing(archive(*whole, histories=(2,)), [(Segment(1, 5), Segment(1, 5))], fork) == []
    for lost in (Segment(1, 7), Segment(2, 8)):
        found = wal_archive.missing(
            archive(*(one for one in whole if one != lost), histories=(2,)), [(Segment(1, 5), Segment(1, 5))], fork
        )
        assert found == [lost]


def test_a_backup_behind_the_fork_does_not_need_the_parent():
    fork = {2: Fork(1, 8 * 16 * MEGABYTE)}
    assert wal_archive.missing(archive(*run(1, 2, 3), *run(2, 9, 10), histories=(2,)), [(Segment(2, 9), Segment(2, 9))], fork) == []


def test_a_backup_needs_its_wal_up_to_its_end_though_nothing_is_archived_behind_it():
    needed = [(Segment(1, 5), Segment(1, 7))]
    assert wal_archive.missing(archive(*run(1, 5, 6)), needed, {}) == [Segment(1, 7)]
    assert wal_archive.missing(archive(*run(1, 2, 4)), needed, {}) == run(1, 5, 7)


def test_a_promotion_that_was_given_up_before_it_archived_a_segment_needs_none():
    given_up = {2: Fork(1, 8 * 16 * MEGABYTE + 40)}
    needed = [(Segment(1, 5), Segment(1, 5))]
    assert wal_archive.missing(archive(*run(1, 5, 9), histories=(2,)), needed, given_up) == []
    # It went on after all: now its beginning counts.
    assert wal_archive.missing(archive(*run(1, 5, 9), *run(2, 9, 9), histories=(2,)), needed, given_up) == [Segment(2, 8)]


def test_a_backup_of_a_stopped_server_needs_no_wal():
    assert wal_archive.of_backup({"archive": {"start": None, "stop": None}}) is None
    span = wal_archive.of_backup({"archive": {"start": "000000010000000000000005", "stop": "000000010000000000000007"}})
    assert span == (Segment(1, 5), Segment(1, 7))


def test_the_history_of_a_grandchild_names_its_parent_last():
    text = "1\t0/8000028\tno recovery target specified\n\n# 9\t0/9\n2\t0/C0000A0\tbefore 2026-11-25 UTC # by hand\n"
    assert wal_archive.read_history(text) == [Fork(1, 0x8000028), Fork(2, 0xC0000A0)]


def test_two_contents_of_one_segment_are_a_split():
    both = wal_archive.read_archive([f"17-1/0000000100000000/000000010000000000000004-{checksum}.zst" for checksum in (SHA, OTHER)])
    assert wal_archive.split(both) == [Segment(1, 4)]


def test_repositories_differ_only_where_both_have_a_segment():
    one, other = archive(*run(1, 1, 4)), archive(*run(1, 3, 6), checksum=OTHER)
    assert wal_archive.differing(one, other) == run(1, 3, 4)


@pytest.mark.parametrize(
    ("segments", "said"),
    [
        ([], ""),
        (run(1, 4, 4), "000000010000000000000004"),
        (run(1, 4, 6), "000000010000000000000004 to 000000010000000000000006"),
        ([Segment(1, 1), Segment(1, 3)], "000000010000000000000001, 000000010000000000000003"),
    ],
)
def test_runs_are_named_by_their_ends(segments, said):
    assert wal_archive.named(segments) == said
