"""The dead-man's switch: what it takes for silence, how often it speaks, and that a broken disk or clock does not quiet it."""

from __future__ import annotations

import importlib.util
import json
import logging
import smtplib
import ssl
import sys
from dataclasses import asdict, replace
from datetime import datetime, timezone
from pathlib import Path

import apprise
import pytest
from hypothesis import given
from hypothesis import strategies as st

SOURCE = Path(__file__).parents[3] / "roles/dr_nightly/files/relevo_deadman.py"
HOUR = 3600.0
NOON = 1_800_000_000.0
SECRET = "s3cr3t-t0ken"


def load():
    spec = importlib.util.spec_from_file_location("relevo_deadman", SOURCE)
    module = importlib.util.module_from_spec(spec)
    sys.modules["relevo_deadman"] = module
    spec.loader.exec_module(module)
    return module


deadman = load()
Beat, Memory, Now = deadman.Beat, deadman.Memory, deadman.Now


def settings(**changed):
    base = {
        "cluster": "minimarket",
        "runbook": "verify_backup",
        "beat": "/nowhere/beat.json",
        "urls": "/nowhere/urls",
        "silence_seconds": 26 * HOUR,
        "unproven_seconds": 50 * HOUR,
        "repeat_seconds": 6 * HOUR,
        "clock_seconds": 300.0,
        "action": "systemctl status relevo-nightly@minimarket.timer",
    }
    return deadman.Settings(**{**base, **changed})


def now(hours=0.0, boot="boot-1"):
    return Now(NOON + hours * HOUR, 5000.0 + hours * HOUR, boot)


def beat(hours=0.0, verdict="passed", passed=0.0, **changed):
    """Of a run that ended so many hours after noon and was heard of a second later."""
    at = NOON + hours * HOUR
    passed_at = at if verdict == "passed" else None if passed is None else NOON + passed * HOUR
    return replace(Beat("run-1", verdict, at, at + 1, 5001.0 + hours * HOUR, "boot-1", passed_at), **changed)


def kind(found):
    return found.kind if found else None


@pytest.mark.parametrize(
    ("seen", "at", "expected"),
    [
        (None, now(26), None),
        (None, now(26.1), "silence"),
        (beat(), now(26), None),
        (beat(), now(26.1), "silence"),
        # Whoever was fenced off from the witness is told of late, and is no younger for it.
        (beat(heard_at=NOON + 20 * HOUR, heard_boottime=5000.0 + 20 * HOUR), now(27), "silence"),
        (beat(verdict="failed"), now(1), None),
        (beat(40, "failed"), now(49), None),
        (beat(40, "failed"), now(51), "unproven"),
        (beat(40, "failed", None), now(51), "unproven"),
        (beat(40, "partial"), now(51), "unproven"),
        (beat(40), now(51), None),
        # The silence counts first: what ended as failed and is silent as well needs somebody to start it.
        (beat(0, "failed", -40), now(27), "silence"),
        # Clocks.
        (beat(at=NOON + 900), now(1), "clock"),
        (beat(at=NOON + 200), now(1), None),
        (beat(), Now(NOON - HOUR, 9000.0, "boot-2"), "clock"),
        (beat(), Now(NOON + 5 * HOUR, 5000.0 + HOUR, "boot-1"), "clock"),
        (beat(), Now(NOON + 5 * HOUR, 10.0, "boot-2"), None),
        (None, now(-1), "clock"),
    ],
)
def test_judges(seen, at, expected):
    assert kind(deadman.judge(settings(), seen, NOON, at)) == expected


@given(
    hours=st.floats(0, 500),
    ended=st.floats(0, 500),
    delay=st.floats(0, 100),
    verdict=st.sampled_from(["passed", "failed", "partial", "refused"]),
)
def test_nothing_that_ended_too_long_ago_is_ever_taken_for_well(hours, ended, delay, verdict):
    heard = ended + delay
    seen = beat(ended, verdict, heard_at=NOON + heard * HOUR, heard_boottime=5000 + heard * HOUR)
    found = kind(deadman.judge(settings(), seen, NOON, now(hours)))
    if hours - ended > 26 or (verdict != "passed" and hours > 50):
        assert found is not None
    if heard <= hours <= ended + 25 and (verdict == "passed" or hours <= 50):
        assert found is None


