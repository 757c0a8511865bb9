"""The nightly check speaks to people through a real mail server, loses no word, and its silence is an alarm on the witness."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from email.message import EmailMessage
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import BIN, INVENTORY, ROOT, Bench
from tests.integration.mailbox import Mailbox

from .test_repositories import archives
from .test_verify_backup import CACHE_SECONDS, PRIMARY, backup, in_bucket, inventory

PROJECT = ROOT / "tests/fixtures/project"
SECRET = "canary7Xq9vT2mZ4"
UNIT = "relevo-deadman@minimarket"
BEAT = "/var/lib/relevo-beat/toy_nightly@minimarket.json"
# Longer than a check and a beat take on a busy machine.
SILENCE_SECONDS = 25


def job(runbook: str = "toy_nightly", **changed: Any) -> dict[str, Any]:
    """One of dr_nightly_jobs."""
    return {"runbook": runbook, "calendar": "*-*-* 03:00:00 UTC", "silence_seconds": 93600, "unproven_seconds": 180000, **changed}


def words(message: EmailMessage, kind: str = "plain") -> str:
    part = message.get_body((kind,))
    assert part is not None
    return " ".join(str(part.get_content()).split())


class Night:
    """One controller's nights: a store, the file of those who hear, and the word to the witness."""

    def __init__(self, directory: Path, bench: Bench) -> None:
        self.bench, self.directory = bench, directory
        self.mail = (bench.lab.state / "secrets/notify_urls").read_text()
        self.urls = directory / "urls"
        self.write_urls(self.mail)
        self.inventories: list[str] = ["-i", str(INVENTORY)]
        self.environment = {
            **bench.environment,
            "RELEVO_STORE": str(directory / "state"),
            "SSL_CERT_FILE": str(bench.lab.state / "tls/ca.pem"),
        }

    def write_urls(self, *urls: str) -> None:
        self.urls.write_text("\n".join(urls) + "\n")
        self.urls.chmod(0o600)

    def start(self, *command: str | Path, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [str(word) for word in command],
            cwd=ROOT,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def check(self, how: str = "good", *options: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(*self._check(how), *options, RELEVO_PROJECT=str(PROJECT), **environment)
        output, complaints = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output, complaints)

    def _check(self, how: str) -> list[str | Path]:
        named = ["-i", str(INVENTORY), "-e", f"dr_reason={how}"]
        return [BIN / "relevo", "run", "toy_nightly", *named, "--notify", self.urls]

    def relevo(self, *command: str, **environment: str) -> subprocess.CompletedProcess[str]:
        process = self.start(BIN / "relevo", *command, **{"RELEVO_PROJECT": str(PROJECT), **environment})
        output, complaints = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output, complaints)

    def record(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.relevo("results", "show", "latest", "--json").stdout)
        return found

    def play(self, playbook: str, **variables: str) -> str:
        extra = [word for name, value in variables.items() for word in ("-e", f"{name}={value}")]
        process = self.start(BIN / "ansible-playbook", *self.inventories, ROOT / f"playbooks/{playbook}.yml", *extra)
        output, complaints = process.communicate(timeout=180)
        assert process.returncode == 0, output + complaints
        return output

    def beat(self) -> str:
        return self.play("beat", dr_nightly_runbook="toy_nightly")


@pytest.fixture
def lab() -> Bench:
    """The laboratory as it is; nothing here needs its database."""
    bench = Bench(Path(os.environ.get("RELEVO_STORE") or ROOT / ".relevo"))
    if not bench.lab.hosts():
        pytest.fail("The laboratory is not up. Run 'make lab' first, as root.")
    return bench


@pytest.fixture
def night(tmp_path: Path, lab: Bench) -> Iterator[Night]:
    lab.inside("wit1", "systemctl", "start", "postfix.service")
    yield Night(tmp_path, lab)
    lab.inside("wit1", "systemctl", "start", "postfix.service")


@pytest.fixture
def mailbox(lab: Bench) -> Mailbox:
    return Mailbox(lab)


