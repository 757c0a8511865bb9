"""Run a playbook by ansible-runner: the only module that knows it."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ansible_runner.interface import init_runner

from relevo.armed import Interrupts
from relevo.closing import OUTPUT
from relevo.recording import ARTIFACTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from relevo.request import Inputs

_MEMORY = Path("/dev/shm")  # noqa: S108 - made by mkdtemp, for its owner alone
# How soon an interrupt is noticed.
_POLL_SECONDS = 1


@dataclass(frozen=True)
class Job:
    """One playbook run. playbook: path; inventory: sources, absolute where they are files; directory: the run's own; armed: it may wait."""

    playbook: Path
    project: Path
    inventory: tuple[str, ...]
    inputs: Inputs
    directory: Path
    environment: Mapping[str, str]
    check_mode: bool = False
    armed: bool = False


@dataclass(frozen=True)
class Outcome:
    """How the process ended: ansible-playbook's exit code (254 after an interrupt), and its last words."""

    code: int
    cancelled: bool
    last_words: str


def run_playbook(job: Job, on_event: Callable[[Mapping[str, Any]], None], redact: Callable[[str], str]) -> Outcome:
    """Run to the end; on_event gets each event as ansible-runner tells it. Nothing unredacted is left behind."""
    output: list[str] = []

    def handle(event: Mapping[str, Any]) -> bool:
        output.append(str(event.get("stdout") or ""))
        on_event(event)
        return False  # the event is in the journal; ansible-runner writes no second copy

    with _private_directory(job.directory) as private:
        runner = init_runner(
            private_data_dir=str(private),
            project_dir=str(job.project),
            playbook=str(job.playbook),
            inventory=list(job.inventory) or None,
            extravars=job.inputs.unsafe(),
            envvars=_environment(job),
            cmdline="--check" if job.check_mode else None,
            settings={"pexpect_timeout": _POLL_SECONDS, "suppress_output_file": True},
            fact_cache_type="memory",
            event_handler=handle,
            cancel_callback=Interrupts(job.directory) if job.armed else None,
            quiet=True,
        )
        runner.config.command = [sys.executable, "-m", "relevo.leash", *runner.config.command]
        runner.run()
    text = redact("\n".join(line for line in output if line))
    _keep(job.directory / OUTPUT, text)
    # A process that a signal ended has no exit code.
    return Outcome(-1 if runner.rc is None else int(runner.rc), bool(runner.canceled), _last_words(text))


@contextmanager
def _private_directory(run: Path) -> Iterator[Path]:
    """A fresh directory for ansible-runner, which writes the whole environment into it: in memory where that is possible.

    A second run in the same place would take the first one's variables, and a full disk would cost the events. The link in
    the run's directory leads to it as long as it exists, so that a killed run's one is found.
    """
    private = Path(tempfile.mkdtemp(prefix=f"relevo-{run.name}-", dir=_MEMORY if os.access(_MEMORY, os.W_OK) else run))
    link = run / ARTIFACTS
    try:
        with suppress(OSError):
            link.symlink_to(private)
        yield private
    finally:
        shutil.rmtree(private, ignore_errors=True)
        link.unlink(missing_ok=True)


def _keep(path: Path, text: str) -> None:
    """What ansible-playbook printed, for people; the record does not depend on it, so a full disk is no error here."""
    with suppress(OSError), os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as target:
        target.write(text)


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


def _last_words(text: str) -> str:
    """The error that ended a playbook before its first task, else its last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if "ERROR" in line]
    return (errors or lines or [""])[-1]