def test_an_alarm_says_what_was_seen_and_what_to_do():
    found = deadman.judge(settings(), beat(), NOON, now(30))
    assert found.title == "SILENT: nothing heard of verify backup of minimarket for 30 h"
    assert "No run has finished for 30 h; one should within 26 h" in found.text
    assert "run run-1, which ended as passed at 2027-01-15 08:00:00 UTC" in found.text
    assert "Do: systemctl status relevo-nightly@minimarket.timer" in found.text
    failing = deadman.judge(settings(), beat(60, "failed"), NOON, now(61))
    assert "relevo results show run-1" in failing.text
    assert "never heard" in deadman.judge(settings(), None, NOON, now(30)).text


# -- speaking at a bounded rate --


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


class Bench:
    """A witness whose time the test turns, and who writes down what it would send."""

    def __init__(self, directory):
        self.beat_path, self.urls = directory / "beat.json", directory / "urls"
        self.settings = settings(beat=str(self.beat_path), urls=str(self.urls))
        (directory / "state").mkdir()
        (directory / "run").mkdir()
        self.state = directory / "state"
        self.keeper = deadman.Keeper([self.state, directory / "run"], "minimarket.json")
        self.said, self.taken = [], True

    def look(self, hours, **other):
        def say(_, alarm):
            self.said.append(alarm.title.partition(":")[0])
            return self.taken

        return deadman.look(self.settings, self.keeper, now(hours, **other), say)

    def hear(self, hours, verdict="passed"):
        stamp = datetime.fromtimestamp(NOON + hours * HOUR, timezone.utc).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        said = {"run_id": "run-1", "verdict": verdict, "at": stamp, "heard_at": stamp, "heard_boot_id": "boot-1"}
        self.beat_path.write_text(json.dumps({**said, "heard_boottime": 5000 + hours * HOUR, "passed_at": stamp}))


def test_speaks_once_then_at_a_bounded_rate_then_says_that_it_is_over(bench):
    for tenth in range(1000):
        assert bench.look(tenth / 10) == 0
    assert bench.said == ["SILENT"] * 13, "at 26.1 h, then every 6 h until 99.9 h"
    bench.hear(100)
    assert [bench.look(100.1), bench.look(100.2)] == [0, 0]
    assert bench.said[-2:] == ["SILENT", "OVER"]
    assert bench.said.count("OVER") == 1


def test_what_nobody_took_is_said_again_at_the_next_look(bench):
    bench.look(0)
    bench.taken = False
    assert [bench.look(27), bench.look(27.1)] == [1, 1]
    bench.taken = True
    assert [bench.look(27.2), bench.look(27.3)] == [0, 0]
    assert bench.said == ["SILENT"] * 3
    bench.hear(28)
    bench.taken = False
    assert bench.look(28) == 1
    bench.taken = True
    assert [bench.look(28.1), bench.look(28.2)] == [0, 0]
    assert bench.said[3:] == ["OVER", "OVER"]


def test_another_kind_of_trouble_is_told_at_once(bench):
    bench.look(0)
    bench.look(27)
    bench.beat_path.write_text("{")
    bench.look(27.1)
    bench.look(27.2)
    assert bench.said == ["SILENT", "SILENT"]
    assert set(bench.keeper.read(now(28)).told) == {"silence", "unreadable"}


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"run_id": 1}', '{"run_id": "r", "verdict": "passed", "at": "noon"}'])
def test_a_beat_that_says_nothing_is_an_alarm(bench, content):
    bench.beat_path.write_text(content)
    bench.look(0)
    assert bench.said == ["SILENT"]


def test_a_memory_that_cannot_be_read_begins_anew_and_is_not_silent_for_ever(bench):
    bench.look(0)
    (bench.state / "minimarket.json").write_text("torn")
    assert bench.look(20) == 0
    bench.look(47)
    assert bench.said == ["SILENT"]


def test_a_full_disk_does_not_make_it_speak_every_minute(bench, monkeypatch):
    bench.look(0)
    real = deadman.write_atomically

    def full(path, content):
        if path.parent == bench.state:
            raise OSError(28, "No space left on device")
        real(path, content)

    monkeypatch.setattr(deadman, "write_atomically", full)
    for hours in (27, 27.1, 27.2, 33.5):
        assert bench.look(hours) == 0
    assert bench.said == ["SILENT", "SILENT"]


def test_a_clock_that_goes_back_behind_the_last_message_does_not_quiet_it():
    alarm = deadman.Alarm("silence", "", "")
    assert deadman.due(Memory(NOON, {"silence": NOON + 99 * HOUR}), alarm, now(0), 6 * HOUR)


