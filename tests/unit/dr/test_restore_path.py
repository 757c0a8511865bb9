from __future__ import annotations

import datetime

from ansible_collections.relevo.dr.plugins.module_utils import restore_path
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Leg, path
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import Archive, Fork, Segment, segment_name
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


def test_commits_and_restore_points_are_read_from_a_dump():
    records = restore_path.records(DUMP)
    assert [record.position for record in records][-1] == 0x30021F8
    second = datetime.datetime(2026, 11, 25, 3, 27, 20, 604630, datetime.timezone.utc)
    assert [record.committed_at for record in records if record.committed_at] == [second, second.replace(second=21, microsecond=0)]
    assert [record.point for record in records if record.point] == ["before two"]


def archive(*segments):
    return Archive(dict.fromkeys(segments, (DIGEST,)))


def on(timeline, *numbers):
    return [Segment(timeline, number) for number in numbers]


def names(timeline, *numbers):
    return [segment_name(segment) for segment in on(timeline, *numbers)]


def test_a_gap_is_named_and_what_an_ancestor_or_a_child_holds_is_none():
    legs = path({2: [Fork(1, 5 * 16 * MIB + 100)]}, 2)
    whole = archive(*on(1, 1, 2, 3, 4), *on(2, 5, 6, 7))
    assert restore_path.missing(whole, legs, 2 * 16 * MIB + 40, 7 * 16 * MIB + 9, 16 * MIB) == []
    gap = archive(*on(1, 1, 2, 4), *on(2, 5, 7))
    assert restore_path.missing(gap, legs, 2 * 16 * MIB + 40, 7 * 16 * MIB + 9, 16 * MIB) == [*names(1, 3), *names(2, 6)]
    # What the parent wrote after it was left is of no use.
    beyond = archive(*on(1, 1, 2, 3, 4, 5, 6), *on(2, 5, 7))
    assert restore_path.missing(beyond, legs, 2 * 16 * MIB, 7 * 16 * MIB + 9, 16 * MIB) == names(2, 6)


@given(st.sets(st.integers(0, 40)), st.integers(0, 20), st.integers(1, 20), st.integers(1, 20))
def test_exactly_what_is_not_there_is_missing_up_to_a_limit(numbers, first, count, limit):
    begin, end = first * 16 * MIB, (first + count) * 16 * MIB
    expected = names(1, *[number for number in range(first, first + count) if number not in numbers])
    assert restore_path.missing(archive(*on(1, *numbers)), [Leg(1)], begin, end, 16 * MIB, limit) == expected[:limit]
