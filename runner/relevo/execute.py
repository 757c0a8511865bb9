"""Run a playbook by ansible-runner: the only module that knows it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_runner.interface import init_runner

from relevo.paths import make_private_directory
from relevo.recording import ARTIFACTS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from relevo.request import Inputs

OUTPUT = "output.log"
# How soon an interrupt is noticed.
_POLL_SECONDS = 1


@dataclass(frozen=True)
class Job:
    """One playbook run. playbook: path; inventory: sources, absolute where they are files; directory: the run's own."""

    playbook: Path
    project: Path
    inventory: tuple[str, ...]
    inputs: Inputs
    directory: Path
    environment: Mapping[str, str]
    check_mode: bool = False


@dataclass(frozen=True)
class Outcome:
    """How the process ended: ansible-playbook's exit code (254 after an interrupt), and its last words."""

    code: int
    cancelled: bool
    last_words: str


def run_playbook(job: Job, on_event: Callable[[Mapping[str, Any]], None], redact: Callable[[str], str]) -> Outcome:
    """Run to the end; on_event gets each event as ansible-runner tells it. Nothing unredacted is left on disk."""
    private = job.directory / ARTIFACTS
    # A second run in the same place would take the first one's variables.
    shutil.rmtree(private, ignore_errors=True)
    make_private_directory(private)
    try:
        runner = init_runner(
            private_data_dir=str(private),
            project_dir=str(job.project),
            playbook=str(job.playbook),
            inventory=list(job.inventory) or None,
            extravars=job.inputs.unsafe(),
            envvars=_environment(job),
            cmdline="--check" if job.check_mode else None,
            settings={"pexpect_timeout": _POLL_SECONDS},
            fact_cache_type="memory",
            event_handler=_without_files(on_event),
            quiet=True,
        )
        runner.config.command = [sys.executable, "-m", "relevo.leash", *runner.config.command]
        runner.run()
        output = _read(Path(runner.config.artifact_dir) / "stdout")
        text = redact(output)
        (job.directory / OUTPUT).write_text(text, encoding="utf-8")
        # A process that a signal ended has no exit code.
        return Outcome(-1 if runner.rc is None else int(runner.rc), bool(runner.canceled), _last_words(text))
    finally:
        shutil.rmtree(private, ignore_errors=True)


def _environment(job: Job) -> dict[str, str]:
    beside = str(Path(sys.executable).parent)
    wanted = {
        "ANSIBLE_CONFIG": str(job.project / "ansible.cfg"),
        "PATH": os.pathsep.join((beside, os.environ.get("PATH", os.defpath))),
        "RELEVO_FEED": "runner",
        # ansible-runner turns host key checking off where nobody says otherwise.
        "ANSIBLE_HOST_KEY_CHECKING": os.environ.get("ANSIBLE_HOST_KEY_CHECKING", "True"),
        "ANSIBLE_NOCOLOR": "1",
    }
    return {**wanted, **job.environment}


def _without_files(on_event: Callable[[Mapping[str, Any]], None]) -> Callable[[Mapping[str, Any]], bool]:
    def handle(event: Mapping[str, Any]) -> bool:
        on_event(event)
        return False  # the event is in the journal; ansible-runner writes no second copy

    return handle


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _last_words(text: str) -> str:
    """The error that ended a playbook before its first task, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line]
    return (errors or lines or [""])[-1]
