"""From the first task to the stored record: what both feeds share."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo import closing, digest, identity, journal, redact, signature
from relevo.feed import Event, from_runner
from relevo.paths import make_private_directory
from relevo.verdict import Ending

if TYPE_CHECKING:
    from collections.abc import Mapping

    from relevo.paths import Place

# A link to what ansible-runner writes during a run: it holds the whole environment and is never kept.
ARTIFACTS = "runner"
_SECRETS = "secrets_directory"
# Neither the laboratory's own playbook nor the word to the witness is a test of anybody's recovery.
_NO_RUNBOOKS = frozenset({"lab", "beat"})


@dataclass(frozen=True)
class Request:
    """What is about to run. playbook: the file; inventory: sources as given; inputs: {mode, scope, target_site}.

    kept: whether it becomes a result; a mere look at a cluster does not.
    """

    playbook: Path
    project: Path
    inventory: tuple[str, ...]
    feed: str
    inputs: dict[str, str]
    cluster: str | None = None
    approver: str | None = None
    parent_run_id: str | None = None
    check_mode: bool = False
    kept: bool = True


class Recorder:
    """One run's recorder: takes the events of the one live feed, and closes with a signed, stored record."""

    def __init__(self, place: Place, opening: journal.Opening, log: journal.Journal, secrets: frozenset[str]) -> None:
        self.place, self.opening = place, opening
        self.events: list[Event] = []
        self.environment = {
            "RELEVO_RUN_ID": opening.run_id,
            "RELEVO_RUN_DIR": str(log.directory),
            "RELEVO_SIGNING_KEY": str(place.keys / signature.CONTROLLER),
        }
        self._journal, self._secrets = log, secrets
        self._redactor = redact.Redactor(secrets)
        self._asked = False

    @property
    def directory(self) -> Path:
        """The run's own directory, 0700."""
        return self._journal.directory

    def take(self, raw: Mapping[str, Any]) -> Event | None:
        """Record one event of ansible-runner's shape; the event without secrets, None when no record needs it.

        Never raises: an event that cannot be understood is counted as missed, and the run goes on.
        """
        try:
            self._learn_secrets()
            event = from_runner(raw, self._redactor)
        except Exception as error:  # noqa: BLE001 - whatever a module says, its failover goes on
            self._journal.miss(f"an event could not be understood ({type(error).__name__}: {error})")
            return None
        if event is not None:
            self.events.append(event)
            self._journal.append(event.line(), durable=bool(event.said) or event.event == "playbook_on_stats")
        return event

    def _learn_secrets(self) -> None:
        """The callback in Ansible's process tells the directory before the first task of the first play."""
        told = self.directory / "control" / _SECRETS
        if not self._asked and told.exists():
            self._asked = True
            self._redactor = redact.Redactor(self._secrets | redact.values_below(Path(told.read_text(encoding="utf-8"))))

    def redact(self, text: str) -> str:
        """Text that is safe to keep or show."""
        return self._redactor.text(text)

    def close(self, ending: Ending) -> closing.Finished | None:
        """Build, sign and store the record; None when the playbook turned out to be no runbook.

        RelevoError when not even the run's directory takes the record; the journal stays, and the next command tries again.
        """
        self._journal.close()
        ending = Ending(
            refusal=self._redactor.text(ending.refusal) if ending.refusal else None,
            started=ending.started,
            reason=ending.reason,
            missed=self._journal.missed,
            missed_reason=self._journal.reason,
        )
        key = signature.ready_key(self.place.keys)
        return closing.finish(self.place, closing.Unclosed(self.directory, self.opening, self.events), ending, key)


def start(place: Place, request: Request, environment: Mapping[str, str]) -> Recorder:
    """Open the journal of a new run, before its first task. RelevoError when nothing could be recorded."""
    make_private_directory(place.state)
    signature.ready_key(place.keys)
    commit, dirty = digest.commit(request.project)
    fields = journal.now()
    opening = journal.Opening(
        run_id=identity.new_run_id(request.playbook.stem, datetime.now(UTC)),
        runbook=request.playbook.stem,
        feed=request.feed,
        operator=identity.operator(environment),
        controller=identity.controller(),
        approver=request.approver,
        parent_run_id=request.parent_run_id,
        recorded=request.playbook.parent.name == "playbooks" and request.playbook.stem not in _NO_RUNBOOKS,
        check_mode=request.check_mode,
        kept=request.kept,
        inputs=request.inputs,
        cluster=request.cluster,
        digests={"inventory": digest.inventory_digest(request.inventory), "commit": commit, "commit_dirty": dirty},
        versions=identity.versions(),
        **fields,
    )
    log = journal.Journal.open(place.run_directory(opening.run_id), opening)
    return Recorder(place, opening, log, redact.known_secrets(request.inventory, environment))


def tell_secrets_directory(run: Path, directory: object) -> None:
    """Tell the recorder of a run which directory's files hold what no record may hold; what is no path is left out."""
    if isinstance(directory, str) and directory.startswith("/"):
        path = run / "control" / _SECRETS
        draft = path.with_name(f".{_SECRETS}")
        draft.write_text(directory, encoding="utf-8")
        draft.rename(path)
