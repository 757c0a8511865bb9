from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from relevo import execute, inventory, session
from relevo.paths import Place
from relevo.progress import Progress

WORDS = "drill production minimarket to b"
GOOD = ["dr_mode=drill", "dr_scope=site", "dr_target_site=b"]


@pytest.fixture
def ran(monkeypatch: pytest.MonkeyPatch) -> list[execute.Job]:
    jobs: list[execute.Job] = []

    def run(job: execute.Job, on_event: Any, redact: Any) -> execute.Outcome:
        jobs.append(job)
        on_event({"event": "playbook_on_start", "event_data": {}})
        on_event({"event": "runner_on_ok", "event_data": {"res": {"relevo": {"run": {"cluster": "minimarket"}}}}})
        on_event({"event": "playbook_on_stats", "event_data": {"ok": {"h": 1}}})
        return execute.Outcome(0, cancelled=False, last_words=redact(""))

    monkeypatch.setattr(execute, "run_playbook", run)
    monkeypatch.setattr(inventory, "clusters", lambda *_: ("minimarket",))
    return jobs


def conduct(tmp_path: Path, *pairs: str, ask: Any = None, runbook: str = "failover", **more: Any) -> Any:
    asked = session.Session(
        place=Place(tmp_path / "state", f"sqlite:///{tmp_path}/state/relevo.db"),
        project=tmp_path,
        playbook=tmp_path / "playbooks" / f"{runbook}.yml",
        inventory=(),
        pairs=pairs,
        environment={},
        ask=ask,
        **more,
    )
    return session.conduct(asked, Progress(Console(quiet=True), "test")).record


def test_asks_for_the_words_and_passes_them_on(tmp_path: Path, ran: list[execute.Job]) -> None:
    asked: list[str] = []

    def ask(words: str) -> str:
        asked.append(words)
        return f" {words} \n"

    assert conduct(tmp_path, *GOOD, ask=ask).verdict == "passed"
    assert asked == [WORDS]
    assert ran[0].inputs.values["dr_confirm"] == WORDS


def test_other_words_are_a_refusal(tmp_path: Path, ran: list[execute.Job]) -> None:
    record = conduct(tmp_path, *GOOD, ask=lambda _: "yes")
    assert record.verdict == "refused"
    assert f"expected '{WORDS}'" in record.verdict_reasons[0]
    assert (record.cluster, record.mode) == ("minimarket", "drill")
    assert ran == []


def test_nobody_is_asked_without_a_terminal(tmp_path: Path, ran: list[execute.Job]) -> None:
    record = conduct(tmp_path, *GOOD)
    assert record.verdict == "refused"
    assert f'give -e dr_confirm="{WORDS}"' in record.verdict_reasons[0]
    assert ran == []


def test_given_words_are_judged_by_the_playbook_alone(tmp_path: Path, ran: list[execute.Job]) -> None:
    conduct(tmp_path, *GOOD, "dr_confirm=something else", ask=lambda _: pytest.fail("asked"))
    assert ran[0].inputs.values["dr_confirm"] == "something else"


def test_other_runbooks_need_no_words(tmp_path: Path, ran: list[execute.Job]) -> None:
    assert conduct(tmp_path, runbook="check", approver="bo").approver == "bo"
    assert ran[0].inputs.values["dr_approver"] == "bo"


def test_an_inventory_of_two_clusters_names_none(tmp_path: Path, ran: list[execute.Job], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inventory, "clusters", lambda *_: ("a", "b"))
    assert "CLUSTER" in conduct(tmp_path, *GOOD, ask=lambda _: pytest.fail("asked")).verdict_reasons[0]
    assert ran == []


@pytest.mark.parametrize(
    ("outcome", "verdict"),
    [
        (execute.Outcome(4, cancelled=False, last_words="ERROR! no such module"), "refused"),
        (execute.Outcome(254, cancelled=True, last_words=""), "interrupted"),
        (execute.Outcome(-1, cancelled=False, last_words=""), "interrupted"),
    ],
)
def test_an_end_before_the_first_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: execute.Outcome, verdict: str
) -> None:
    monkeypatch.setattr(execute, "run_playbook", lambda *_: outcome)
    record = conduct(tmp_path, runbook="check")
    assert record.verdict == verdict
    assert outcome.last_words in record.verdict_reasons[0]


def test_a_runner_that_cannot_go_on_closes_the_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(execute, "run_playbook", broken)
    assert conduct(tmp_path, runbook="check").verdict_reasons == ["The runner could not go on: No space left on device."]
