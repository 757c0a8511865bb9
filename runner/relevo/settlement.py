"""What dead runs left behind is finished by whoever comes next."""

from __future__ import annotations

import fcntl
import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from relevo import clock, closing, identity, journal, signature
from relevo.errors import JournalError, RecordConflictError, StoreError
from relevo.feed import KEPT, from_line
from relevo.recording import ARTIFACTS
from relevo.verdict import Ending

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from relevo.paths import Place


def settle(place: Place, *, deliver: bool = True) -> list[str]:
    """Finish what dead runs left behind: their records, as interrupted, and records that the store has not got yet.

    deliver: whether to try the store for waiting records, which takes long when it is away. Returns a sentence for each
    run that could not be finished; it is tried again next time, and keeps nobody from the work that is due now.
    """
    if not place.runs.is_dir():
        return []
    unfinished = []
    with _alone(place.runs):
        for directory in sorted(path for path in place.runs.iterdir() if (path / journal.JOURNAL).exists()):
            try:
                _settle_one(place, directory, deliver=deliver)
            except RecordConflictError as error:
                unfinished.append(f"The record of {directory.name} waits: {error}")
            except StoreError as error:
                unfinished.append(f"The record of {directory.name} waits, and those after it: {error}")
                deliver = False  # each further try of a store that is away takes as long
            except Exception as error:  # noqa: BLE001 - one odd directory must not stop a failover
                unfinished.append(f"The run {directory.name} cannot be finished: {error}")
    return unfinished


def _settle_one(place: Place, directory: Path, *, deliver: bool) -> None:
    if (directory / closing.RECORD).exists():
        if deliver and (directory / closing.PENDING).exists():
            closing.put(place, directory)
        return
    try:
        opening, lines = journal.read(directory)
    except JournalError:
        return  # its opening never reached the disk: that run was refused by its own opening task
    if opening.owner_is_alive(_silent_seconds(opening, directory)):
        return
    shutil.rmtree((directory / ARTIFACTS).resolve(), ignore_errors=True)
    (directory / ARTIFACTS).unlink(missing_ok=True)
    log = journal.reopen(directory)
    log.append({"event": "abandoned", "at": clock.utc_now(), "found_by": identity.controller()}, durable=True)
    log.close()
    events = [from_line(line) for line in lines if line.get("event") in KEPT]
    reason = f"The process {opening.pid} that ran it died without closing the run."
    if opening.boot_id == identity.boot_id() and opening.pid_namespace != identity.pid_namespace():
        reason = f"It has said nothing for {journal.SILENCE_SECONDS / 3600:.0f} hours; its process {opening.pid} was in a container that is not this one."
    run = closing.Unclosed(directory, opening, events)
    closing.finish(place, run, Ending(reason=reason), signature.ready_key(place.keys))


def _silent_seconds(opening: journal.Opening, directory: Path) -> float:
    """For how long the journal has surely not grown: nobody's setting of the wall clock makes a young run old."""
    unchanged = time.time() - (directory / journal.JOURNAL).stat().st_mtime
    return min(unchanged, clock.boottime_seconds() - opening.boottime)


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    with (directory / ".settling").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
