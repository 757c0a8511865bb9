"""From the first task to the stored record: what both feeds share."""

from __future__ import annotations

import fcntl
import os
import shutil
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo import clock, digest, identity, journal, redact, signature
from relevo.errors import JournalError, RelevoError, StoreError
from relevo.evidence import collect
from relevo.feed import KEPT, Event, from_line, from_runner
from relevo.paths import make_private_directory
from relevo.record import Record, build, canonical, parse
from relevo.store import Store
from relevo.verdict import Ending

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from relevo.paths import Place
    from relevo.store import Stored

RECORD, SIGNATURE = "record.json", "record.json.sig"
# A link to what ansible-runner writes during a run: it holds the whole environment and is never kept.
ARTIFACTS = "runner"
_PENDING = "pending"
# The laboratory's own playbook is no test of anybody's recovery.
_NO_RUNBOOKS = frozenset({"lab"})


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


@dataclass(frozen=True)
class Finished:
    """A closed run. undelivered: why the store has not got the record yet; it waits in the run's directory."""

    record: Record
    undelivered: str | None = None


class Recorder:
    """One run's recorder: takes the events of the one live feed, and closes with a signed, stored record."""

    def __init__(
        self, place: Place, opening: journal.Opening, log: journal.Journal, key: signature.SigningKey, redactor: redact.Redactor
    ) -> None:
        self.place, self.opening, self.key = place, opening, key
        self.events: list[Event] = []
        self.environment = {
            "RELEVO_RUN_ID": opening.run_id,
            "RELEVO_RUN_DIR": str(log.directory),
            "RELEVO_SIGNING_KEY": str(key.path),
        }
        self._journal, self._redactor = log, redactor

    @property
    def directory(self) -> Path:
        """The run's own directory, 0700."""
        return self._journal.directory

    def take(self, raw: Mapping[str, Any]) -> Event | None:
        """Record one event of ansible-runner's shape; the event without secrets, None when no record needs it."""
        event = from_runner(raw, self._redactor)
        if event is not None:
            self.events.append(event)
            self._journal.append(event.line(), durable=bool(event.said) or event.event == "playbook_on_stats")
        return event

    def redact(self, text: str) -> str:
        """Text that is safe to keep or show."""
        return self._redactor.text(text)

    def close(self, ending: Ending) -> Finished | None:
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
        return _finish(self.place, self.directory, self.opening, self.events, ending, self.key)


def start(place: Place, request: Request, environment: Mapping[str, str]) -> Recorder:
    """Open the journal of a new run, before its first task. RelevoError when nothing could be recorded."""
    key = signature.ready_key(place.keys)
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
    make_private_directory(place.state)
    log = journal.Journal.open(place.run_directory(opening.run_id), opening)
    return Recorder(place, opening, log, key, redact.Redactor(redact.known_secrets(request.inventory, environment)))


def settle(place: Place) -> list[Finished]:
    """Finish what dead runs left behind: their records, as interrupted, and records that the store has not got yet."""
    if not place.runs.is_dir():
        return []
    settled = []
    with _alone(place.runs):
        for directory in sorted(path for path in place.runs.iterdir() if (path / journal.JOURNAL).exists()):
            finished = _settle_one(place, directory)
            if finished is not None:
                settled.append(finished)
    return settled


def _settle_one(place: Place, directory: Path) -> Finished | None:
    if (directory / RECORD).exists():
        if (directory / _PENDING).exists():
            _deliver(place, directory)
        return None
    try:
        opening, lines = journal.read(directory)
    except JournalError:
        return None  # its opening never reached the disk: that run was refused by its own opening task
    if opening.owner_is_alive():
        return None
    shutil.rmtree((directory / ARTIFACTS).resolve(), ignore_errors=True)
    (directory / ARTIFACTS).unlink(missing_ok=True)
    log = journal.reopen(directory)
    log.append({"event": "abandoned", "at": clock.utc_now(), "found_by": identity.controller()}, durable=True)
    log.close()
    events = [from_line(line) for line in lines if line.get("event") in KEPT]
    reason = f"The process {opening.pid} that ran it died without closing the run."
    return _finish(place, directory, opening, events, Ending(reason=reason), signature.ready_key(place.keys))


def _finish(  # noqa: PLR0913 - the whole of a run comes together here
    place: Place,
    directory: Path,
    opening: journal.Opening,
    events: Sequence[Event],
    ending: Ending,
    key: signature.SigningKey,
) -> Finished | None:
    evidence = collect(events)
    if not (opening.recorded or evidence.opened):
        shutil.rmtree(directory)
        return None
    events_digest = digest.file_digest(directory / journal.JOURNAL)
    record = build(
        opening,
        evidence,
        ending,
        closed_at=clock.utc_now(),
        boottime=clock.boottime_seconds() if opening.boot_id == identity.boot_id() else None,
        events_digest=events_digest,
        signer=key.signer(),
    )
    if not opening.kept:
        shutil.rmtree(directory)
        return Finished(record)
    document = canonical(record.document())
    try:
        _write(directory / SIGNATURE, signature.sign(key, document).encode())
        (directory / _PENDING).touch(mode=0o600)
        _write(directory / RECORD, document)
    except OSError as error:
        message = f"The record of {opening.run_id} cannot be written to {directory}: {error.strerror}."
        raise RelevoError(message) from error
    return Finished(record, _deliver(place, directory))


def _deliver(place: Place, directory: Path) -> str | None:
    """Put a written record into the store; the reason when that is impossible now and the record stays pending."""
    document = (directory / RECORD).read_bytes()
    try:
        Store(place).add(parse(document), document, (directory / SIGNATURE).read_text(encoding="ascii"))
    except StoreError as error:
        return str(error)
    (directory / _PENDING).unlink(missing_ok=True)
    return None


def problem(stored: Stored, allowed_signers: Path) -> str | None:
    """What is wrong with a stored record: its form, its name or its signature; None when all hold."""
    with tempfile.TemporaryDirectory() as directory:
        beside = Path(directory) / SIGNATURE
        beside.write_text(stored.signature, encoding="ascii")
        try:
            record = parse(stored.document)
            signature.verify(allowed_signers, stored.document, beside, clock.parse_utc(record.closed_at))
        except RelevoError as error:
            return str(error)
    return None if record.run_id == stored.run_id else f"The document is of the run {record.run_id}."


def _write(path: Path, data: bytes) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as target:
        target.write(data)
        target.flush()
        os.fsync(target.fileno())
    draft.rename(path)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with (directory / ".settling").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
