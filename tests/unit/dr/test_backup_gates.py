"""The judgement over a repository: each gate from what was found, with a sentence that names it."""

from __future__ import annotations

import datetime
from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import backup_gates, wal_archive
from ansible_collections.relevo.dr.plugins.module_utils.backup_gates import Asked
from ansible_collections.relevo.dr.plugins.module_utils.backup_verification import Findings, Memory
from ansible_collections.relevo.dr.plugins.module_utils.restorable import stretches, usable_backups
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import Fork, Segment

NOW, HOUR = 1_795_000_000.0, 3600.0
PLACE = "repository 1 (bucket relevo-b at b-store1:443)"
SEGMENT_BYTES = 16 << 20
ASKED = Asked(HOUR, 3, 2 * HOUR, 0.5, SEGMENT_BYTES, 30)
SHA = "0f02f23cf8d3491aad6a3646a60b2367610df115"


def backup(hours: int, kind: str = "full", size: int = 1000, **more) -> dict:
    start = NOW - NOW % HOUR - hours * HOUR + 60
    return {
        "label": f"{hours}{kind[0].upper()}",
        "type": kind,
        "timestamp": {"start": start, "stop": start + 30},
        "info": {"size": size},
        "error": False,
        "archive": {"start": "000000010000000000000002", "stop": "000000010000000000000002"},
        "lsn": {"start": "0/2000028", "stop": "0/2000120"},
        "database": {"id": 1, "repo-key": 1},
        "reference": None,
        **more,
    }


def findings(*backups: dict, **more) -> Findings:
    archive = wal_archive.read_archive([f"17-1/0000000100000000/00000001000000000000000{number}-{SHA}.zst" for number in (2, 3, 4)])
    whole = Findings(
        info={"cipher": "aes-256-cbc", "backup": list(backups or [backup(3), backup(2), backup(1)])},
        encrypted=True,
        information={},
        missing={},
        wrong={},
        wrong_segments={},
        damaged={},
        archive=archive,
        holes=(),
        histories={},
        broken_histories=(),
        objects=9,
        bytes_stored=900,
        objects_read=3,
        bytes_read=300,
        unverifiable=0,
        memory=Memory(),
    )
    return replace(whole, **more)


def judged(found: Findings, asked: Asked = ASKED, offset: float | None = 0.2) -> dict[str, dict]:
    return {gate["id"]: gate for gate in backup_gates.judge(PLACE, found, asked, NOW, offset)}


def test_a_whole_repository_passes_every_gate():
    assert {gate["verdict"] for gate in judged(findings()).values()} == {"pass"}
    assert all(gate["host"] == PLACE and gate["phase"] == "VERIFY" for gate in judged(findings()).values())


@pytest.mark.parametrize(
    ("gate", "change", "says"),
    [
        ("INFO", {"information": {"backup/minimarket/backup.info": "gone"}}, "backup.info: gone"),
        ("ENCRYPTION", {"encrypted": False}, "in clear"),
        ("OBJECTS", {"missing": {"backup/1F/bundle/1": "gone"}}, "backup/1F/bundle/1: gone"),
        ("CONTENT", {"wrong": {"backup/1F/bundle/1": "wrong checksum of pg_data/a"}}, "wrong checksum of pg_data/a"),
        ("CONTENT", {"unverifiable": 2}, "2 objects have no checksum"),
        ("WAL", {"wrong_segments": {"archive/17-1/x": "its content"}}, "archive/17-1/x"),
        ("PAGES", {"damaged": {"pg_data/base/1/2 of 1F": "3"}}, "pages 3"),
        ("G04", {"broken_histories": (2,)}, "history files missing or damaged of timelines: 2"),
    ],
)
def test_what_is_wrong_is_named_with_a_next_action(gate, change, says):
    found = judged(findings(**change))[gate]
    assert found["verdict"] in ("fail", "unknown")
    assert says in found["observed"]
    assert found["next_action"]


def test_a_hole_in_the_wal_is_named():
    found = judged(findings(holes=(Segment(1, 3),)))["G04"]
    assert (found["verdict"], "000000010000000000000003" in found["observed"]) == ("fail", True)


