"""Where two servers' histories part: a timeline's number is no name."""

from __future__ import annotations

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.parting import (
    Parting,
    births,
    followed,
    line,
    of_host,
    part,
    part_from_writer,
)
from ansible_collections.relevo.dr.plugins.module_utils.restore_target import Leg

MIB16 = 16 << 20
ONE = {"timeline": 1, "lsn": "0/5000140"}
THEIRS = line(2, [ONE])


@pytest.mark.parametrize(
    ("ours", "parting"),
    [
        (line(1, []), Parting(1, 0x5000140, (Leg(1, 0x5000140),))),
        (line(2, [{"timeline": 1, "lsn": "0/7000000"}]), Parting(1, 0x5000140, (Leg(1, 0x5000140, 0x7000000), Leg(2, 0x7000000)))),
        (line(2, [{"timeline": 1, "lsn": "0/4000000"}]), Parting(1, 0x4000000, (Leg(2, 0x4000000),))),
        (line(3, [ONE, {"timeline": 2, "lsn": "0/6000000"}]), Parting(2, 0x6000000, (Leg(3, 0x6000000),))),
        (line(2, [ONE]), Parting(2, None, ())),
        (line(2, [ONE], {"2": "aa"}), Parting(2, None, ())),
    ],
    ids=[
        "was left",
        "began its own later",
        "began its own earlier",
        "left the primary's",
        "follows",
        "follows, as far as is known",
    ],
)
def test_where_histories_part(ours, parting):
    assert part(ours, THEIRS) == parting


def test_two_that_were_promoted_at_the_same_position_are_told_apart_by_their_first_record():
    ours, theirs = line(2, [ONE], {"2": "aa"}), line(2, [ONE], {"2": "bb"})
    assert part(ours, theirs) == Parting(1, 0x5000140, (Leg(2, 0x5000140),))
    assert part(ours, line(2, [ONE], {"2": "aa"})) == Parting(2, None, ())


def test_the_same_number_further_up_is_no_common_ancestor_either():
    ours = line(2, [{"timeline": 1, "lsn": "0/7000000"}])
    theirs = line(3, [ONE, {"timeline": 2, "lsn": "0/6000000"}])
    assert part(ours, theirs) == Parting(1, 0x5000140, (Leg(1, 0x5000140, 0x7000000), Leg(2, 0x7000000)))


def test_nothing_in_common():
    assert part(line(3, []), THEIRS) is None


def test_who_wrote_on_a_timeline_did_not_follow_it():
    assert part_from_writer(line(2, [ONE]), THEIRS) == Parting(1, 0x5000140, (Leg(2, 0x5000140),))
    assert part_from_writer(line(1, []), line(1, [])) is None
    assert part_from_writer(line(1, []), THEIRS) == part(line(1, []), THEIRS)


def test_a_host_tells_its_own_line(tmp_path):
    wal = tmp_path / "pg_wal"
    wal.mkdir()
    # Who only follows a timeline may have its history from the archive, and not here.
    assert of_host(str(tmp_path), 2, MIB16, THEIRS) == line(2, [ONE])
    assert of_host(str(tmp_path), 3, MIB16, THEIRS) is None
    assert of_host(str(tmp_path), 1, MIB16, THEIRS) == line(1, [])
    # Its own history counts, whatever the primary's says.
    (wal / "00000002.history").write_text("1\t0/7000000\tno recovery target specified\n")
    (wal / "00000003.history").write_text("1\t0/5000140\tx\n2\t0/6000000\tx\n")
    assert of_host(str(tmp_path), 2, MIB16, THEIRS) == line(2, [{"timeline": 1, "lsn": "0/7000000"}])


def test_a_timeline_is_known_by_its_first_record_while_its_first_segment_is_there(tmp_path):
    wal = tmp_path / "pg_wal"
    wal.mkdir()
    legs = line(3, [ONE, {"timeline": 2, "lsn": "0/6000000"}]).legs
    assert births(str(tmp_path), legs, MIB16) == {}
    (wal / "000000020000000000000005").write_bytes(b"\0" * 0x140 + b"\x2a" * 64)
    # At the beginning of a segment the page's header comes first.
    (wal / "000000030000000000000006").write_bytes(b"\x01" * 40 + b"\x2b" * 64)
    assert births(str(tmp_path), legs, MIB16) == {2: "2a" * 24, 3: "2b" * 24}
    (wal / "000000020000000000000005").write_bytes(b"\0" * 1024)
    assert births(str(tmp_path), legs, MIB16) == {3: "2b" * 24}


def test_a_copy_that_was_not_started_has_written_nothing(tmp_path):
    assert followed({"Database cluster state": "shut down in recovery"}, str(tmp_path))
    assert not followed({"Database cluster state": "shut down"}, str(tmp_path))
    (tmp_path / "backup_label").write_text("")
    assert followed({"Database cluster state": "in production"}, str(tmp_path))
