# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Record a run of ansible-playbook, or of an AWX job, as `relevo run` does: the second of the two feeds."""

from __future__ import annotations

DOCUMENTATION = """
name: recorder
type: notification
short_description: Record each run as a disaster recovery test result
version_added: 0.1.0
author: the Relevo maintainers
description:
  - Opens the journal of a run before its first task, and stores a signed record after its last.
  - Tells the contacts of the inventory (C(dr_run_contacts_secret)) of a failover, switchover or failback. Another process does it, and nobody waits
    for that while the run goes on.
  - Records nothing when E(RELEVO_FEED) is V(runner), because then C(relevo run) records; it only tells it where the secrets are
    that no record may hold (C(dr_secrets_directory)).
  - When nothing can be recorded it says why in one line and leaves E(RELEVO_RUN_ID) unset; the runbook's opening task then
    refuses to go on.
requirements:
  - the Python package relevo, for the Python that runs ansible-playbook
"""

import atexit
import os
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from ansible import context
from ansible.errors import AnsibleError
from ansible.plugins.callback import CallbackBase
from ansible.template import Templar
from ansible.utils.vars import load_extra_vars

try:
    from relevo import asked, awx, closing, courier, paths, recording, request, settlement
    from relevo.audience import Audience
    from relevo.errors import RelevoError
    from relevo.verdict import Ending
except ImportError as error:
    MISSING = str(error)
else:
    MISSING = ""

# Why there is no record, for the opening task that refuses.
UNRECORDED = "RELEVO_UNRECORDED"
VARIABLES = ("RELEVO_RUN_ID", "RELEVO_RUN_DIR", "RELEVO_SIGNING_KEY", UNRECORDED)