# -- sending --


class Service:
    def __init__(self, taken):
        self.taken = taken

    def notify(self, *_, **__):
        logging.getLogger("apprise").warning("no answer from %s", SECRET)
        logging.getLogger("apprise").debug("Payload %s", SECRET)
        return self.taken


def test_one_broken_target_silences_no_other_and_shows_no_secret(tmp_path, monkeypatch, capsys):
    path = tmp_path / "urls"
    path.write_text(f"# people\njson://u:{SECRET}@192.0.2.1/{SECRET}\nnonsense\njson://192.0.2.2/\n")

    def made(url):
        if url == "nonsense":
            raise RuntimeError(url)
        return Service("192.0.2.2" in url)

    monkeypatch.setattr(apprise.Apprise, "instantiate", staticmethod(made))
    monkeypatch.setattr(deadman, "verify_mail_servers", lambda: None)
    alarm = deadman.Alarm("silence", "SILENT: x", "y")
    assert deadman.speak(path, alarm) is True
    said = capsys.readouterr()
    assert SECRET not in said.err + said.out
    assert "line 2 of urls (json) did not take it: no answer from [redacted]" in said.err
    assert "line 3 of urls" in said.err
    path.write_text("# nobody\n")
    assert deadman.speak(path, alarm) is False
    assert deadman.speak(tmp_path / "no", alarm) is False


def test_mail_is_handed_only_to_a_server_whose_certificate_verifies(monkeypatch):
    monkeypatch.setattr(ssl, "_create_stdlib_context", ssl._create_stdlib_context)
    monkeypatch.setattr(smtplib.SMTP, "__init__", lambda *_, **__: None)
    deadman.verify_mail_servers()
    assert smtplib.SMTP_SSL("192.0.2.1").context.verify_mode is ssl.CERT_REQUIRED
    assert smtplib.SMTP_SSL("192.0.2.1").context.check_hostname is True


@pytest.mark.parametrize("said", ['{"cluster": "minimarket"}', '{"cluster": "minimarket", "jobs": []}', '{"jobs": [{}]}', "{"])
def test_settings_that_cannot_be_read_fail_aloud(tmp_path, capsys, said):
    assert deadman.main([]) == 1
    (tmp_path / "settings.json").write_text(said)
    assert deadman.main([str(tmp_path / "settings.json")]) == 1
    assert "settings cannot be read" in capsys.readouterr().err


def test_each_job_is_watched_by_its_own_limit_and_a_new_one_is_not_late(tmp_path, monkeypatch):
    about = asdict(settings(urls=str(tmp_path / "urls")))
    common = {name: about.pop(name) for name in ("cluster", "urls", "repeat_seconds", "clock_seconds")}
    nightly = {**about, "beat": str(tmp_path / "none.json")}
    monthly = {**nightly, "runbook": "restore_test", "silence_seconds": 33 * 24 * HOUR}
    path, said, clock = tmp_path / "settings.json", [], [NOON]
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.setattr(deadman.time, "time", lambda: clock[0])
    monkeypatch.setattr(deadman.look, "__defaults__", (lambda _, alarm: said.append(alarm.title) or True,))

    def look(hours, *jobs):
        path.write_text(json.dumps({**common, "jobs": jobs}))
        clock[0] = NOON + hours * HOUR
        assert deadman.main([str(path)]) == 0
        found = [title.partition(" of minimarket")[0] for title in said]
        said.clear()
        return found

    assert look(0, nightly) == []
    assert look(27, nightly, monthly) == ["SILENT: nothing heard of verify backup"]
    assert look(27 + 33 * 24 - 1, monthly) == []
    assert look(27 + 33 * 24 + 1, monthly) == ["SILENT: nothing heard of restore test"]


def test_one_job_that_cannot_speak_keeps_no_other_from_it(tmp_path, monkeypatch):
    jobs = [
        settings(runbook=name, beat=str(tmp_path / "none.json"), silence_seconds=-1) for name in ("verify_backup", "restore_test")
    ]
    heard = []
    monkeypatch.setattr(deadman, "read_settings", lambda _: jobs)
    monkeypatch.setattr(deadman.look, "__defaults__", (lambda _, alarm: heard.append(alarm.title) or len(heard) > 1,))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert deadman.main(["-"]) == 1
    assert len(heard) == 2
