"""Who is to hear of a run: asked for before it begins, told after its end, and kept until everybody has heard.

The request lies in the run's own directory, so that a run that was killed, or one whose mail server is down, is told of by
whoever comes next: `relevo run` at its end, or `relevo notify`.
"""

from __future__ import annotations

import fcntl
import json
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from relevo import closing, report, targets
from relevo.asked import REQUEST, Request, When, ask
from relevo.clock import parse_utc
from relevo.errors import RelevoError, StoreError
from relevo.notice import Attachment, History, Notice, compose
from relevo.record import Record, parse
from relevo.request import CONFIRMED
from relevo.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from relevo.paths import Place

LOCK = ".notifying"
# Older news is no news: whoever fixed the mail server has read the records.
KEPT_FOR = timedelta(days=7)


@dataclass(frozen=True)
class Delivery:
    """What became of the waiting words: run ids that were told of now, and a sentence for each that still waits."""

    told: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


def deliver(place: Place) -> Delivery:
    """Tell of every closed run that somebody is to hear of. Never raises; what was not taken waits for the next time."""
    told, waiting = [], []
    for path in sorted(place.runs.glob(f"*/{REQUEST}")) if place.runs.is_dir() else ():
        try:
            problem = _deliver_one(place, path.parent)
        except (RelevoError, OSError, ValueError, KeyError, TypeError) as error:
            problem = str(error)
        if problem is None:
            told.append(path.parent.name)
        elif problem:
            waiting.append(f"Word of the run {path.parent.name} waits: {problem}")
    return Delivery(tuple(told), tuple(waiting))


def _deliver_one(place: Place, directory: Path) -> str | None:
    """As :func:`_tell`, unless somebody else is telling of it just now, or it is not closed: then it is told of at its end."""
    with _alone(directory) as mine:
        if not mine or not (directory / REQUEST).exists() or not (directory / closing.RECORD).exists():
            return ""
        return _tell(place, directory)


def send(place: Place, record: Record, file: Path, *, with_report: bool = False) -> list[str]:
    """Tell of one run now, whatever its verdict; the reasons of those who could not be told."""
    letter = write(record, history(place, record), with_report=with_report)
    return [reason for target in targets.read(file) if (reason := target.send(letter.notice, letter.attachment))]


@dataclass(frozen=True)
class Letter:
    """What is sent: the words, and the report where it was asked for and could be made."""

    notice: Notice
    attachment: Attachment | None = None


def write(record: Record, past: History, *, with_report: bool) -> Letter:
    """The words about a run; a report that cannot be made is named in them and keeps nobody from hearing."""
    if not with_report:
        return Letter(compose(record, past))
    try:
        attachment = Attachment(f"{record.run_id}.pdf", report.contents(record, report.Form.PDF))
    except Exception as error:  # noqa: BLE001 - whatever is wrong with a drawing, the words arrive
        return Letter(compose(record, past, f"The report was asked for and is not attached: {error}"))
    return Letter(compose(record, past), attachment)


def _tell(place: Place, directory: Path) -> str | None:
    """One request: None when everybody has heard now, "" when nobody was to hear, else why it waits."""
    request = _read(directory)
    record = parse((directory / closing.RECORD).read_bytes())
    past = history(place, record)
    if not due(record, request.when, past):
        (directory / REQUEST).unlink()
        return ""
    letter = write(record, past, with_report=request.report)
    reasons = []
    for target in targets.read(Path(request.file)):
        if target.digest in request.told:
            continue
        reason = target.send(letter.notice, letter.attachment)
        if reason:
            reasons.append(reason)
        else:
            request = replace(request, told=[*request.told, target.digest])
            ask(directory, request)
    if not reasons:
        (directory / REQUEST).unlink()
        return None
    if datetime.now(UTC) - parse_utc(record.closed_at) > KEPT_FOR:
        (directory / REQUEST).unlink()
        return f"given up after {KEPT_FOR.days} days: {'; '.join(reasons)}."
    return f"{'; '.join(reasons)}."


def due(record: Record, when: When, past: History) -> bool:
    """Whether anybody is to hear: also of the first run that passes again, or silence would have two meanings.

    Who heard that a run which changes production began hears how it ended.
    """
    return when is When.ALWAYS or record.verdict != "passed" or past.over or record.runbook in CONFIRMED


def history(place: Place, record: Record) -> History:
    """What the store says of earlier runs of the same runbook and cluster."""
    try:
        store = Store(place)
        earlier = store.before(record, verdict=None)
        passed = store.before(record, verdict="passed")
    except StoreError:
        return History(known=False)
    return History(
        passed_at=parse(passed.document).closed_at if passed else None,
        passed_run=passed.run_id if passed else None,
        over=record.verdict == "passed" and earlier is not None and parse(earlier.document).verdict != "passed",
    )


def _read(directory: Path) -> Request:
    kept = json.loads((directory / REQUEST).read_text(encoding="utf-8"))
    return Request(str(kept["file"]), When(kept["when"]), [str(entry) for entry in kept["told"]], report=bool(kept.get("report")))


@contextmanager
def _alone(directory: Path) -> Iterator[bool]:
    """Whether nobody else tells of this run at the moment."""
    with (directory / LOCK).open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
        else:
            yield True