@pytest.mark.smoke
def test_a_check_that_fails_mails_the_reason_and_what_to_do(night: Night, mailbox: Mailbox) -> None:
    assert night.check("good").returncode == 0
    assert night.check("bad").returncode == 1
    record = night.record()
    message = mailbox.one()
    assert message["To"] == "operations@minimarket.local"
    assert message["Subject"] == "FAILED: toy nightly of minimarket - Newest backup on b-store1 and 1 more: 31 h old"
    for kind in ("plain", "html"):
        said = words(message, kind).replace('<p style="margin: 0;">', "").replace("</p>", "")
        assert "Observed: 31 h old Expected: at most 25 h" in said
        assert "Do: start one: relevo run backup" in said
        assert "segment 00000001000000000000000A is missing" in said
        assert "Do: take a full backup now; a restore cannot pass over the hole" in said
        assert f"relevo results show {record['run_id']}" in said
        assert "It last passed" in said
        assert "Encryption" not in said
    # Silence after bad news would have two meanings.
    assert night.check("good").returncode == 0
    assert mailbox.one()["Subject"] == "PASSED again: toy nightly of minimarket"


@pytest.mark.full
def test_no_news_is_good_news_unless_it_is_asked_for(night: Night, mailbox: Mailbox) -> None:
    assert night.check("good").returncode == 0
    assert night.check("good").returncode == 0
    assert mailbox.new() == []
    assert night.check("good", "--notify-when", "always").returncode == 0
    assert mailbox.one()["Subject"] == "PASSED: toy nightly of minimarket"


@pytest.mark.full
def test_a_real_check_is_told_of_with_its_next_action(healthy: Bench, night: Night, mailbox: Mailbox) -> None:
    unit = f"postgresql@{healthy.sql('a-db1', 'show server_version_num')[:2]}-main.service"
    asked = ("run", "check", "-i", str(INVENTORY), "--notify", str(night.urls))
    # The hosts believe the laboratory's controller, which is its store.
    here = {"RELEVO_PROJECT": str(ROOT), "RELEVO_STORE": str(healthy.store)}
    passed = night.relevo(*asked, "--notify-when", "always", **here)
    assert passed.returncode == 0, passed.stdout
    assert mailbox.one()["Subject"].startswith("PASSED")
    healthy.inside("b-db1", "systemctl", "stop", unit)
    try:
        assert night.relevo(*asked, **here).returncode == 1
    finally:
        healthy.inside("b-db1", "systemctl", "start", unit)
    message = mailbox.one()
    gates = [gate for gate in healthy.record("latest")["gates"] if gate["verdict"] == "fail"]
    assert message["Subject"].startswith("FAILED: check of minimarket - ")
    assert gates
    for gate in gates:
        assert " ".join(f"Do: {gate['next_action']}".split()) in words(message)


@pytest.mark.full
def test_a_damaged_archive_goes_from_a_real_verification_to_the_mailbox_and_its_repair_too(
    bench: Bench, night: Night, mailbox: Mailbox, tmp_path: Path
) -> None:
    """Nothing here is a stand-in: real backups, a segment that is gone from a real store, the night's own command, a real mail server."""
    # The laboratory takes no backup every hour.
    wishes = inventory(tmp_path / "inventory", dr_backup_periods=0)
    asked = ("run", "verify_backup", "-i", str(wishes), "--notify", str(night.urls))
    for number in (1, 2):
        backup(bench, "full", number)
    bench.sql(PRIMARY, "select pg_logical_emit_message(true, 'test', 'x')")
    segment = bench.sql(PRIMARY, "select pg_walfile_name(pg_switch_wal())")
    archives(bench, PRIMARY)
    file = in_bucket(bench, f"find archive -name '{segment}-*.zst'")
    assert file.count(segment) == 1, "there is nothing to break"
    in_bucket(bench, f"mv {file} /tmp/kept")
    try:
        time.sleep(CACHE_SECONDS)
        done = bench.relevo(*asked, SSL_CERT_FILE=night.environment["SSL_CERT_FILE"])
        assert done.returncode == 1, done.stdout + done.stderr
    finally:
        in_bucket(bench, f"mv /tmp/kept {file}")
        time.sleep(CACHE_SECONDS)
    record, message = bench.record("latest"), mailbox.one()
    assert message["Subject"].startswith("FAILED: verify backup of minimarket - ")
    assert message["To"] == "operations@minimarket.local"
    failing = {gate["id"]: gate for gate in record["gates"] if gate["verdict"] == "fail"}
    assert segment in failing["G04"]["observed"]
    for kind in ("plain", "html"):
        assert segment in words(message, kind)
        assert f"relevo results show {record['run_id']}" in words(message, kind)
    for gate in failing.values():
        assert gate["next_action"]
        assert " ".join(f"Do: {gate['next_action']}".split()) in words(message)
    done = bench.relevo(*asked, SSL_CERT_FILE=night.environment["SSL_CERT_FILE"])
    assert done.returncode == 0, done.stdout + done.stderr
    assert mailbox.one()["Subject"] == "PASSED again: verify backup of minimarket"
    passed = bench.record("latest")
    assert {gate["verdict"] for gate in passed["gates"] if gate["id"] == "G02"} <= {"pass", "not_applicable"}
    # The status says to which second could be restored, as of that run.
    known = json.loads(bench.relevo("status", "minimarket", "-i", str(wishes), "--json").stdout)
    assert (known["restorable"]["run_id"], known["restorable"]["verdict"]) == (passed["run_id"], "passed")
    windows = known["restorable"]["repositories"]
    assert set(windows) == {"1", "2"}
    assert all(window["from"] < window["until"] for window in windows.values())
    assert "restore_proven" in known