def test_a_period_whose_only_backup_is_damaged_empty_or_incomplete_is_not_covered():
    for bad in (backup(2, error=True), backup(2, size=0)):
        assert judged(findings(backup(3), bad, backup(1)))["COVERAGE"]["verdict"] == "fail"
    assert judged(findings(missing={"backup/2F/bundle/1": "gone"}))["COVERAGE"]["observed"].startswith("2/3")
    # What a damaged full backup was the base of is of no use either.
    based = backup(1, "incr", reference=["2F"])
    found = judged(findings(backup(3), backup(2), based, wrong={"backup/2F/bundle/1": "x"}))
    assert found["COVERAGE"]["observed"].startswith("1/3")


def test_no_backup_at_all_fails_age_coverage_and_window():
    found = judged(findings(info={"cipher": "aes-256-cbc", "backup": []}))
    assert found["G05"]["verdict"] == found["COVERAGE"]["verdict"] == "fail"
    assert window(findings(info={"backup": []}), UNTIL)["observed"] == "no usable backup"


def test_a_cluster_younger_than_the_window_is_judged_since_it_is_protected():
    young = replace(ASKED, protected_since=NOW - NOW % HOUR - 2 * HOUR)
    found = judged(findings(backup(2), backup(1)), young)["COVERAGE"]
    assert found["verdict"] == "pass"
    assert found["observed"].startswith("2/2")
    assert "protected since" in found["observed"]
    newborn = replace(ASKED, protected_since=NOW)
    assert judged(findings(backup(0)), newborn)["COVERAGE"]["verdict"] == "not_applicable"


def test_a_full_backup_that_shrank():
    assert judged(findings(backup(3), backup(2), backup(1, size=400)))["TREND"]["verdict"] == "fail"
    assert judged(findings(backup(3), backup(2), backup(1, size=600)))["TREND"]["verdict"] == "pass"
    assert judged(findings(backup(1)))["TREND"]["verdict"] == "not_applicable"


def test_a_clock_that_is_20_minutes_off():
    found = judged(findings(), offset=-1200.0)["G17"]
    assert found["verdict"] == "fail"
    assert "1200 s behind" in found["observed"]
    assert judged(findings(), offset=None)["G17"]["verdict"] == "not_applicable"


UNTIL = "2026-11-25T03:00:00.000000Z"


def window(found: Findings, until: str | None = UNTIL, timeline: int = 0) -> dict:
    return backup_gates.window(PLACE, stretches(found, timeline, SEGMENT_BYTES), until)


