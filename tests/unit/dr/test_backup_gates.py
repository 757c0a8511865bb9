"""The judgement over a repository: each gate from what was found, with a sentence that names it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import backup_gates, wal_archive
from ansible_collections.relevo.dr.plugins.module_utils.backup_gates import Asked
from ansible_collections.relevo.dr.plugins.module_utils.backup_verification import Findings, Memory

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
        forks={},
        missing_histories=(),
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
        ("G04", {"missing_histories": (2,)}, "history files missing of timelines: 2"),
    ],
)
def test_what_is_wrong_is_named_with_a_next_action(gate, change, says):
    found = judged(findings(**change))[gate]
    assert found["verdict"] in ("fail", "unknown")
    assert says in found["observed"]
    assert found["next_action"]


def test_a_hole_in_the_wal_is_named():
    archive = wal_archive.read_archive([f"17-1/0000000100000000/00000001000000000000000{number}-{SHA}.zst" for number in (2, 4)])
    found = judged(findings(archive=archive))["G04"]
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
    assert backup_gates.window(PLACE, findings(info={"backup": []}), None)["verdict"] == "fail"


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


def test_a_window_without_a_proven_end_is_unknown():
    assert backup_gates.window(PLACE, findings(), None)["verdict"] == "unknown"
    assert backup_gates.window(PLACE, findings(), "2026-11-25T03:00:00.000000Z")["verdict"] == "pass"


def test_repositories_that_hold_other_content_disagree():
    other = wal_archive.read_archive([f"17-1/0000000100000000/000000010000000000000003-{'a' * 40}.zst"])
    [gate] = backup_gates.agreement({"one": findings(), "other": findings(archive=other)}, SEGMENT_BYTES)
    assert gate["verdict"] == "fail"
    assert "000000010000000000000003" in gate["observed"]
    assert [gate["verdict"] for gate in backup_gates.agreement({"one": findings(), "other": findings()}, SEGMENT_BYTES)] == ["pass"]
    assert backup_gates.agreement({"one": findings()}, SEGMENT_BYTES) == []
