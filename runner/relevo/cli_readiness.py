"""`relevo readiness` and `relevo checklist`: what of a cluster is proven, what is not, and word of it to people."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from relevo import (
    assessment,
    beside,
    briefing,
    checklist,
    identity,
    overview,
    paths,
    period,
    present,
    shown,
    signature,
    targets,
    verified,
)
from relevo.briefing import About, Form
from relevo.clock import parse_utc, utc
from relevo.console import (
    AsJson,
    PolicyFile,
    PresentInventory,
    commands,
    complain,
    errors,
    explained,
    hand_over,
    load_policy,
    open_store,
    output,
    refuse_terminal,
    say,
)
from relevo.errors import Exit, UsageError
from relevo.readiness import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from relevo.beside import Beside
    from relevo.notice import Attachment, Notice
    from relevo.overview import Overview
    from relevo.store import Store

Cluster = Annotated[str | None, typer.Option(help="Only of this cluster.")]
FormOption = Annotated[Form | None, typer.Option("--format", help="The form of the report; without it a summary for the terminal.")]
OutputFile = Annotated[Path | None, typer.Option("--output", "-o", help="A file; without it the report is printed.")]
NotifyFile = Annotated[
    Path | None,
    typer.Option(
        "--notify",
        help="Send it, with the PDF: a file of apprise URLs; or the directory of secrets, where the policy's targets.reports names the file.",
    ),
]
Verify = Annotated[
    bool, typer.Option("--verify", help="First verify every record, and keep that it was done; takes a while on a long history.")
]


class Required(StrEnum):
    """What must hold for a good exit."""

    READY = "ready"
    DOUBTS = "doubts"


@commands.command("readiness")
@explained
def show_readiness(
    cluster: Cluster = None,
    since: Annotated[str, typer.Option(help="From when on: a length such as '1 week', or a date or time in UTC.")] = "1 week",
    form: FormOption = None,
    file: OutputFile = None,
    notify_file: NotifyFile = None,
    verify: Verify = False,
    require: Annotated[
        Required | None, typer.Option(help="Exit with 1 unless every cluster is ready; doubts: or ready with doubts.")
    ] = None,
    policy: PolicyFile = None,
    sources: PresentInventory = None,
    as_json: AsJson = False,
) -> Exit:
    """Say whether a cluster could fail over now: tests, measured times, backups, findings, people, pages, what changed, and what is next."""
    asked = Form.JSON if as_json else form
    refuse_terminal(file, pdf=asked is Form.PDF)
    with _looking(policy, sources, notify_file, cluster, verify=verify) as look:
        begin = _since(since, look.seen.at)
        reports = [assessment.report(look.seen, look.beside, one, begin) for one in _chosen(look.seen, cluster)]
    if asked is None:
        shown.readiness(output, reports)
    else:
        hand_over(briefing.readiness(reports, look.about, asked), file)
    letters = [
        (
            briefing.word_of_readiness(one, look.about),
            _paper(look, "readiness", one.cluster, briefing.readiness([one], look.about, Form.PDF)),
        )
        for one in (reports if look.targets else ())
    ]
    sent = _send(look.targets, letters)
    good = {Outcome.READY} if require is Required.READY else {Outcome.READY, Outcome.DOUBTS}
    kept = require is None or (bool(reports) and all(one.outcome in good for one in reports))
    return Exit.PASSED if sent and kept else Exit.FAILED


@commands.command("checklist")
@explained
def show_checklist(
    cluster: Cluster = None,
    form: FormOption = None,
    file: OutputFile = None,
    notify_file: NotifyFile = None,
    verify: Verify = False,
    require: Annotated[
        Required | None, typer.Option(help="Exit with 1 unless every line is proven; doubts: unless none is disproved.")
    ] = None,
    policy: PolicyFile = None,
    sources: PresentInventory = None,
    as_json: AsJson = False,
) -> Exit:
    """Show each line of the checklist with the evidence that it rests on, its date, and how long that holds."""
    asked = Form.JSON if as_json else form
    refuse_terminal(file, pdf=asked is Form.PDF)
    with _looking(policy, sources, notify_file, cluster, verify=verify) as look:
        lists = [checklist.judge(look.seen, look.beside, one) for one in _chosen(look.seen, cluster)]
    if asked is None:
        shown.checklists(output, lists)
    else:
        hand_over(briefing.checklists(lists, look.about, asked), file)
    letters = [
        (
            briefing.word_of_a_checklist(one, look.about),
            _paper(look, "checklist", one.cluster, briefing.checklists([one], look.about, Form.PDF)),
        )
        for one in (lists if look.targets else ())
    ]
    sent = _send(look.targets, letters)
    disproved = any(one.counts[checklist.State.FAILED] for one in lists)
    good = not disproved if require is Required.DOUBTS else all(one.ready for one in lists)
    return Exit.PASSED if sent and (require is None or (bool(lists) and good)) else Exit.FAILED


@dataclass(frozen=True)
class _Looked:
    seen: Overview
    beside: Beside
    about: About
    targets: Sequence[targets.Target]


@contextmanager
def _looking(
    policy: Path | None, sources: list[str] | None, notify_file: Path | None, cluster: str | None, *, verify: bool
) -> Iterator[_Looked]:
    """Everything once, and as of one moment within. Whom to tell is judged first: a report that nobody can get is not made."""
    loaded = load_policy(policy)
    people = targets.read(_file(notify_file.expanduser(), loaded.policy.targets.reports)) if notify_file else []
    store = open_store()
    if verify:
        _verify(store)
    now = present.look(sources, datetime.now(UTC))
    with store.one_view():
        seen = overview.gather(store, loaded.policy, now, cluster)
        yield _Looked(seen, beside.look(store, seen), About(utc(seen.at), loaded.document(), identity.controller()), people)


def _file(given: Path, name: str | None) -> Path:
    """The file of those to tell. UsageError where the policy names none in a directory."""
    if not given.is_dir():
        return given
    if name is None:
        message = f"{given} is a directory, and the policy has no targets.reports that names a file in it. Give the file itself with --notify."
        raise UsageError(message)
    return given / name


def _verify(store: Store) -> None:
    with errors.status("Verifying every record and every entry of the chain ..."):
        said = verified.verify(store, signature.believed(paths.find_place(os.environ).keys))
    say(store, verified.KIND, "store", verified.DONE, said)


def _chosen(seen: Overview, cluster: str | None) -> list[str]:
    """UsageError for a cluster that neither the policy nor a run names."""
    if cluster is None:
        return seen.clusters
    if cluster not in seen.clusters:
        message = f"Nothing is known of a cluster {cluster!r}. Clusters of the policy, the results and the inventory: {', '.join(seen.known) or 'none'}."
        raise UsageError(message)
    return [cluster]


def _since(text: str, now: datetime) -> datetime:
    """The beginning of the period. UsageError for what is neither a length nor a date of the past."""
    try:
        begin = period.parse_period(text).before(now)
    except ValueError:
        try:
            begin = parse_utc(text if "T" in text else f"{text}T00:00:00Z")
        except ValueError:
            message = (
                f"--since is {text!r}; expected a length such as '1 week', a date such as 2026-11-21, or a time with its zone."
            )
            raise UsageError(message) from None
    if begin >= now:
        message = f"--since is {text!r}, which is not past; it is {utc(now)}."
        raise UsageError(message)
    return begin


def _paper(look: _Looked, kind: str, cluster: str, contents: bytes) -> Attachment:
    return briefing.attachment(kind, cluster, look.about, contents)


def _send(people: Sequence[targets.Target], letters: Sequence[tuple[Notice, Attachment]]) -> bool:
    """Whether everybody got every letter; who did not is said."""
    reasons = [reason for letter in letters for target in people if (reason := target.send(*letter))]
    for reason in reasons:
        complain(f"Not delivered: {reason}.")
    return not reasons