@pytest.mark.full
def test_a_mail_server_that_is_down_loses_nothing_and_nothing_shows_the_secret(night: Night, mailbox: Mailbox) -> None:
    night.bench.inside("wit1", "systemctl", "stop", "postfix.service")
    dead = f"jsons://ops:{SECRET}@{night.bench.lab.host('wit1').address}:9/{SECRET}?apikey={SECRET}"
    night.write_urls(night.mail, dead)
    seen: list[str] = []
    over = threading.Event()
    watcher = threading.Thread(target=_watch_processes, args=(seen, over))
    watcher.start()
    done = night.check("bad")
    over.set()
    watcher.join()
    assert done.returncode == 1, "the run's own code"
    assert "line 2 of urls (mailtos): Connection error" in done.stderr and "Connection refused" in done.stderr
    assert "(jsons)" in done.stderr
    assert seen == []
    assert SECRET not in done.stdout + done.stderr
    state = night.directory / "state"
    assert [path for path in state.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()] == []
    run = state / "runs" / night.record()["run_id"]
    assert (run / "notify.json").stat().st_mode & 0o077 == 0
    assert mailbox.new() == []
    # It waits, whoever comes next delivers it, to each of them once.
    night.bench.inside("wit1", "systemctl", "start", "postfix.service")
    again = night.relevo("notify")
    assert again.returncode == 1 and "0 delivered, 1 waiting" in again.stdout
    assert mailbox.one()["Subject"].startswith("FAILED: toy nightly of minimarket")
    assert night.check("bad", "--notify", str(_copy(night.urls, night.mail))).returncode == 1
    assert mailbox.one()["Subject"].startswith("FAILED")
    night.write_urls(night.mail)
    assert "1 delivered, 0 waiting" in night.relevo("notify").stdout
    assert "0 delivered, 0 waiting" in night.relevo("notify").stdout
    assert mailbox.new() == []
    assert not (run / "notify.json").exists()


def _copy(path: Path, content: str) -> Path:
    other = path.with_name("urls-of-mail")
    other.write_text(content)
    other.chmod(0o600)
    return other


def _watch_processes(seen: list[str], over: threading.Event) -> None:
    """Arguments and environments of every process, as often as possible."""
    while not over.is_set():
        for directory in Path("/proc").glob("[0-9]*"):
            for name in ("cmdline", "environ"):
                try:
                    content = (directory / name).read_bytes()
                except OSError:
                    continue
                if SECRET.encode() in content and directory.name != str(os.getpid()):
                    seen.append(f"{directory.name} {name}")


@pytest.mark.full
def test_mail_is_handed_only_to_a_server_whose_certificate_verifies(night: Night, mailbox: Mailbox) -> None:
    night.environment.pop("SSL_CERT_FILE")
    done = night.check("bad")
    assert done.returncode == 1
    assert "CERTIFICATE_VERIFY_FAILED" in done.stderr
    assert mailbox.new() == []


@pytest.mark.full
def test_a_run_that_was_killed_is_told_of_too(night: Night, mailbox: Mailbox) -> None:
    process = night.start(*night._check("slow"), RELEVO_PROJECT=str(PROJECT))
    runs = night.directory / "state/runs"
    night.bench.wait("the run is open", lambda: bool(list(runs.glob("*/notify.json"))))
    time.sleep(3)
    assert "0 delivered, 0 waiting" in night.relevo("notify").stdout, "a run that is at work is not told of"
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert "1 delivered, 0 waiting" in night.relevo("notify").stdout
    message = mailbox.one()
    assert message["Subject"].startswith("INTERRUPTED: toy nightly")
    assert "died without closing the run" in words(message)