class CallbackModule(CallbackBase):
    """Turns callbacks into events of ansible-runner's shape, and hands them to the recorder of the package relevo."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "relevo.dr.recorder"

    def __init__(self) -> None:
        super().__init__()
        self._led = os.environ.get("RELEVO_FEED") == "runner"
        self._hidden = False
        self._recorder: Any = None
        self._audience: Any = None
        self._in_a_job = False
        self._play: str | None = None
        self._began: dict[str, datetime] = {}

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """Open the journal, or leave the run without one: its opening task refuses then."""
        if self._led:
            return
        self._close(MISSING or Ending(reason="Another playbook of the same command began."))
        parent = os.environ.get("RELEVO_RUN_ID")
        for name in VARIABLES:
            os.environ.pop(name, None)
        if MISSING:
            self._leave_unrecorded(f"the Python package relevo is missing ({MISSING})")
            return
        try:
            self._recorder = self._start(playbook, parent)
        except (RelevoError, OSError, ValueError) as error:
            self._leave_unrecorded(str(error))
            return
        directory = self._recorder.directory
        self._audience = Audience(self._recorder, lambda file: [courier.Courier(file, directory)])
        os.environ.update(self._recorder.environment)
        atexit.register(self._abandon, os.getpid())
        self._tell("playbook_on_start", {})

    def v2_playbook_on_play_start(self, play: Any) -> None:
        """A play's title is the coarse heading."""
        self._hide_secrets(play)
        self._play = play.get_name().strip()
        self._tell("playbook_on_play_start", {"name": self._play})

    def v2_playbook_on_no_hosts_matched(self) -> None:
        """An empty group is news."""
        self._tell("playbook_on_no_hosts_matched", {"play": self._play})

    def v2_playbook_on_task_start(self, task: Any, is_conditional: bool) -> None:
        """A task begins."""
        self._tell("playbook_on_task_start", self._about(task))

    def v2_playbook_on_handler_task_start(self, task: Any) -> None:
        """A handler begins."""
        self._tell("playbook_on_task_start", self._about(task))

    def v2_runner_on_start(self, host: Any, task: Any) -> None:
        """A host begins a task."""
        self._began[host.get_name()] = datetime.now(timezone.utc)

    def v2_runner_on_ok(self, result: Any) -> None:
        """A host did a task."""
        self._tell_result("runner_on_ok", result)

    def v2_runner_on_failed(self, result: Any, ignore_errors: bool = False) -> None:
        """A host failed a task."""
        self._tell_result("runner_on_failed", result, ignore_errors=ignore_errors)

    def v2_runner_on_unreachable(self, result: Any) -> None:
        """A host could not be reached."""
        self._tell_result("runner_on_unreachable", result)

    def v2_runner_on_skipped(self, result: Any) -> None:
        """A host left a task out."""
        self._tell_result("runner_on_skipped", result)

    def v2_playbook_on_stats(self, stats: Any) -> None:
        """The end: build, sign and store the record."""
        counts = ("ok", "changed", "failures", "dark", "ignored", "rescued", "skipped")
        self._tell("playbook_on_stats", {name: dict(getattr(stats, name)) for name in counts})
        self._close(MISSING or Ending())

    def _start(self, playbook: Any, parent: str | None) -> Any:
        path = Path(playbook._file_name).absolute()
        place = paths.find_place(os.environ)
        variables = load_extra_vars(playbook._loader)
        awx.check_store(place, variables)
        self._in_a_job = awx.is_job(variables)
        settlement.settle(place, deliver=False)
        pairs = [f"{name}={value}" for name, value in variables.items() if isinstance(value, str)]
        return recording.start(
            place,
            recording.Request(
                playbook=path,
                project=path.parent.parent if path.parent.name == "playbooks" else Path.cwd(),
                inventory=tuple(str(source) for source in context.CLIARGS.get("inventory") or ()),
                feed="callback",
                inputs=request.salvage(pairs).shown(),
                parent_run_id=parent,
                check_mode=bool(context.CLIARGS.get("check")),
            ),
            os.environ,
        )

    def _hide_secrets(self, play: Any) -> None:
        """Tell whoever records where the secrets are: only here, in Ansible's own process, is the variable rendered."""
        run_directory = os.environ.get("RELEVO_RUN_DIR")
        if self._hidden or MISSING or not run_directory:
            return
        try:
            manager = play.get_variable_manager()
            variables = manager.get_vars(play=play, host=manager._inventory.get_hosts()[0])
            directory = Templar(loader=play._loader, variables=variables).template(variables.get("dr_secrets_directory"))
            recording.tell_secrets_directory(Path(run_directory), directory)
        except (AnsibleError, IndexError) as error:
            # A variable that cannot be rendered is reported by the task that needs it; a play without hosts needs none.
            self._display.vv(f"Relevo does not know dr_secrets_directory: {error}")
        self._hidden = True

    def _about(self, task: Any) -> dict[str, Any]:
        role = getattr(task, "_role", None)
        return {"play": self._play, "task": task.name or task.action, "role": role._role_name if role else None}

    def _tell_result(self, event: str, result: Any, *, ignore_errors: bool = False) -> None:
        host = result.host.get_name()
        ended = datetime.now(timezone.utc)
        began = self._began.get(host, ended)
        data = {
            **self._about(result.task),
            "host": host,
            "start": began.isoformat(),
            "end": ended.isoformat(),
            "duration": (ended - began).total_seconds(),
            "ignore_errors": ignore_errors,
        }
        if event != "runner_on_skipped":
            data["res"] = result.result
        self._tell(event, data)

    def _tell(self, event: str, data: dict[str, Any]) -> None:
        if self._recorder is None:
            return
        created = datetime.now(timezone.utc).isoformat()
        taken = self._recorder.take({"event": event, "created": created, "event_data": data})
        if taken is not None:
            self._audience.take(taken)

    def _close(self, ending: Any) -> None:
        recorder, self._recorder = self._recorder, None
        if recorder is None:
            return
        for name in VARIABLES:
            os.environ.pop(name, None)
        try:
            finished = recorder.close(ending)
        except (RelevoError, OSError) as error:
            self._warn(f"{error} The next relevo command tries again")
            return
        if finished is None:
            return
        self._show(recorder, finished)
        for problem in self._audience.close():
            self._display.warning(f"Relevo: {problem}")
        # Last, and after everything: the run is over, and its record is written.
        waits = courier.deliver(recorder.directory) if (recorder.directory / asked.REQUEST).exists() else None
        if waits:
            self._display.warning(f"Relevo: the end of this run is not told to everybody yet ({waits}); relevo notify tries again.")

    def _show(self, recorder: Any, finished: Any) -> None:
        record = finished.record
        reasons = f" {record.verdict_reasons[0]}" if record.verdict_reasons else ""
        self._display.display(f"Relevo recorded the run {record.run_id}: {record.verdict}.{reasons}")
        if finished.undelivered:
            self._warn(f"{finished.undelivered} The record waits in {recorder.directory}")
            if self._in_a_job:
                self._leave_in_the_output(recorder.directory)
        else:
            settlement.settle(recorder.place)

    def _leave_in_the_output(self, directory: Any) -> None:
        """AWX keeps what a job said, and nothing else of it."""
        self._display.display("The disk of this job goes with it. This is the record, and its signature; keep this output:")
        for name in (closing.RECORD, closing.SIGNATURE):
            self._display.display((directory / name).read_text(encoding="utf-8"))

    def _leave_unrecorded(self, sentence: str) -> None:
        os.environ[UNRECORDED] = sentence
        self._warn(sentence)

    def _abandon(self, owner: int) -> None:
        # Forked workers inherit this hook, and only the process that opened the journal may close it.
        if os.getpid() == owner:
            self._close(Ending(reason="ansible-playbook ended before its last play did."))

    def _warn(self, sentence: str) -> None:
        self._display.warning(f"Relevo does not record this run: {sentence.rstrip('.')}.")
