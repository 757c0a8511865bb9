"""A prediction beside a run: said before it, kept for its record, and no run waits for it."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from relevo import execute, forecast, inventory, paths, session
from relevo.cli import app
from relevo.paths import Place
from relevo.progress import Progress
from relevo.record import canonical, parse
from relevo.store import Store
from tests.unit.runner.streams import record_of, said

GOOD = ["dr_mode=drill", "dr_scope=site", "dr_target_site=b"]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db")


@pytest.fixture
def history(place: Place) -> Place:
    for number in range(3):
        tree = {**record_of("failover_drill").document(), "run_id": f"run-{number}"}
        document = canonical(tree)
        Store(place).add(parse(document), document, "signature")
    return place


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(_job: execute.Job, on_event: Any, _redact: Any) -> execute.Outcome:
        for event in ("playbook_on_start", "runner_on_ok", *["playbook_on_task_start"] * 20, "playbook_on_stats"):
            on_event(
                {
                    "event": event,
                    "event_data": {"ok": {"h": 1}, "res": {"relevo": {"run": {"cluster": "minimarket"}, "phases": []}}},
                }
            )
            time.sleep(0.02)  # as long as a task takes at the least
        return execute.Outcome(0, cancelled=False, last_words="")

    monkeypatch.setattr(execute, "run_playbook", run)
    monkeypatch.setattr(inventory, "clusters", lambda *_: ("minimarket",))


def conduct(place: Place, tmp_path: Path, runbook: str, ask: Any = None, **more: Any) -> tuple[Any, str]:
    asked = session.Session(
        place=place,
        project=tmp_path,
        playbook=tmp_path / "playbooks" / f"{runbook}.yml",
        inventory=(),
        pairs=GOOD if runbook == "failover" else [],
        environment={},
        ask=ask,
        **more,
    )
    console = Console(record=True, width=200, quiet=False, file=(tmp_path / "out").open("a"))
    finished = session.conduct(asked, Progress(console, "test", lasting=asked.kept))
    return finished.record, console.export_text()


@pytest.mark.usefixtures("ran")
def test_whoever_is_about_to_confirm_reads_it_first(history: Place, tmp_path: Path) -> None:
    seen: list[str] = []

    def ask(words: str) -> str:
        seen.append((tmp_path / "out").read_text())
        return words

    record, text = conduct(history, tmp_path, "failover", ask)
    line = "expected: promote 21.0 s, limit 4 h 00 min (median of 3 runs of this cluster)"
    assert line in seen[0]
    assert text.count("expected: ") == 1
    assert record.measures["predicted"]["runs"] == 3
    assert record.measures["predicted"]["ways"][0]["recovery"]["p50_seconds"] == 21.042


@pytest.mark.usefixtures("ran")
def test_other_runs_hear_of_it_when_the_opening_task_has_named_the_cluster(history: Place, tmp_path: Path) -> None:
    tree = {**record_of("check_passed").document(), "run_id": "c"}
    document = canonical(tree)
    Store(history).add(parse(document), document, "signature")
    record, text = conduct(history, tmp_path, "check")
    assert "expected: preflight" in text
    assert record.measures["predicted"]["runs"] == 1


@pytest.mark.usefixtures("ran")
def test_without_history_nothing_is_said(place: Place, tmp_path: Path) -> None:
    record, text = conduct(place, tmp_path, "failover", lambda words: words)
    assert "expected" not in text
    assert record.measures["predicted"]["runs"] == 0


@pytest.mark.usefixtures("ran", "history")
def test_a_mere_look_is_not_predicted(place: Place, tmp_path: Path) -> None:
    record, text = conduct(place, tmp_path, "check", kept=False)
    assert (record.measures["predicted"], "expected" in text) == (None, False)


@pytest.mark.usefixtures("ran")
def test_a_store_that_hangs_holds_up_no_run(history: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(*_: Any, **__: Any) -> Any:
        time.sleep(20)
        return [None]

    monkeypatch.setattr(forecast, "look", hang)
    began = time.monotonic()
    record, text = conduct(history, tmp_path, "failover", lambda words: words)
    assert time.monotonic() - began < 10
    assert (record.verdict, record.measures["predicted"], "expected" in text) == ("passed", None, False)


@pytest.mark.usefixtures("ran")
def test_a_store_that_is_away_is_no_reason_to_stop(place: Place, tmp_path: Path) -> None:
    away = Place(place.state, "postgresql://relevo@127.0.0.1:9/nobody")
    record, text = conduct(away, tmp_path, "failover", lambda words: words)
    assert (record.verdict, record.measures["predicted"], "expected" in text) == ("passed", None, False)


@pytest.mark.filterwarnings("error::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.usefixtures("ran")
def test_a_record_that_nobody_foresaw_is_no_reason_to_stop(history: Place, tmp_path: Path) -> None:
    tree = record_of("failover_drill").document()
    document = canonical({**tree, "run_id": "odd", "measures": {**tree["measures"], "backups": "none"}})
    Store(history).add(parse(document), document, "signature")
    record, text = conduct(history, tmp_path, "failover", lambda words: words)
    assert (record.verdict, record.measures["predicted"], "expected" in text) == ("passed", None, False)


def test_what_was_predicted_survives_the_runner(history: Place, tmp_path: Path) -> None:
    made = forecast.Forecast(history, "failover")
    made.take(said(run={"cluster": "minimarket"}))
    assert made.line(30.0) is not None
    assert made.line(30.0) is None
    made.keep(tmp_path)
    kept = forecast.kept(tmp_path)
    assert kept is not None and kept["runs"] == 3
    (tmp_path / forecast.KEPT).write_text("{torn")
    assert forecast.kept(tmp_path) is None


def called(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, *words: str) -> tuple[int, str, str]:
    monkeypatch.setattr("sys.argv", ["relevo", *words])
    with pytest.raises(SystemExit) as ended:
        app()
    said_so = capsys.readouterr()
    return int(ended.value.code or 0), said_so.out, said_so.err


def test_the_command(history: Place, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "find_place", lambda _: history)
    monkeypatch.delenv("RELEVO_INVENTORY", raising=False)
    code, text, _ = called(capsys, monkeypatch, "predict", "failover", "--cluster", "minimarket", "--json")
    tree = json.loads(text)
    assert (code, tree["runs"], tree["limit_seconds"]) == (0, 3, 14400.0)
    assert tree["ways"][0]["phases"]["PROMOTE"] == {
        "p50_seconds": 1.063,
        "p90_seconds": None,
        "longest_seconds": 1.063,
        "runs": 3,
        "scaled_runs": 0,
        "stretch": None,
    }
    code, text, _ = called(capsys, monkeypatch, "predict", "switchover", "--cluster", "minimarket")
    assert (code, "No history" in text) == (0, True)
    code, _, why = called(capsys, monkeypatch, "predict", "failover")
    assert (code, "--cluster" in why) == (4, True)
    code, _, why = called(capsys, monkeypatch, "predict", "nonsense", "--cluster", "minimarket")
    assert (code, "no runbook" in why) == (4, True)
    monkeypatch.setattr(inventory, "clusters", lambda *_: ("minimarket", "other"))
    code, _, why = called(capsys, monkeypatch, "predict", "failover", "-i", "localhost,")
    assert (code, "names minimarket, other" in why) == (4, True)