@pytest.mark.full
@pytest.mark.parametrize("content", ["", "nonsense\n"])
def test_nobody_to_notify_is_no_run(night: Night, content: str) -> None:
    night.write_urls(content)
    done = night.check("good")
    assert done.returncode == 4
    assert not (night.directory / "state/runs").exists()
    night.write_urls(night.mail)
    night.urls.chmod(0o644)
    assert "chmod 600" in night.check("good").stderr


# -- silence --


@pytest.fixture
def watched(night: Night) -> Iterator[Night]:
    """The dead-man's switch with seconds for hours, as a new witness has it."""
    yield from _watched(night, SILENCE_SECONDS)


@pytest.fixture
def patient(night: Night) -> Iterator[Night]:
    """The same, and no silence is too long for it."""
    yield from _watched(night, 3600)


def _watched(night: Night, silence_seconds: int) -> Iterator[Night]:
    values = {
        "dr_nightly_jobs": [job(silence_seconds=silence_seconds)],
        "dr_nightly_look_seconds": 2,
        "dr_nightly_repeat_seconds": 3600,
    }
    forget(night.bench)
    yield with_values(night, values)
    forget(night.bench)


def with_values(night: Night, values: dict[str, Any], *controllers: str) -> Night:
    """The laboratory's inventory with other values; in group_vars, which alone come after those for all."""
    inventory = inventory_with(night.directory / "more", values, *controllers)
    night.inventories = ["-i", str(INVENTORY), "-i", str(inventory)]
    night.play("nightly")
    return night


def inventory_with(directory: Path, values: dict[str, Any], *controllers: str) -> Path:
    (directory / "group_vars").mkdir(parents=True)
    groups = {"dr_witness": {}, **({"dr_controller": {"hosts": dict.fromkeys(controllers)}} if controllers else {})}
    (directory / "hosts.json").write_text(json.dumps({"all": {"children": groups}}))
    for group in groups:
        (directory / "group_vars" / f"{group}.json").write_text(json.dumps(values))
    return directory


def forget(bench: Bench) -> None:
    bench.inside("wit1", "systemctl", "disable", "--now", f"{UNIT}.timer", check=False)
    bench.inside("wit1", "systemctl", "stop", f"{UNIT}.service", check=False)
    for unit in (f"{UNIT}.timer", f"{UNIT}.service"):
        bench.inside("wit1", "rm", "-f", f"/etc/systemd/system/{unit}")
    bench.inside("wit1", "rm", "-rf", "/var/lib/relevo-deadman", "/run/relevo-deadman", BEAT)
    bench.inside("wit1", "rm", "-f", "/etc/relevo/deadman-minimarket.json", "/etc/relevo/deadman-minimarket.urls")
    bench.inside("wit1", "systemctl", "daemon-reload")


def looks(bench: Bench) -> int:
    return bench.inside("wit1", "journalctl", "-u", f"{UNIT}.service", "-o", "cat").count("Finished ")


@pytest.mark.full
def test_a_night_without_a_check_is_an_alarm_once_and_an_all_clear_follows(watched: Night, mailbox: Mailbox) -> None:
    assert watched.check("good").returncode == 0
    watched.beat()
    message = mailbox.one(SILENCE_SECONDS + 10)
    assert message["Subject"].startswith("SILENT: nothing heard of toy nightly of minimarket for ")
    said = words(message)
    assert "No run has finished for " in said
    assert f"The last one was run {watched.record()['run_id']}, which ended as passed" in said
    assert "Do: look at the schedule that starts toy_nightly" in said
    assert "Said by the witness wit1" in said
    before = looks(watched.bench)
    watched.bench.wait("three more looks", lambda: looks(watched.bench) >= before + 3, 30)
    assert mailbox.new() == []
    # The old news told again does not end a silence; a new run does, however it ended.
    watched.beat()
    watched.bench.wait("two more looks", lambda: looks(watched.bench) >= before + 5, 30)
    assert mailbox.new() == []
    assert watched.check("bad").returncode == 1
    assert mailbox.one()["Subject"].startswith("FAILED")
    watched.beat()
    message = mailbox.one()
    assert message["Subject"] == "OVER: toy nightly of minimarket is heard of again"
    assert "which ended as failed" in words(message)


