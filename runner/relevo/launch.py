"""Start runs from a terminal: what every command that runs something shares. The commands themselves are in the cli modules."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from relevo import asked, drill, inventory, notify, paths, summary, targets
from relevo.console import complain, errors, output, print_json
from relevo.errors import UsageError
from relevo.progress import Progress
from relevo.session import Session, conduct
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from relevo.closing import Finished
    from relevo.record import Record

CAME_THROUGH = frozenset({Verdict.PASSED, Verdict.PARTIAL})
Extra = Annotated[list[str] | None, typer.Option("--extra-var", "-e", help="name=value; more than once is possible.")]
Approver = Annotated[str | None, typer.Option(help="The second person who agreed to this run.")]
NotifyFile = Annotated[
    Path | None,
    typer.Option(
        "--notify",
        envvar="RELEVO_NOTIFY_URLS",
        show_envvar=True,
        help="Tell people: a file of apprise URLs, one a line, mode 0600.",
    ),
]
NotifyWhen = Annotated[asked.When, typer.Option(help="Of which runs: not-passed (and the first that passes after it), or always.")]
NotifyReport = Annotated[
    bool,
    typer.Option(
        "--notify-report",
        envvar=asked.REPORT_VARIABLE,
        show_envvar=True,
        help="With the report as a PDF, to those who take files.",
    ),
]


@dataclass(frozen=True)
class Wanted:
    """What one command asks of each of its runs. sources: as they were given with -i."""

    sources: list[str] | None
    approver: str | None = None
    check: bool = False
    notify: asked.Request | None = None
    as_json: bool = False


def run_and_return(runbook: str, extra: list[str], wanted: Wanted) -> list[Record]:
    """The run, and with dr_after=return those that bring the service home; it ends with the first that does not pass."""
    after, pairs = drill.split(runbook, extra)
    records = [run_one(runbook, pairs, wanted, after)]
    if after.what == drill.RETURN and records[0].verdict in CAME_THROUGH:
        for step in drill.way_home(records[0], after):
            records.append(run_one(step.runbook, [f"{name}={value}" for name, value in step.inputs.items()], wanted))
            if records[-1].verdict not in CAME_THROUGH:
                complain(
                    f"The service did not come home: {step.runbook} is {records[-1].verdict}. Next: relevo status, then start it again."
                )
                break
    if wanted.as_json:
        documents = [record.document() for record in records]
        print_json(documents[0] if after.what == drill.STAY else documents)
    tell_people()
    return records


def run_one(runbook: str, pairs: Sequence[str], wanted: Wanted, after: drill.After = drill.STAYS) -> Record:
    """One run that is kept; shown when it has ended."""
    finished = start(runbook, wanted, pairs, after=after)
    if not wanted.as_json:
        summary.show(output, finished.record)
    if finished.undelivered:
        complain(f"{finished.undelivered} The record waits in the state directory; the next relevo command delivers it.")
    return finished.record


def start(
    runbook: str, wanted: Wanted, pairs: Sequence[str] = (), *, kept: bool = True, after: drill.After = drill.STAYS
) -> Finished:
    """One run, with its progress on the terminal. kept: whether it becomes a result."""
    project = paths.find_project(Path.cwd(), os.environ)
    session = Session(
        place=paths.find_place(os.environ),
        project=project,
        playbook=paths.find_playbook(project, runbook),
        inventory=needed(sources(wanted.sources)),
        pairs=pairs,
        environment=os.environ,
        approver=wanted.approver,
        check_mode=wanted.check,
        kept=kept,
        ask=ask if sys.stdin.isatty() and errors.is_terminal else None,
        notify=wanted.notify,
        after=after,
    )
    return conduct(session, Progress(errors, f"relevo {runbook}", lasting=kept))


def request(file: Path | None, when: asked.When, *, report: bool) -> asked.Request | None:
    """Judged before anything starts: a run that nobody would hear of is no run of the night."""
    if file is None:
        return None
    path = file.expanduser().absolute()
    targets.read(path)
    return asked.Request(str(path), when, report=report)


def tell_people() -> notify.Delivery:
    """What waits for delivery, of this run and of earlier ones. It changes no exit code: the record holds, heard or not."""
    delivery = notify.deliver(paths.find_place(os.environ))
    for sentence in delivery.waiting:
        complain(f"{sentence} The next relevo run, or relevo notify, tries again.")
    return delivery


def sources(given: list[str] | None) -> tuple[str, ...]:
    """The inventory that was named, by an option or the environment; absolute."""
    named = os.environ.get("RELEVO_INVENTORY")
    return inventory.absolute(given or ([named] if named else []))


def needed(found: tuple[str, ...]) -> tuple[str, ...]:
    """UsageError where there is no inventory."""
    if not found:
        message = "No inventory: give one with -i, or set RELEVO_INVENTORY."
        raise UsageError(message)
    return found


def ask(words: str, why: str = "This moves production. To go on, type: ") -> str:
    """What a person at the terminal types."""
    errors.print(Text.assemble(why, (words, "bold")))
    return input("> ")
