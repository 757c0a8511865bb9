"""Both feeds leave the same record; no feed, no run; a killed run is interrupted; and no secret is written anywhere."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from relevo import journal, recording
from relevo.digest import file_digest
from relevo.request import Inputs

MEMORY = Path("/dev/shm")
PROJECT = Path(__file__).parents[1] / "fixtures" / "project"
BIN = Path(sys.executable).parent
NO_RECORDER = "ansible.builtin.nothing_of_that_name"
CANARY = "canary7Xq9vT2mZ4"
# All that may differ between two runs of the same playbook: ids, times, durations, the controller's process, the feed.
MAY_DIFFER = {"run_id", "opened_at", "closed_at", "duration_seconds", "feed"}
# Somebody may commit between the two runs.
DIGESTS_THAT_MAY_DIFFER = {"events", "log", "commit", "commit_dirty"}


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def environment(state: Path, **more: str) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("RELEVO_", "ANSIBLE_", "TOY_"))}
    return kept | {"PATH": f"{BIN}:{kept['PATH']}", "RELEVO_STORE": str(state), "RELEVO_PROJECT": str(PROJECT)} | more


def ansible(state: Path, playbook: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "ansible-playbook"), "-i", "inventory", f"playbooks/{playbook}.yml", *arguments]
    return subprocess.run(
        command, cwd=PROJECT, env=environment(state, **more), capture_output=True, text=True, timeout=120, check=False
    )


def relevo(state: Path, *arguments: str, cwd: Path = PROJECT, **more: str) -> subprocess.CompletedProcess[str]:
    command = [str(BIN / "relevo"), *arguments]
    return subprocess.run(
        command,
        cwd=cwd,
        env=environment(state, **more),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def run(state: Path, runbook: str, *arguments: str, **more: str) -> subprocess.CompletedProcess[str]:
    return relevo(state, "run", runbook, "-i", "inventory", *arguments, **more)


def latest(state: Path) -> dict[str, Any]:
    shown = relevo(state, "results", "show", "latest", "--json")
    assert shown.returncode == 0, shown.stderr
    record: dict[str, Any] = json.loads(shown.stdout)
    return record


def directories(state: Path) -> list[Path]:
    return [path for path in sorted((state / "runs").glob("*")) if path.is_dir()]


def comparable(record: dict[str, Any]) -> dict[str, Any]:
    kept = {name: value for name, value in record.items() if name not in MAY_DIFFER}
    kept["digests"] = {name: value for name, value in kept["digests"].items() if name not in DIGESTS_THAT_MAY_DIFFER}
    kept["failures"] = sorted(
        ({key: value for key, value in failure.items() if key != "at"} for failure in kept["failures"]), key=json.dumps
    )
    measures = dict(kept["measures"])
    # The toy's phases have fixed times, and the command's own start is one end of the first part; only the runner looks into the past.
    for name in ("rto_breakdown", "detect_and_decide_seconds", "machine_seconds", "predicted"):
        measures.pop(name)
    return {**kept, "measures": measures}


@pytest.mark.parametrize(
    ("runbook", "verdict", "code"),
    [("toy", "passed", 0), ("toy_failed", "failed", 1), ("toy_closed", "refused", 2)],
)
def test_both_feeds_leave_the_same_record(state: Path, runbook: str, verdict: str, code: int) -> None:
    plain = ansible(state, runbook)
    by_callback = latest(state)
    led = run(state, runbook, "--json")
    by_runner = json.loads(led.stdout)

    assert by_callback["feed"] == "callback", plain.stderr
    assert by_runner["feed"] == "runner"
    assert (by_callback["verdict"], by_runner["verdict"], led.returncode) == (verdict, verdict, code), led.stderr
    assert comparable(by_callback) == comparable(by_runner)
    assert latest(state) == by_runner
    assert relevo(state, "results", "verify").returncode == 0
    for directory in directories(state):
        record = json.loads((directory / "record.json").read_bytes())
        assert record["digests"]["events"] == file_digest(directory / "journal.jsonl")


def test_a_record_holds_what_the_tasks_said(state: Path) -> None:
    run(state, "toy", "-e", "dr_reason=yearly test, week 48")
    record = latest(state)

    assert record["schema"] == "dr-test/1"
    assert (record["cluster"], record["mode"], record["scope"], record["run"]["target_site"]) == ("toy", "drill", "site", "b")
    assert record["run"]["reason"] == "yearly test, week 48"
    assert [(phase["name"], phase["host"], phase["outcome"]) for phase in record["phases"]] == [
        ("FENCE", "toy-a", "ok"),
        ("FENCE", "toy-b", "ok"),
        ("PROMOTE", "toy-a", "ok"),
        ("PROMOTE", "toy-b", "ok"),
    ]
    assert record["measures"]["outage_seconds"] == 2.9
    assert record["measures"]["loss_bytes"] is None
    assert record["fence"]["probes"][0]["host"] == "toy-a"
    assert record["objectives_met"] is True
    assert record["versions"]["postgresql"] == "17.6"
    assert record["digests"]["inventory"]


def test_a_second_run_does_not_take_the_variables_of_the_first(state: Path) -> None:
    run(state, "toy", "-e", "dr_reason=only the first")
    run(state, "toy")
    assert latest(state)["run"]["reason"] == "none given"


def test_without_the_recorder_nothing_runs(state: Path) -> None:
    done = ansible(state, "toy_slow", ANSIBLE_CALLBACKS_ENABLED=NO_RECORDER)
    assert done.returncode != 0
    assert "no recorder has opened a record" in done.stdout + done.stderr
    assert not (state / "runs").exists()


def test_a_variable_of_another_run_is_no_record(state: Path) -> None:
    """Left in a shell by hand: the callback replaces it, and where it cannot, it takes it away."""
    broken = state.parent / "broken"
    (broken / "relevo").mkdir(parents=True)
    (broken / "relevo" / "__init__.py").write_text('raise ImportError("not here")\n')
    stale = directories_of_a_finished_run(state)
    done = ansible(state, "toy_slow", PYTHONPATH=str(broken), RELEVO_RUN_ID=stale.name, RELEVO_RUN_DIR=str(stale))
    assert done.returncode != 0
    assert "does not record this run" in done.stdout + done.stderr
    assert "no recorder has opened a record" in done.stdout + done.stderr


def directories_of_a_finished_run(state: Path) -> Path:
    assert ansible(state, "toy_slow").returncode == 0
    return directories(state)[-1]


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    mounted = tmp_path / "small"
    mounted.mkdir()

    def mount(size: str) -> Path:
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(mounted)], check=True)
        return mounted

    yield mount
    subprocess.run(["umount", str(mounted)], check=False)


def test_with_a_full_disk_nothing_runs(small_disk: Any) -> None:
    state = small_disk("256k")
    done = ansible(state, "toy_slow")
    assert done.returncode != 0
    assert "cannot be written: No space left on device" in done.stdout + done.stderr
    assert "no recorder has opened a record" in done.stdout + done.stderr
    led = run(state, "toy_slow")
    assert led.returncode == 1
    assert "No space left on device" in led.stderr
    assert "Traceback" not in led.stderr


@pytest.mark.parametrize("feed", [ansible, run])
def test_a_disk_that_fills_during_the_run_spoils_no_more_than_the_verdict(small_disk: Any, feed: Any) -> None:
    state = small_disk("1600k")
    done = feed(state, "toy_slow", TOY_FILL=str(state / "filler"))
    assert "Traceback" not in done.stdout + done.stderr
    (state / "filler").unlink()
    record = latest(state)
    assert record["verdict"] == "partial", done.stdout + done.stderr
    assert record["journal"]["missed_events"] > 0
    assert record["journal"]["reason"] in {"the disk is full", "No space left on device"}


COMMANDS = {
    "callback": [str(BIN / "ansible-playbook"), "-i", "inventory", "playbooks/toy_slow.yml"],
    "runner": [str(BIN / "relevo"), "run", "toy_slow", "-i", "inventory"],
}


def start_slow(state: Path, command: list[str], **more: str) -> subprocess.Popen[str]:
    started = subprocess.Popen(
        command,
        cwd=PROJECT,
        env=environment(state, TOY_WAIT="60", **more),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for path in (state / "runs").glob("*/journal.jsonl"):
            if '"Wait | Wait"' in path.read_text():
                return started
        time.sleep(0.05)
    started.kill()
    pytest.fail("the slow toy did not start")


def ansible_processes(state: Path) -> list[int]:
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"RELEVO_STORE={state}".encode() in path.read_bytes() and b"toy_slow" in path.with_name("cmdline").read_bytes():
                found.append(int(path.parent.name))
        except OSError:
            continue
    return found


@pytest.mark.parametrize("feed", ["callback", "runner"])
def test_a_killed_run_is_interrupted(state: Path, feed: str) -> None:
    process = start_slow(state, COMMANDS[feed])
    opening, _ = journal.read(directories(state)[0])
    assert opening.pid == process.pid
    assert opening.owner_is_alive()
    assert json.loads(relevo(state, "results", "list", "--json").stdout) == [], "a living run is left alone"
    process.send_signal(signal.SIGKILL)
    process.wait()
    if feed == "runner":
        deadline = time.monotonic() + 10
        while ansible_processes(state) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert not ansible_processes(state), "a playbook without its recorder goes on"

    record = latest(state)
    assert record["verdict"] == "interrupted"
    assert "'Wait | Wait'" in record["verdict_reasons"][0]
    assert [phase["name"] for phase in record["phases"]] == ["FENCE"]
    assert record["run"]["cluster"] == "toy"
    assert not (directories(state)[0] / recording.ARTIFACTS).is_symlink()
    assert not list(MEMORY.glob(f"relevo-{record['run_id']}-*"))
    assert len(json.loads(relevo(state, "results", "list", "--json").stdout)) == 1, "it is finished once"
    for pid in ansible_processes(state):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("feed", ["callback", "runner"])
def test_a_stopped_run_is_interrupted(state: Path, feed: str, number: signal.Signals) -> None:
    process = start_slow(state, COMMANDS[feed])
    process.send_signal(number)
    code = process.wait(30)
    assert latest(state)["verdict"] == "interrupted"
    assert code == 3 or feed == "callback"


def test_the_next_plain_run_finishes_a_killed_one(state: Path) -> None:
    process = start_slow(state, COMMANDS["callback"])
    process.kill()
    process.wait()
    assert ansible(state, "toy_slow").returncode == 0
    records = json.loads(relevo(state, "results", "list", "--json").stdout)
    assert [record["verdict"] for record in records] == ["passed", "interrupted"]


def test_a_template_in_an_input_is_refused_and_never_executed(state: Path, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    done = run(state, "toy", "-e", f"dr_reason={{{{ lookup('pipe', 'touch {marker}') }}}}")
    assert done.returncode == 2
    assert not marker.exists()
    record = latest(state)
    assert record["verdict"] == "refused"
    assert "holds a template" in record["verdict_reasons"][0]


def test_text_that_reaches_ansible_is_never_a_template(state: Path, tmp_path: Path) -> None:
    """The second wall: even an input that nobody judged is only text."""
    from relevo.execute import Job, run_playbook  # noqa: PLC0415 - the only test that runs a playbook in this process

    marker = tmp_path / "marker"
    directory = state / "runs" / "x"
    directory.mkdir(parents=True)
    said: list[Any] = []
    job = Job(
        playbook=PROJECT / "playbooks" / "echo.yml",
        project=PROJECT,
        inventory=(str(PROJECT / "inventory"),),
        inputs=Inputs({"dr_reason": f"{{{{ lookup('pipe', 'touch {marker}') }}}}"}),
        directory=directory,
        environment={"ANSIBLE_CALLBACKS_ENABLED": NO_RECORDER},
    )
    outcome = run_playbook(job, lambda event: said.append(event.get("event_data", {}).get("res", {}).get("relevo")), str)
    assert not marker.exists()
    assert outcome.code == 0, outcome.last_words
    assert {"run": {"reason": f"{{{{ lookup('pipe', 'touch {marker}') }}}}"}} in said


def test_no_secret_is_written_anywhere(state: Path, tmp_path: Path) -> None:
    inventory = tmp_path / "inventory"
    shutil.copytree(PROJECT / "inventory", inventory)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "app_password").write_text(f"{CANARY}\n")
    hosts = inventory / "hosts.yml"
    hosts.write_text(f'{hosts.read_text()}    toy_base: {tmp_path}\n    dr_secrets_directory: "{{{{ toy_base }}}}/elsewhere"\n')
    secret = {"TOY_SECRET": CANARY}
    ansible_done = ansible(state, "toy_slow", "-i", str(inventory), **secret)
    led = relevo(state, "run", "toy_slow", "-i", str(inventory), **secret)
    refused = relevo(state, "run", "toy_slow", "-i", str(inventory), "-e", f"app_password={CANARY}", **secret)
    assert (ansible_done.returncode, led.returncode, refused.returncode) == (2, 1, 2)
    assert CANARY not in led.stdout + led.stderr + refused.stdout + refused.stderr
    shown = relevo(state, "results", "list", "--json").stdout
    assert len(json.loads(shown)) == 3
    assert "[redacted]" in shown
    for path in state.rglob("*"):
        if path.is_file():
            assert CANARY.encode() not in path.read_bytes(), path
    assert state.stat().st_mode & 0o077 == 0
    assert not [path for path in state.glob("relevo.db*") if path.stat().st_mode & 0o077]


def test_no_secret_is_in_an_argument_list_or_file_during_the_run(state: Path) -> None:
    process = start_slow(
        state, [str(BIN / "relevo"), "run", "toy_slow", "-i", "inventory", "-e", "dr_reason=plain"], PGPASSWORD=CANARY
    )
    lines = [path.read_bytes() for path in Path("/proc").glob("[0-9]*/cmdline") if path.exists()]
    private = directories(state)[0] / recording.ARTIFACTS
    modes = {path.resolve().stat().st_mode & 0o777 for path in (private, private.parent)}
    process.send_signal(signal.SIGTERM)
    process.wait(30)
    assert not [line for line in lines if CANARY.encode() in line]
    assert modes == {0o700}
    assert not private.is_symlink()
    assert not list(MEMORY.glob(f"relevo-{private.parent.name}-*"))


def test_bad_input_is_refused_with_a_sentence_and_a_record(state: Path) -> None:
    done = run(state, "toy", "-e", "dr_mode=maybe", "-e", "dr_target_site=b")
    assert done.returncode == 2
    assert "expected drill (a rehearsal, which moves production) or disaster" in done.stdout
    record = latest(state)
    assert (record["verdict"], record["mode"], record["run"]["target_site"]) == ("refused", None, "b")


def test_a_playbook_that_cannot_be_read_is_refused_with_ansibles_reason(state: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project)
    (project / "ansible.cfg").write_text((project / "ansible.cfg").read_text().replace("../../..", str(PROJECT.parents[2])))
    (project / "playbooks" / "toy.yml").write_text("- hosts: all\n  tasks:\n    - no_such_module:\n")
    done = relevo(state, "run", "toy", "-i", "inventory", cwd=project, RELEVO_PROJECT=str(project))
    assert done.returncode == 2, done.stdout + done.stderr
    assert "no_such_module" in done.stdout


def test_the_working_directory_does_not_matter(state: Path, tmp_path: Path) -> None:
    done = relevo(state, "run", "toy_slow", "-i", str(PROJECT / "inventory"), cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr


def test_usage_errors_exit_with_four_and_record_nothing(state: Path) -> None:
    for arguments in (
        ["bogus"],
        ["run"],
        ["run", "no_such_runbook"],
        ["run", "toy"],
        ["run", "toy", "-i", "nowhere"],
        ["results", "show", "nothing"],
    ):
        done = relevo(state, *arguments)
        assert done.returncode == 4, (arguments, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
    assert json.loads(relevo(state, "results", "list", "--json").stdout) == []


def test_status_observes_and_leaves_no_result(state: Path) -> None:
    done = relevo(state, "status", "toy", "-i", "inventory")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "toy-a" in done.stdout
    assert json.loads(relevo(state, "results", "list", "--json").stdout) == []
    assert directories(state) == []


# What is told while it goes on is known by its phases.
FAILOVER = """
- name: "Toy 1/1: Move"
  hosts: toy-b
  gather_facts: false
  tasks:
    - name: Open | Open the run
      relevo.dr.open:
        runbook: toy
        cluster: "{{ dr_cluster }}"
        contacts: %s
    - name: Move | Say what has happened
      say:
        relevo:
          run: {runbook: failover}
          phases:
            - {name: "{{ item }}", host: toy-b, started_at: "2026-11-24T12:00:00.000000Z", ended_at: "2026-11-24T12:00:01.000000Z", outcome: ok}
      loop: [LOCK, PROMOTE]
