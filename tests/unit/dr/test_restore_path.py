from __future__ import annotations

import datetime

from ansible_collections.relevo.dr.plugins.module_utils import restore_path
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Leg, path
from hypothesis import given
from hypothesis import strategies as st

MIB = 1 << 20
DIGEST = "de6512c6693403ad6b06da7acd47e9cb623208e5"
DUMP = """\
first record is after 0/3000000, at 0/3000028, skipping over 40 bytes
rmgr: Transaction len (rec/tot):     34/    34, tx:        739, lsn: 0/03002168, prev 0/03002120, desc: COMMIT 2026-11-25 03:27:20.604630 UTC
rmgr: Transaction len (rec/tot):     34/    34, tx:        741, lsn: 0/03002188, prev 0/03002168, desc: ABORT 2026-11-25 03:27:20.7 UTC
rmgr: XLOG        len (rec/tot):     98/    98, tx:          0, lsn: 0/03002190, prev 0/03002168, desc: RESTORE_POINT before two
rmgr: Transaction len (rec/tot):     98/    98, tx:          0, lsn: 0/030021B0, prev 0/03002168, desc: COMMIT_PREPARED 740: 2026-11-25 03:27:21 UTC; dropped
rmgr: Heap        len (rec/tot):     71/    71, tx:        740, lsn: 0/030021F8, prev 0/03002190, desc: INSERT off: 2, blkref #0: rel 1663/5/16384 blk 0
"""


def test_the_files_of_an_archive_are_segments_and_histories_by_timeline():
    segments, histories = restore_path.names(
        [
            ".",
            "0000000100000000",
            f"0000000100000000/000000010000000000000003-{DIGEST}.zst",
            f"0000000100000000/000000010000000000000002-{DIGEST}",
            "0000000100000000/000000010000000000000002.00000028.backup",
            f"0000000100000000/000000010000000000000004.partial-{DIGEST}.zst",
            f"0000000200000000/000000020000000000000004-{DIGEST}.lz4",
            "00000002.history",
        ]
    )
    assert segments == {1: ["000000010000000000000002", "000000010000000000000003"], 2: ["000000020000000000000004"]}
    assert histories == [2]


def test_a_history_names_its_parents_and_where_each_was_left():
    text = "1\t0/3000148\tno recovery target specified\n\n2\t1/0\tbefore 2026-11-25 03:27:20 UTC # by hand\n"
    assert restore_path.history(text) == [(1, 0x3000148), (2, 1 << 32)]


def test_commits_and_restore_points_are_read_from_a_dump():
    records = restore_path.records(DUMP)
    assert [record.position for record in records][-1] == 0x30021F8
    second = datetime.datetime(2026, 11, 25, 3, 27, 20, 604630, datetime.timezone.utc)
    assert [record.committed_at for record in records if record.committed_at] == [second, second.replace(second=21, microsecond=0)]
    assert [record.point for record in records if record.point] == ["before two"]


@given(st.integers(1, 99), st.integers(0, 1 << 40), st.sampled_from([MIB, 16 * MIB, 1024 * MIB]))
def test_the_name_of_a_segment_and_its_beginning_belong_together(timeline, position, size):
    name = restore_path.segment_name(timeline, position, size)
    assert restore_path.segment_start(name, size) <= position < restore_path.segment_start(name, size) + size
    assert int(name[:8], 16) == timeline


def names(timeline, *numbers):
    return [restore_path.segment_name(timeline, number * 16 * MIB, 16 * MIB) for number in numbers]


def test_a_gap_is_named_and_what_an_ancestor_or_a_child_holds_is_none():
    legs = path({2: [(1, 5 * 16 * MIB + 100)]}, 2)
    whole = {1: names(1, 2, 3, 4), 2: names(2, 5, 6, 7)}
    assert restore_path.missing(whole, legs, 2 * 16 * MIB + 40, 7 * 16 * MIB + 9, 16 * MIB) == []
    gap = {1: names(1, 2, 4), 2: names(2, 5, 7)}
    assert restore_path.missing(gap, legs, 2 * 16 * MIB + 40, 7 * 16 * MIB + 9, 16 * MIB) == [*names(1, 3), *names(2, 6)]
    # What the parent wrote after it was left is of no use.
    beyond = {1: names(1, 2, 3, 4, 5, 6), 2: names(2, 5, 7)}
    assert restore_path.missing(beyond, legs, 2 * 16 * MIB, 7 * 16 * MIB + 9, 16 * MIB) == names(2, 6)


def test_the_segment_of_a_position_is_found_or_not():
    assert restore_path.holding(names(1, 2, 3), 3 * 16 * MIB + 5, 16 * MIB) == names(1, 3)[0]
    assert restore_path.holding(names(1, 2, 3), 4 * 16 * MIB, 16 * MIB) is None


@given(st.sets(st.integers(0, 40)), st.integers(0, 20), st.integers(1, 20))
def test_nothing_is_missing_exactly_when_every_segment_is_there(numbers, first, count):
    have = {1: sorted(names(1, *numbers))}
    begin, end = first * 16 * MIB, (first + count) * 16 * MIB
    expected = names(1, *[number for number in range(first, first + count) if number not in numbers])
    assert restore_path.missing(have, [Leg(1)], begin, end, 16 * MIB, limit=100) == expected