@pytest.mark.full
def test_a_check_that_never_ran_is_an_alarm_and_a_dead_mail_server_only_delays_it(watched: Night, mailbox: Mailbox) -> None:
    watched.bench.inside("wit1", "systemctl", "stop", "postfix.service")

    def complaints() -> str:
        return watched.bench.inside("wit1", "journalctl", "-u", f"{UNIT}.service", "-o", "cat", "-n", "20")

    watched.bench.wait("it cannot speak", lambda: "did not take it" in complaints(), SILENCE_SECONDS + 20)
    assert "line 2 of deadman-minimarket.urls (mailtos) did not take it: Connection error" in complaints()
    watched.bench.inside("wit1", "systemctl", "start", "postfix.service")
    message = mailbox.one()
    assert "never heard of a finished run" in words(message)
    before = looks(watched.bench)
    watched.bench.wait("two more looks", lambda: looks(watched.bench) >= before + 2, 30)
    assert mailbox.new() == []


@pytest.mark.full
def test_a_wrong_clock_and_a_file_that_says_nothing_are_alarms_too(patient: Night, mailbox: Mailbox) -> None:
    assert patient.check("good").returncode == 0
    assert "changed=1" in patient.beat()
    assert "changed=0" in patient.beat(), "the same run told again is no news"
    assert mailbox.new() == []
    beat = json.loads(patient.bench.inside("wit1", "cat", BEAT))
    ahead = (datetime.now(UTC) + timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    patient.bench.inside("wit1", "tee", BEAT, text=json.dumps({**beat, "at": ahead}))
    message = mailbox.one()
    assert message["Subject"] == "CLOCK: the watch over toy nightly of minimarket cannot tell the time"
    assert "by the controller's clock" in words(message)
    patient.bench.inside("wit1", "tee", BEAT, text="{")
    assert mailbox.one()["Subject"] == "SILENT: the beat of toy nightly of minimarket cannot be read"
    # A controller whose clock was ahead does not keep the next true beat out.
    patient.bench.inside("wit1", "tee", BEAT, text=json.dumps({**beat, "at": ahead, "run_id": "ahead"}))
    patient.beat()
    assert mailbox.one()["Subject"].startswith("OVER")


@pytest.mark.full
def test_the_witness_too_hands_mail_only_to_a_server_whose_certificate_verifies(night: Night, mailbox: Mailbox) -> None:
    forget(night.bench)
    try:
        values = {"dr_nightly_jobs": [job(silence_seconds=1)], "dr_nightly_look_seconds": 2, "dr_nightly_ca_file": ""}
        with_values(night, values)

        def told() -> str:
            return night.bench.inside("wit1", "journalctl", "-u", f"{UNIT}.service", "-o", "cat", "-n", "20")

        night.bench.wait("it refuses", lambda: "CERTIFICATE_VERIFY_FAILED" in told(), 20)
        assert mailbox.new() == []
    finally:
        forget(night.bench)


@pytest.mark.full
def test_setting_up_again_changes_nothing_and_a_switch_that_is_off_is_a_failed_gate(patient: Night) -> None:
    assert "changed=0" in patient.play("nightly").rpartition("wit1")[2]
    urls = patient.bench.inside("wit1", "stat", "-c", "%a %U", "/etc/relevo/deadman-minimarket.urls")
    assert urls == "600 relevo-deadman"
    patient.bench.inside("wit1", "systemctl", "stop", f"{UNIT}.timer")
    patient.play("nightly")
    assert patient.bench.inside("wit1", "systemctl", "is-active", f"{UNIT}.timer") == "active"
    gates = patient.record()["gates"]
    assert [(gate["id"], gate["verdict"]) for gate in gates] == [("DEADMAN", "pass")]


# -- the controller's side --

STAND_IN = """#!/bin/sh
echo "$(basename "$0") $* in $PWD as $(id -un) store $RELEVO_STORE" >> /var/tmp/relevo-night.log
[ "$(basename "$0")" != relevo ] || [ "$1" = notify ] || exit 1
"""


KINDS = ("timer", "service")
OTHER_UNIT = {
    "timer": "[Timer]\nOnCalendar=*-01-01\n[Install]\nWantedBy=timers.target\n",
    "service": "[Service]\nType=oneshot\nExecStart=/bin/true\n",
}


@pytest.mark.full
def test_a_timer_runs_the_check_and_tells_the_witness_however_it_ended(night: Night) -> None:
    """A host of the laboratory as controller; what it would start is a stand-in that writes down how it was called."""
    bench, host = night.bench, "b-app1"
    bench.inside(host, "mkdir", "-p", "/opt/relevo-night", "/etc/relevo-controller")
    for name in ("relevo", "ansible-playbook"):
        bench.inside(host, "tee", f"/opt/relevo-night/{name}", text=STAND_IN)
        bench.inside(host, "chmod", "755", f"/opt/relevo-night/{name}")
    bench.inside(host, "tee", "/etc/relevo-controller/environment", text="RELEVO_STORE=/srv/relevo\n")
    values = {
        "dr_nightly_scheduler": "systemd",
        "dr_nightly_commands_directory": "/opt/relevo-night",
        "dr_nightly_project_directory": "/opt",
        "dr_nightly_inventories": ["/etc/relevo-inventory"],
        "dr_nightly_jobs": [
            job("verify_backup", calendar="*:*:0/3", variables={"dr_reason": '100 % of "$HOME"'}),
            job("restore_test", calendar="*-02-29 05:00:00 UTC"),
        ],
        "dr_nightly_jitter_seconds": 0,
        "dr_nightly_secrets_directory": str(bench.lab.state / "secrets"),
    }
    names = ("nightly-verify_backup", "nightly-restore_test", "notify")
    units = [f"relevo-{name}@minimarket.{kind}" for name in names for kind in ("timer", "service")]
    # Of an earlier version, of a job that is no more, and of another cluster.
    others = [
        f"relevo-{name}.{kind}" for name in ("nightly@minimarket", "nightly-check@minimarket", "nightly@other") for kind in KINDS
    ]
    for unit in others:
        bench.inside(host, "tee", f"/etc/systemd/system/{unit}", text=OTHER_UNIT[unit.rpartition(".")[2]])
    bench.inside(host, "systemctl", "daemon-reload")
    bench.inside(host, "systemctl", "enable", "--now", *(unit for unit in others if unit.endswith("timer")))
    try:
        with_values(night, values, host)

        def log() -> str:
            return bench.inside(host, "cat", "/var/tmp/relevo-night.log", check=False)

        bench.wait("two nights", lambda: log().count("beat.yml") >= 2, 30)
        urls = bench.lab.state / "secrets/notify_urls"
        first, second = [line for line in log().splitlines() if not line.startswith("relevo notify")][:2]
        about = "in /opt as root store /srv/relevo"
        given = '-e dr_reason=100 % of "$HOME"'
        assert (
            first == f"relevo run verify_backup -i /etc/relevo-inventory {given} --notify {urls} --notify-when not-passed {about}"
        )
        assert second == f"ansible-playbook -i /etc/relevo-inventory playbooks/beat.yml -e dr_nightly_runbook=verify_backup {about}"
        assert (
            bench.inside(host, "systemctl", "show", "-P", "Result", "relevo-nightly-verify_backup@minimarket.service")
            == "exit-code"
        )
        due = bench.inside(
            host, "systemctl", "show", "-P", "NextElapseUSecRealtime", "relevo-nightly-restore_test@minimarket.timer"
        )
        assert "-02-29 05:00:00 UTC" in due
        loaded = {unit: bench.inside(host, "systemctl", "show", "-P", "LoadState", unit) for unit in others}
        assert loaded == {unit: "loaded" if "@other" in unit else "not-found" for unit in others}
        assert bench.inside(host, "systemctl", "is-active", "relevo-nightly@other.timer") == "active"
        gates = sorted((gate["id"], gate["verdict"]) for gate in night.record()["gates"])
        assert gates == [("DEADMAN", "pass"), ("NIGHTLY", "pass"), ("NIGHTLY", "pass")]
        bench.inside(host, "systemctl", "start", "relevo-notify@minimarket.service")
        assert f"relevo notify {about}" in log()
        for unit in units:
            assert bench.inside(host, "systemd-analyze", "verify", f"/etc/systemd/system/{unit}") == ""
    finally:
        forget(bench)
        for unit in (*units, *others):
            bench.inside(host, "systemctl", "disable", "--now", unit, check=False)
        for unit in (*units, *others):
            bench.inside(host, "rm", "-f", f"/etc/systemd/system/{unit}")
        bench.inside(host, "rm", "-rf", "/opt/relevo-night", "/etc/relevo-controller", "/var/tmp/relevo-night.log")
        bench.inside(host, "systemctl", "daemon-reload")


@pytest.mark.full
def test_a_night_that_nobody_starts_is_refused(night: Night) -> None:
    more = inventory_with(night.directory / "more", {"dr_nightly_scheduler": "systemd"})
    done = night.relevo("run", "nightly", "-i", str(INVENTORY), "-i", str(more), RELEVO_PROJECT=str(ROOT))
    assert done.returncode == 1
    assert "observed no host in the group dr_controller" in done.stdout
