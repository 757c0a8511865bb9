"""Planned maintenance: a person says it, it is kept, it ends by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from relevo import maintenance
from relevo.cli import commands
from relevo.entries import Speaker, make
from relevo.errors import UsageError

AT = datetime(2026, 11, 28, 3, 0, tzinfo=UTC)


def entry(event: str, *, cluster: str = "minimarket", minutes: int = 30):
    said = maintenance.begin("patches", timedelta(minutes=minutes), AT) if event == maintenance.STARTED else {}
    return make(Speaker("sre", "ctl", AT), maintenance.KIND, cluster, event, said)


@pytest.mark.parametrize(("text", "seconds"), [("45s", 45), ("30m", 1800), (" 2h", 7200), ("1d", 86400)])
def test_a_span_is_a_number_and_a_unit(text: str, seconds: int) -> None:
    assert maintenance.span(text).total_seconds() == seconds


@pytest.mark.parametrize("text", ["", "30", "0m", "-5m", "4d", "99999h", "1h30m", "forever"])
def test_what_nobody_should_forget_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected such as 45s, 30m, 2h or 1d, at most 3d"):
        maintenance.span(text)


def test_the_newest_word_holds() -> None:
    started, stopped, other = entry("started"), entry("stopped"), entry("started", cluster="other")
    assert maintenance.latest([started], "minimarket") is not None
    assert maintenance.latest([started, stopped], "minimarket") is None
    assert maintenance.latest([started, stopped, other], "minimarket") is None
    longer = maintenance.latest([started, entry("started", minutes=60)], "minimarket")
    assert longer is not None
    assert longer.seconds == 3600
    with pytest.raises(UsageError, match="--reason"):
        maintenance.begin(" ", timedelta(minutes=1), AT)


@given(st.integers(-(10**6), 10**6))
def test_a_clock_that_was_set_back_makes_none_longer(passed: int) -> None:
    found = maintenance.latest([entry("started")], "minimarket")
    assert found is not None
    left = found.left_seconds(AT + timedelta(seconds=passed))
    assert left <= 1800
    assert (left > 0) == (passed < 1800)


def test_the_commands_keep_it_and_say_it(tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RELEVO_STORE", str(tmp_path))
    run = CliRunner().invoke
    assert run(commands, ["maintenance", "start", "minimarket", "--for", "30m"]).exit_code == 4
    assert run(commands, ["maintenance", "stop", "minimarket"]).exit_code == 4
    started = run(commands, ["maintenance", "start", "minimarket", "--for", "30m", "--reason", "kernel"])
    assert started.exit_code == 0, started.output
    assert '"reason": "kernel"' in run(commands, ["maintenance", "show", "minimarket", "--json"]).output
    assert run(commands, ["maintenance", "show", "other", "--json"]).output.strip() == "null"
    assert run(commands, ["maintenance", "stop", "minimarket"]).exit_code == 0
    assert run(commands, ["maintenance", "show", "minimarket", "--json"]).output.strip() == "null"
