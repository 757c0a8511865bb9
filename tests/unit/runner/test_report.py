from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from relevo import picture, story, wording
from relevo.record import Record
from relevo.report import Form, render, unbroken
from relevo.verdict import Ending
from tests.unit.runner.streams import build, failed, read, record_of, said, stats


def refused() -> Record:
    opening, _ = read("failover_disaster")
    return build(opening, [], Ending(refusal="-e dr_mode is missing; expected drill. Nothing was started."))


def records() -> dict[str, Record]:
    opening, events = read("failover_disaster")
    bare = replace(opening, runbook="check", inputs={}, cluster=None)
    return {
        "whole": build(opening, events),
        "interrupted": build(opening, events[:14]),
        "refused": refused(),
        "empty": build(bare, [said(run={}), stats()]),
        "sparse": build(
            bare, [said(run={}, gates=[{"id": "G1"}], phases=[{"name": "FENCE"}], fence={"hosts": [{"probes": [{}]}]}), stats()]
        ),
        "failed": build(opening, [said(run={}), failed("no"), stats(failures=("b-db1",))]),
    }


@pytest.mark.parametrize("name", list(records()))
@pytest.mark.parametrize("form", list(Form))
def test_every_record_has_a_report(name: str, form: Form) -> None:
    text = render(records()[name], form)
    assert "None" not in text.replace("None of", "")
    assert "{{" not in text
    assert text.endswith("\n")
    assert re.search(r"undefined", text, re.IGNORECASE) is None


def test_a_restored_backup_is_told_of_in_a_sentence() -> None:
    opening, events = read("failover_disaster")
    restore = {"set": "20261124-000000F", "repository": 1, "target": "the end of the archive", "bytes": 3 << 20, "seconds": 2.0}
    text = render(build(opening, [said(measures={"restore": {**restore, "bytes_per_second": 3 << 19}}), *events]), Form.MARKDOWN)
    told = "Backup 20261124-000000F of repository 1 was restored to the end of the archive and promoted: 3.0 MiB in 2.0 s, 1.5 MiB a second."
    assert told in text


def test_the_page_needs_nothing_from_outside() -> None:
    page = render(record_of("failover_disaster"), Form.HTML)
    assert not re.search(r"<(script|link|img|iframe)|url\(|@import|https?://", page)


def test_what_hosts_say_is_never_markup() -> None:
    opening, _ = read("failover_disaster")
    evil = "<script>alert(1)</script>|x"
    gate = {
        "id": evil,
        "host": evil,
        "title": evil,
        "observed": {"a": evil},
        "expected": evil,
        "verdict": "unknown",
        "next_action": evil,
    }
    events = [said(run={"cluster": evil, "target_site": evil}, gates=[gate]), failed(evil, host=evil), stats(failures=(evil,))]
    record = build(opening, events)
    assert "<script" not in render(record, Form.HTML)
    markdown = render(record, Form.MARKDOWN)
    assert "| <script" not in markdown
    assert all(line.count(" | ") <= 6 for line in markdown.splitlines())


def test_ten_seconds_are_enough() -> None:
    record = record_of("failover_disaster")
    page = render(record, Form.HTML)
    head = page[: page.index("Timeline</h2>")]
    for fact in (
        "passed",
        "Failover of minimarket to site b",
        "53.3 s",
        "target 4 h 00 min, met",
        "0.41 s",
        "3 of 1 284 acknowledged",
    ):
        assert fact in re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", head)), fact
    assert "At no time were two primaries writable." in head


def test_unobserved_is_never_shown_as_good() -> None:
    cards = {card.title: card for card in story.cards(records()["interrupted"])}
    assert {card.mood for card in cards.values()} == {"doubt"}
    assert cards["Two writable primaries"].value == "not observed"


