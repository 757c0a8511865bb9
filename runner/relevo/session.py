"""One `relevo run`: judge the inputs, open the record, run the playbook, close the record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relevo import asked, audience, closing, drill, execute, inventory, recording, request, settlement, targets
from relevo.errors import InputRefusedError, RelevoError
from relevo.forecast import Forecast
from relevo.verdict import Ending

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from relevo.paths import Place
    from relevo.progress import Progress

# Ansible's own code for a run that a signal ended, and ansible-runner's for one that it cancelled.
_SIGNALLED = frozenset({99, 254})
# A person is about to read and type: that much of it is no delay.
_FORECAST_SECONDS = 1.0


@dataclass(frozen=True)
class Session:
    """What the operator asked for. pairs: the `-e` arguments as typed; ask: shows the words and returns what was typed.

    ask is None where nobody can be asked; kept: whether the run becomes a result; notify: who is to hear of it; after: stay or return.
    """

    place: Place
    project: Path
    playbook: Path
    inventory: tuple[str, ...]
    pairs: Sequence[str]
    environment: Mapping[str, str]
    approver: str | None = None
    check_mode: bool = False
    kept: bool = True
    ask: Callable[[str], str] | None = None
    notify: asked.Request | None = None
    after: drill.After = drill.STAYS

    @property
    def runbook(self) -> str:
        """The playbook's name."""
        return self.playbook.stem


@dataclass(frozen=True)
class _Expected:
    """What this run will take, and where that is shown."""

    forecast: Forecast
    progress: Progress

    def show(self, wait_seconds: float = 0.0) -> None:
        line = self.forecast.line(wait_seconds)
        if line is not None:
            self.progress.expect(line)


def conduct(session: Session, progress: Progress) -> closing.Finished:
    """Run and record; the progress shows only what really runs.

    InputRefusedError never leaves: a refusal is a record too. RelevoError when nothing can be recorded.
    """
    settlement.settle(session.place, deliver=False)
    expected = _Expected(Forecast(session.place, session.runbook), progress)
    inputs, cluster, refusal = _judge(session, expected)
    recorder = recording.start(
        session.place,
        recording.Request(
            playbook=session.playbook,
            project=session.project,
            inventory=session.inventory,
            feed="runner",
            inputs=inputs.shown(),
            cluster=cluster,
            approver=session.approver,
            check_mode=session.check_mode,
            kept=session.kept,
        ),
        session.environment,
    )
    refusal = refusal or _ask_to_notify(session, recorder)
    ending = Ending(refusal=refusal, started=False) if refusal else _run(session, recorder, inputs, expected)
    finished = recorder.close(ending)
    if finished is None:
        message = f"{session.playbook.name} is no runbook: it has no opening task, so nothing was recorded."
        raise RelevoError(message)
    if finished.undelivered is None:
        settlement.settle(session.place)
    return finished


def _ask_to_notify(session: Session, recorder: recording.Recorder) -> str | None:
    """Kept before the first task, so that a run that is killed is told of too; why that is impossible."""
    if session.notify is None:
        return None
    try:
        asked.ask(recorder.directory, session.notify)
    except OSError as error:
        return f"Whom to notify cannot be kept in {recorder.directory}: {error.strerror}. Nothing was started."
    return None


def _judge(session: Session, expected: _Expected) -> tuple[request.Inputs, str | None, str | None]:
    """The inputs, the cluster, and why they are refused, if they are."""
    inputs = request.Inputs({})
    cluster: str | None = None
    try:
        inputs = request.judge(request.read_pairs(session.pairs))
        if session.approver:
            inputs = inputs.joined("dr_approver", session.approver)
        request.require(session.runbook, inputs)
        drill.check(session.runbook, session.after, inputs.values)
        if session.runbook in request.CONFIRMED:
            cluster = _cluster(session)
            inputs = _confirm(session, inputs, cluster, expected)
    except InputRefusedError as error:
        return request.salvage(session.pairs), cluster, str(error)
    return inputs, cluster, None


def _cluster(session: Session) -> str | None:
    """The one cluster of the inventory; None when it names none or several, which the playbook's own gates refuse."""
    found = inventory.clusters(session.project, session.inventory)
    return found[0] if len(found) == 1 else None


def _confirm(session: Session, inputs: request.Inputs, cluster: str | None, expected: _Expected) -> request.Inputs:
    if cluster is not None:
        expected.forecast.begin(cluster)
    if "dr_confirm" in inputs.values or request.is_armed(inputs):
        return inputs
    words = request.confirmation(inputs, cluster or "CLUSTER", session.runbook)
    if session.ask is None or cluster is None:
        message = f'-e dr_confirm is missing: if that is what you mean, give -e dr_confirm="{words}". Nothing was started.'
        raise InputRefusedError(message)
    expected.show(_FORECAST_SECONDS)
    typed = session.ask(words)
    if typed.strip() != words:
        message = f"The confirmation was {typed.strip()[:200]!r}, expected {words!r}. Nothing was started."
        raise InputRefusedError(message)
    return inputs.joined("dr_confirm", words)


def _run(session: Session, recorder: recording.Recorder, inputs: request.Inputs, expected: _Expected) -> Ending:
    progress = expected.progress
    job = execute.Job(
        playbook=session.playbook,
        project=session.project,
        inventory=session.inventory,
        inputs=inputs,
        directory=recorder.directory,
        environment=recorder.environment,
        check_mode=session.check_mode,
        armed=request.is_armed(inputs),
    )

    # The operator's own file, or the contacts of the inventory.
    told = audience.Audience(recorder, targets.read, Path(session.notify.file) if session.notify else None)

    def take(raw: Mapping[str, object]) -> None:
        event = recorder.take(raw)
        if event is not None:
            told.take(event)
            progress.take(event)
            if session.kept:
                expected.forecast.take(event)
                expected.forecast.keep(recorder.directory)
                expected.show()
        elif raw.get("event") == "verbose":
            progress.note(recorder.redact(str(raw.get("stdout") or "")))

    try:
        with progress:
            outcome = execute.run_playbook(job, take, recorder.redact)
            for problem in told.close():
                progress.note(problem)
    except OSError as error:
        return Ending(reason=f"The runner could not go on: {error.strerror or error}.")
    started = any(event.event == "playbook_on_start" for event in recorder.events)
    if outcome.cancelled or outcome.code in _SIGNALLED or outcome.code < 0:
        return Ending(started=True, reason="The operator, or a signal, stopped the run.")
    reason = f"ansible-playbook ended with code {outcome.code}: {outcome.last_words}"
    return Ending(started=started, reason=reason)