"""


class Hearer(ThreadingHTTPServer):
    """A chat service that takes what it is told."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Ear)
        self.heard: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Ear(BaseHTTPRequestHandler):
    server: Hearer

    def do_POST(self) -> None:
        self.server.heard.append(json.loads(self.rfile.read(int(self.headers["Content-Length"])))["title"])
        self.send_response(200)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        return


@pytest.fixture
def project_with_contacts(tmp_path: Path) -> Iterator[tuple[Path, Hearer]]:
    """A project whose toy is called failover, and whose inventory names who hears of it."""
    hearer = Hearer()
    project = tmp_path / "project"
    shutil.copytree(PROJECT, project)
    configuration = (project / "ansible.cfg").read_text().replace("../../../collections", str(PROJECT.parents[2] / "collections"))
    (project / "ansible.cfg").write_text(configuration)
    urls = tmp_path / "urls"
    urls.write_text(f"json://127.0.0.1:{hearer.server_address[1]}/\n")
    urls.chmod(0o600)
    (project / "playbooks/failover.yml").write_text(FAILOVER % urls)
    yield project, hearer
    hearer.shutdown()


GIVEN = ("dr_mode=drill", "dr_scope=site", "dr_target_site=b", "dr_confirm=drill production toy to b")


@pytest.mark.parametrize("led", ["by relevo run", "by nobody"])
def test_the_contacts_of_the_inventory_hear_three_times_whoever_leads(
    state: Path, project_with_contacts: tuple[Path, Hearer], led: str
) -> None:
    project, hearer = project_with_contacts
    words = [BIN / "relevo", "run", "failover"] if led == "by relevo run" else [BIN / "ansible-playbook", "playbooks/failover.yml"]
    command = [
        *words,
        "-i",
        "inventory",
        *(word for pair in GIVEN for word in ("-e", json.dumps(dict([pair.split("=")])) if led == "by nobody" else pair)),
    ]
    about = environment(state, RELEVO_PROJECT=str(project))
    done = subprocess.run(
        command, cwd=project, env=about, capture_output=True, text=True, timeout=120, check=False, stdin=subprocess.DEVNULL
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert [title.partition(":")[0] for title in hearer.heard] == ["BEGUN", "NO WAY BACK", "PASSED"], done.stdout + done.stderr
    assert not list(state.glob("runs/*/notify.json"))