@pytest.mark.parametrize("sheet", [picture.WIDE, picture.NARROW])
def test_the_picture_puts_times_in_their_order(sheet: picture.Sheet) -> None:
    drawn = picture.draw(record_of("failover_disaster"), sheet)
    assert drawn is not None
    assert [row.label for row in drawn.rows][:3] == ["Detect and decide", "Preflight", "Lock"]
    lost, back = drawn.marks
    assert drawn.rows[0].bars[0].left == lost.left < back.left
    assert all(sheet.left <= bar.left <= sheet.width - sheet.right for row in drawn.rows for bar in row.bars)
    assert [label for _, label in drawn.ticks][:2] == ["0", "10 s" if sheet is picture.WIDE else "30 s"]
    assert len(drawn.ticks) <= sheet.most_ticks + 1


@pytest.mark.parametrize("seconds", range(3, 120, 9))
def test_no_label_leaves_a_narrow_picture(seconds: int) -> None:
    """A bold letter of its size is hardly ever wider than eight units, another one than seven."""
    opening, events = read("failover_disaster")
    t0 = "2026-11-24T12:15:30.000000Z" if seconds % 2 else "2026-11-24T09:00:00.000000Z"
    written = f"2026-11-24T12:{15 + (30 + seconds) // 60:02d}:{(30 + seconds) % 60:02d}.000000Z"
    drawn = picture.draw(
        build(opening, [*events, said(measures={"t0_at": t0, "first_write_at": written}), stats()]), picture.NARROW
    )
    assert drawn is not None
    for mark in drawn.marks:
        wide = 8 * len(mark.label) + 6
        assert (mark.left - wide if mark.anchor == "end" else mark.left) >= 0, mark
        assert (mark.left if mark.anchor == "end" else mark.left + wide) <= drawn.width, mark
    for row in drawn.rows:
        assert row.end + 7 * len(row.took) <= drawn.width, row


def test_dates_and_ids_of_runs_stay_on_one_line_and_nothing_becomes_markup() -> None:
    text = "<b> 2026-10-17 10:12:44 UTC in 4 h 00 min: run 20261017T101218Z-restore_test-0039"
    shown = str(unbroken(text))
    assert shown.count('<span class="once">') == 3
    assert "&lt;b&gt;" in shown
    assert re.sub(r"<[^>]+>", "", shown) == text.replace("<b>", "&lt;b&gt;")


def test_what_a_task_said_of_several_hosts_is_said_once() -> None:
    opening, events = read("failover_disaster")
    tasks = [failed("no room", host=host) for host in ("b-db1", "a-app1")]
    page = render(build(opening, [*events, *tasks, stats(failures=("b-db1", "a-app1"))]), Form.HTML)
    assert "<li>b-db1, a-app1: Do: no room" in page


def test_a_long_decision_does_not_squeeze_the_machine_into_a_line() -> None:
    opening, events = read("failover_disaster")
    late = [said(measures={"t0_at": "2026-11-24T09:00:00.000000Z"}), stats()]
    drawn = picture.draw(build(opening, [*events, *late]))
    assert drawn is not None
    assert drawn.rows[0].label == "Preflight"
    assert "before the command" in drawn.marks[0].label
    assert max(bar.width for row in drawn.rows for bar in row.bars) > 100


def test_a_run_without_times_has_no_picture() -> None:
    assert picture.draw(refused()) is None


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.349, "0.35 s"),
        (14.23, "14.2 s"),
        (59.97, "1 min 00 s"),
        (185, "3 min 05 s"),
        (14400, "4 h 00 min"),
        (90000, "1 d 1 h"),
        (-3, "-3.0 s"),
        (None, "not observed"),
        (True, "not observed"),
    ],
)
def test_durations_have_units(value: Any, text: str) -> None:
    assert wording.seconds(value) == text


def test_a_long_list_of_numbers_is_shortened() -> None:
    assert wording.numbers([]) == "none"
    assert wording.numbers(list(range(1, 100))).endswith("12 … 99 (99 in all)")


def test_the_json_report_is_the_record() -> None:
    record = record_of("failover_disaster")
    assert json.loads(render(record, Form.JSON)) == record.document()
