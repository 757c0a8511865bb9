"""What people see in a terminal: progress, summary, status; and the command's exit codes."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from relevo import status, summary
from relevo.armed import Waiting
from relevo.cli import Ended, app
from relevo.history import summarize
from relevo.progress import Progress
from tests.unit.runner.streams import build, failed, read, record_of, said, stats


def shown(*, terminal: bool = False) -> tuple[Console, io.StringIO]:
    target = io.StringIO()
    return Console(file=target, width=160, force_terminal=terminal), target


def test_plain_lines_where_there_is_no_terminal() -> None:
    console, target = shown()
    with Progress(console, "relevo failover") as progress:
        for event in read("failover_disaster")[1]:
            progress.take(event)
        progress.take(failed("[bold]not markup[/]"))
    lines = target.getvalue().splitlines()
    assert "relevo failover: started" in lines[0]
    assert any("Failover 4/8: Fence" in line for line in lines)
    assert any("PROMOTE on b-db1: ok 1.4 s" in line for line in lines)
    assert any("no answer" in line for line in lines)
    assert "[bold]not markup[/]" in target.getvalue()
    assert "\x1b" not in target.getvalue()


def test_a_terminal_keeps_phases_and_gates() -> None:
    console, target = shown(terminal=True)
    with Progress(console, "relevo failover") as progress:
        for event in read("failover_disaster")[1]:
            progress.take(event)
        progress.take(
            said(gates=[{"id": "G09", "host": "b", "verdict": "fail", "observed": "o", "expected": "e", "next_action": "n"}])
        )
    final = target.getvalue()
    assert "PROMOTE" in final
    assert "G09 on b: fail; observed o; expected e. n" in final


def test_a_look_leaves_no_lines() -> None:
    console, target = shown()
    with Progress(console, "relevo check", lasting=False) as progress:
        progress.take(read("failover_disaster")[1][1])
    assert target.getvalue() == ""


def test_a_summary_says_what_a_manager_asks() -> None:
    console, target = shown()
    summary.show(console, record_of("failover_disaster"))
    for fact in (
        "PASSED",
        "failover (disaster) of minimarket to site b",
        "53.3 s, target 4 h 00 min: met",
        "3 lost transactions",
        "isolated",
    ):
        assert fact in target.getvalue(), fact


def test_a_list_shows_whole_run_ids() -> None:
    console, target = shown()
    summary.list_runs(console, [summarize(record_of("failover_disaster"))])
    assert "20261124T121530Z-failover-1f3a" in target.getvalue()
    summary.list_runs(console, [])
    assert "no results yet" in target.getvalue()


def test_status_shows_what_was_said_and_nothing_else() -> None:
    console, target = shown()
    opening, _ = read("failover_disaster")
    state = {
        "primary": "a-db1",
        "protected": False,
        "lock": {"owner": "ana", "run_id": "r1"},
        "next": "run playbooks/protect.yml",
        "hosts": {"a-db1": {"role": "primary", "timeline": 3, "new": True}, "b-db1": {"role": "standby", "lag_seconds": 0.25}},
        "something_new": {"a": 1},
    }
    gate = {"id": "G03", "host": "a-db1", "verdict": "fail", "observed": "a gap", "expected": "none"}
    record = build(opening, [said(run={}, status=state, gates=[gate]), stats()])
    interrupted = build(replace(opening, run_id="20261124T110000Z-failover-aaaa"), [])
    status.show(console, "minimarket", record, interrupted)
    text = target.getvalue()
    for fact in ("a-db1", "no", "owner ana, run id r1", "0.25 s", "protect.yml", "something new", "a gap", "-aaaa was interrupted"):
        assert fact in text, fact


AS_OF = {"run_id": "20261124T090000Z-verify_backup-1f3a", "age_seconds": 10800, "verdict": "passed"}
WINDOW = {"from": "2026-11-15T12:00:00.000000Z", "until": "2026-11-24T09:00:00.000000Z"}


@pytest.mark.parametrize(
    ("state", "facts"),
    [
        (
            {
                "restorable": {
                    **AS_OF,
                    "repositories": {"1": WINDOW, "2": {"from": WINDOW["from"], "until": None}, "3": {"from": None}},
                }
            },
            [
                "restorable repository 1: from 2026-11-15 12:00:00 UTC until 2026-11-24 09:00:00 UTC",
                "repository 2: from 2026-11-15 12:00:00 UTC until an unproven end",
                "repository 3: no usable backup",
                "as verified 3 h 00 min ago by run 20261124T090000Z-verify_backup-1f3a, which passed",
            ],
        ),
        (
            {
                "restorable": {
                    **AS_OF,
                    "verdict": "failed",
                    "repositories": {},
                    "unreadable": ["repository 2 (x): takes no connection"],
                }
            },
            ["restorable repository 2 (x): takes no connection", "1f3a, which ended as failed"],
        ),
        ({"restorable": None, "restore_proven": None}, ["restorable never verified", "restore proven never"]),
        (
            {"restore_proven": {**AS_OF, "proven_up_to": "a user logs in"}},
            ["restore proven 3 h 00 min ago by run 20261124T090000Z-verify_backup-1f3a, up to: a user logs in"],
        ),
        ({"history_error": "The store x cannot be used"}, ["restorable not known: The store x cannot be used"]),
    ],
)
def test_status_says_to_which_second_can_be_restored_and_when_that_was_proven(state: dict[str, object], facts: list[str]) -> None:
    console, target = shown()
    opening, _ = read("failover_disaster")
    status.show(console, "minimarket", build(opening, [said(run={}, status=state), stats()]), None)
    text = " ".join(target.getvalue().split())
    for fact in facts:
        assert fact in text, text


@pytest.mark.parametrize(
    ("changes", "word"),
    [
        ({"ready": False}, "getting ready"),
        ({}, "waits for relevo go"),
        ({"red": ("b-db1 lags", "no lock")}, "2 gates in the way of relevo go"),
    ],
)
def test_status_names_the_runs_that_wait(changes: dict[str, object], word: str) -> None:
    console, target = shown()
    opening, _ = read("failover_disaster")
    waiting = Waiting(Path(), "r-armed", "minimarket", True, "", 0.0, 0.0, 1, None, "", (), "", {})
    status.show(console, "minimarket", build(opening, [said(run={}, status={}), stats()]), None, [replace(waiting, **changes)])
    assert f"armed r-armed: {word}" in " ".join(target.getvalue().split())


@pytest.mark.parametrize(
    "state", [{}, {"primary": None, "hosts": {}}, {"hosts": {"a": {}}, "lock": None}, {"primaries": ["a", "b"]}]
)
def test_status_is_shown_however_little_was_said(state: dict[str, object]) -> None:
    console, target = shown()
    opening, _ = read("failover_disaster")
    status.show(console, "minimarket", build(opening, [said(run={}, status=state), stats()]), None)
    assert "primary" in target.getvalue()


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["results", "list"], 0),
        (["results", "verify"], 0),
        (["results", "show"], 4),
        (["report", "latest"], 4),
        (["nonsense"], 4),
        (["run"], 4),
        (["--version"], 0),
    ],
)
def test_exit_codes(arguments: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEVO_STORE", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["relevo", *arguments])
    with pytest.raises(SystemExit) as ended:
        app()
    assert ended.value.code == code


def test_what_nobody_foresaw_is_a_sentence_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("relevo.paths.find_place", broken)
    monkeypatch.setattr("sys.argv", ["relevo", "results", "list"])
    with pytest.raises(Ended) as ended:
        app()
    assert ended.value.code == 1
    assert "Traceback" not in capsys.readouterr().err
