"""The end of a run: its record built, signed, written and delivered to the store."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from relevo import clock, digest, forecast, identity, journal, signature
from relevo.errors import RelevoError
from relevo.evidence import collect
from relevo.record import Closing, Record, build, canonical, parse
from relevo.store import Store

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from relevo.feed import Event
    from relevo.paths import Place
    from relevo.verdict import Ending

RECORD, SIGNATURE = "record.json", "record.json.sig"
# What ansible-playbook printed, without secrets.
OUTPUT = "output.log"
PENDING = "pending"


@dataclass(frozen=True)
class Finished:
    """A closed run. undelivered: why the store has not got the record yet; it waits in the run's directory."""

    record: Record
    undelivered: str | None = None


@dataclass(frozen=True)
class Unclosed:
    """A run whose record is due: its directory, and what its journal there says."""

    directory: Path
    opening: journal.Opening
    events: Sequence[Event]


def finish(place: Place, run: Unclosed, ending: Ending, key: signature.SigningKey) -> Finished | None:
    """Close a run from its events; None when the playbook turned out to be no runbook, and nothing is kept of it."""
    directory, opening, evidence = run.directory, run.opening, collect(run.events)
    if not (opening.recorded or evidence.opened):
        shutil.rmtree(directory)
        return None
    events_digest = digest.file_digest(directory / journal.JOURNAL)
    record = build(
        opening,
        evidence,
        ending,
        Closing(
            closed_at=clock.utc_now(),
            boottime=clock.boottime_seconds() if opening.boot_id == identity.boot_id() else None,
            events_digest=events_digest,
            signer=key.signer(),
            predicted=forecast.kept(directory),
            log_digest=digest.file_digest(directory / OUTPUT) if (directory / OUTPUT).exists() else None,
        ),
    )
    if not opening.kept:
        shutil.rmtree(directory)
        return Finished(record)
    document = canonical(record.document())
    try:
        _write(directory / SIGNATURE, signature.sign(key, document).encode())
        (directory / PENDING).touch(mode=0o600)
        _write(directory / RECORD, document)
    except OSError as error:
        message = f"The record of {opening.run_id} cannot be written to {directory}: {error.strerror}."
        raise RelevoError(message) from error
    return Finished(record, deliver(place, directory))


def deliver(place: Place, directory: Path) -> str | None:
    """Put a written record into the store; the reason when that is impossible now and the record stays pending."""
    try:
        put(place, directory)
    except RelevoError as error:
        return str(error)
    return None


def put(place: Place, directory: Path) -> None:
    """Put a written record into the store. RelevoError when that is impossible now; the record stays pending."""
    document = (directory / RECORD).read_bytes()
    Store(place).add(parse(document), document, (directory / SIGNATURE).read_text(encoding="ascii"))
    (directory / PENDING).unlink(missing_ok=True)


def _write(path: Path, data: bytes) -> None:
    """A file as a whole, on the disk when this returns: after a power cut no run may get a second record beside the delivered one."""
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as target:
            target.write(data)
            target.flush()
            os.fsync(target.fileno())
        draft.rename(path)
    except OSError:
        draft.unlink(missing_ok=True)  # half a file on a full disk is room for nothing else
        raise
    journal.sync_directory(path.parent)