def ended(one: dict) -> str:
    return datetime.datetime.fromtimestamp(one["timestamp"]["stop"], datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def at(hours: int, start: int, stop: int, timeline: int = 1, **more) -> dict:
    """A backup from one segment to another."""
    names = {"start": f"{timeline:08X}00000000{start:08X}", "stop": f"{timeline:08X}00000000{stop:08X}"}
    return backup(hours, archive=names, lsn={"start": f"0/{start:X}000028", "stop": f"0/{stop:X}000120"}, **more)


def test_a_window_without_a_proven_end_is_unknown():
    assert window(findings(), None)["verdict"] == "unknown"
    assert window(findings())["verdict"] == "pass"
    assert window(findings())["observed"] == f"from {ended(backup(3))} to {UNTIL}"


BEFORE, AFTER = at(3, 2, 3), at(1, 6, 7)
CUTS = {
    "missing": {"holes": (Segment(1, 4), Segment(1, 5))},
    "wrong": {"wrong_segments": {f"archive/17-1/0000000100000000/000000010000000000000004-{SHA}.zst": "its content"}},
    "of two contents": {
        "archive": wal_archive.read_archive(
            [f"17-1/0000000100000000/000000010000000000000004-{checksum}.zst" for checksum in (SHA, "a" * 40)]
        )
    },
}


@pytest.mark.parametrize("cut", CUTS)
def test_the_window_begins_behind_a_segment_that_is_not_whole(cut):
    found = findings(BEFORE, AFTER, **CUTS[cut])
    assert window(found)["verdict"] == "pass"
    before = f"from {ended(BEFORE)} to segment 000000010000000000000004"
    assert window(found)["observed"] == f"from {ended(AFTER)} to {UNTIL}; also {before}"
    assert backup_gates.restorable_from(stretches(found, 0, SEGMENT_BYTES)) == AFTER["timestamp"]["stop"]
    # Both restore, so both cover their hour.
    assert judged(found, replace(ASKED, periods=3))["COVERAGE"]["observed"].startswith("2/3")


def test_nothing_leads_to_the_present_across_a_hole_behind_the_newest_backup():
    found = window(findings(BEFORE, AFTER, holes=(Segment(1, 8),)))
    assert found["verdict"] == "fail"
    assert found["observed"].startswith(f"from {ended(BEFORE)} to segment 000000010000000000000008; no usable backup leads")


def test_a_backup_whose_own_wal_is_gone_covers_nothing():
    found = findings(backup(3), at(2, 5, 7), backup(1), holes=(Segment(1, 6),))
    assert judged(found)["COVERAGE"]["observed"].startswith("2/3")
    assert [one["label"] for one in usable_backups(found, SEGMENT_BYTES)] == ["3F", "1F"]


def test_the_window_follows_the_timeline_in_use_and_names_what_was_left():
    left = {2: (Fork(1, 0x5000000),)}
    kept, abandoned, child = at(3, 2, 3), at(2, 6, 7), at(1, 8, 8, timeline=2)
    found = findings(kept, abandoned, child, histories=left)
    assert (
        window(found, timeline=2)["observed"]
        == f"from {ended(kept)} to {UNTIL}; also from {ended(abandoned)} to the end of timeline 1"
    )
    # The parent's segment of the fork and what it wrote afterwards is nobody's way; the child's is.
    assert window(replace(found, holes=(Segment(1, 5),)), timeline=2)["observed"].startswith(f"from {ended(kept)} to {UNTIL}")
    cut = window(replace(found, holes=(Segment(2, 5),)), timeline=2)["observed"]
    assert cut.startswith(f"from {ended(child)} to {UNTIL}; also from {ended(kept)} to segment 000000020000000000000005")
    # A promotion that was given up leads nowhere: the parent is in use.
    assert window(found, timeline=1)["observed"].startswith(f"from {ended(kept)} to {UNTIL}; also from {ended(child)}")


def test_backups_from_before_an_upgrade_cover_their_hours_and_nothing_else():
    databases = [{"id": 1, "version": "17", "repo-key": 1}, {"id": 2, "version": "18", "repo-key": 1}]
    older = [backup(3), backup(2), backup(1)]
    found = findings(info={"cipher": "aes-256-cbc", "db": databases, "backup": older})
    gates = judged(found)
    assert (gates["COVERAGE"]["verdict"], gates["G05"]["verdict"], gates["TREND"]["verdict"]) == ("pass", "fail", "not_applicable")
    assert window(found)["observed"] == "no usable backup"
    ours = backup(0, database={"id": 2, "repo-key": 1}, size=10)
    both = findings(info={"cipher": "aes-256-cbc", "db": databases, "backup": [*older, ours]})
    assert (judged(both)["G05"]["verdict"], window(both)["observed"]) == ("pass", f"from {ended(ours)} to {UNTIL}")
    gone = replace(both, missing={"archive/17-1/0000000100000000/000000010000000000000002": "gone"})
    assert judged(gone)["COVERAGE"]["observed"].startswith("0/3")


def test_repositories_that_hold_other_content_disagree():
    other = wal_archive.read_archive([f"17-1/0000000100000000/000000010000000000000003-{'a' * 40}.zst"])
    [gate] = backup_gates.agreement({"one": findings(), "other": findings(archive=other)}, SEGMENT_BYTES)
    assert gate["verdict"] == "fail"
    assert "000000010000000000000003" in gate["observed"]
    assert [gate["verdict"] for gate in backup_gates.agreement({"one": findings(), "other": findings()}, SEGMENT_BYTES)] == ["pass"]
    assert backup_gates.agreement({"one": findings()}, SEGMENT_BYTES) == []
