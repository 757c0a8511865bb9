"""The command `relevo`: reads arguments, prints sentences, and exits with a code that says how it ended."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

import relevo
from relevo import approve, asked, closing, drill, inventory, notify, paths, report, status, summary, targets
from relevo.console import (
    AsJson,
    Ended,
    Inventory,
    PolicyFile,
    Run,
    commands,
    complain,
    errors,
    explained,
    load_policy,
    open_store,
    output,
    print_json,
    results,
    write,
)
from relevo.errors import Exit, UsageError
from relevo.progress import Progress
from relevo.record import parse
from relevo.session import Session, conduct
from relevo.store import LATEST
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from relevo.record import Record

# More rows than anybody reads in a terminal.
_SHOWN = 100
_CAME_THROUGH = frozenset({Verdict.PASSED, Verdict.PARTIAL})
NotifyFile = Annotated[
    Path | None,
    typer.Option(
        "--notify",
        envvar="RELEVO_NOTIFY_URLS",
        show_envvar=True,
        help="Tell people: a file of apprise URLs, one a line, mode 0600.",
    ),
]
NotifyReport = Annotated[
    bool,
    typer.Option(
        "--notify-report",
        envvar=asked.REPORT_VARIABLE,
        show_envvar=True,
        help="With the report as a PDF, to those who take files.",
    ),
]


def app() -> None:
    """Entry point. Usage errors exit with 4, because 2 means refused here."""
    try:
        commands()
    except Ended:
        raise
    except SystemExit as ended:
        raise SystemExit(Exit.USAGE if ended.code == typer.BadParameter.exit_code else ended.code) from None


@commands.callback(invoke_without_command=True)
def main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Failover runbooks, and the record of every run."""
    if version:
        output.print(relevo.__version__, highlight=False)
        raise Ended(Exit.PASSED)


@commands.command()
@explained
def run(
    runbook: Annotated[str, typer.Argument(help="The name of a playbook below playbooks/, without .yml")],
    sources: Inventory = None,
    extra: Annotated[list[str] | None, typer.Option("--extra-var", "-e", help="name=value; more than once is possible.")] = None,
    approver: Annotated[str | None, typer.Option(help="The second person who agreed to this run.")] = None,
    check: Annotated[bool, typer.Option("--check", help="Show what would change, change nothing.")] = False,
    require_objectives: Annotated[
        bool, typer.Option("--require-objectives", help="A passed run that missed an objective exits with 1.")
    ] = False,
    notify_file: NotifyFile = None,
    notify_when: Annotated[
        asked.When, typer.Option(help="Of which runs: not-passed (and the first that passes after it), or always.")
    ] = asked.When.NOT_PASSED,
    notify_report: NotifyReport = False,
    as_json: AsJson = False,
) -> Exit:
    """Run a runbook, show its progress, and record it.

    A run may come home: with -e dr_after=return what it needs for that follows, each run with its own record.
    Exit codes: 0 passed, 1 failed, 2 refused, 3 interrupted, 4 usage, 5 partial.
    """
    asked = _Asked(sources, approver, check=check, request=_request(notify_file, notify_when, notify_report), as_json=as_json)
    records = _run_and_return(runbook, extra or [], asked)
    missed = require_objectives and records[0].verdict in _CAME_THROUGH and records[0].objectives_met is not True
    return Exit.FAILED if missed else records[-1].verdict.exit


@commands.command("drill")
@explained
def run_drill(
    sources: Inventory = None,
    extra: Annotated[list[str] | None, typer.Option("--extra-var", "-e", help="name=value; more than once is possible.")] = None,
    production: Annotated[
        bool, typer.Option("--production", help="Move production itself: a failover that says that it is a drill.")
    ] = False,
    approver: Annotated[str | None, typer.Option(help="The second person who agreed to this run.")] = None,
    notify_file: NotifyFile = None,
    notify_when: Annotated[asked.When, typer.Option(help="Of which runs; see relevo run.")] = asked.When.NOT_PASSED,
    notify_report: NotifyReport = False,
    as_json: AsJson = False,
) -> Exit:
    """Rehearse on a restored copy in the sandbox, which harms nobody; with --production move production, as a drill."""
    pairs = [*(extra or []), *(["dr_mode=drill"] if production else [])]
    asked = _Asked(sources, approver, check=False, request=_request(notify_file, notify_when, notify_report), as_json=as_json)
    return _run_and_return(drill.PRODUCTION if production else drill.REHEARSAL, pairs, asked)[-1].verdict.exit


@dataclass(frozen=True)
class _Asked:
    """What one command asks of each of its runs."""

    sources: list[str] | None
    approver: str | None
    check: bool
    request: asked.Request | None
    as_json: bool


def _run_and_return(runbook: str, extra: list[str], asked: _Asked) -> list[Record]:
    """The run, and with dr_after=return those that bring the service home; it ends with the first that does not pass."""
    after, pairs = drill.split(runbook, extra)
    records = [_run_one(runbook, pairs, asked, after)]
    if after.what == drill.RETURN and records[0].verdict in _CAME_THROUGH:
        for step in drill.way_home(records[0], after):
            records.append(_run_one(step.runbook, [f"{name}={value}" for name, value in step.inputs.items()], asked))
            if records[-1].verdict not in _CAME_THROUGH:
                complain(
                    f"The service did not come home: {step.runbook} is {records[-1].verdict}. Next: relevo status, then start it again."
                )
                break
    if asked.as_json:
        documents = [record.document() for record in records]
        print_json(documents[0] if after.what == drill.STAY else documents)
    _tell_people()
    return records


def _run_one(runbook: str, pairs: list[str], asked: _Asked, after: drill.After = drill.STAYS) -> Record:
    finished = _conduct(
        runbook, asked.sources, pairs, approver=asked.approver, check_mode=asked.check, request=asked.request, after=after
    )
    if not asked.as_json:
        summary.show(output, finished.record)
    if finished.undelivered:
        complain(f"{finished.undelivered} The record waits in the state directory; the next relevo command delivers it.")
    return finished.record


def _conduct(
    runbook: str,
    sources: list[str] | None,
    extra: list[str],
    *,
    approver: str | None = None,
    check_mode: bool = False,
    kept: bool = True,
    request: asked.Request | None = None,
    after: drill.After = drill.STAYS,
) -> closing.Finished:
    project = paths.find_project(Path.cwd(), os.environ)
    session = Session(
        place=paths.find_place(os.environ),
        project=project,
        playbook=paths.find_playbook(project, runbook),
        inventory=_needed(_inventory(sources)),
        pairs=extra,
        environment=os.environ,
        approver=approver,
        check_mode=check_mode,
        kept=kept,
        ask=_ask if sys.stdin.isatty() and errors.is_terminal else None,
        notify=request,
        after=after,
    )
    return conduct(session, Progress(errors, f"relevo {runbook}", lasting=kept))


def _request(file: Path | None, when: asked.When, report: bool) -> asked.Request | None:
    """Judged before anything starts: a run that nobody would hear of is no run of the night."""
    if file is None:
        return None
    path = file.expanduser().absolute()
    targets.read(path)
    return asked.Request(str(path), when, report=report)


def _tell_people() -> notify.Delivery:
    """What waits for delivery, of this run and of earlier ones. It changes no exit code: the record holds, heard or not."""
    delivery = notify.deliver(paths.find_place(os.environ))
    for sentence in delivery.waiting:
        complain(f"{sentence} The next relevo run, or relevo notify, tries again.")
    return delivery


def _inventory(sources: list[str] | None) -> tuple[str, ...]:
    named = os.environ.get("RELEVO_INVENTORY")
    return inventory.absolute(sources or ([named] if named else []))


def _needed(sources: tuple[str, ...]) -> tuple[str, ...]:
    if not sources:
        message = "No inventory: give one with -i, or set RELEVO_INVENTORY."
        raise UsageError(message)
    return sources


def _ask(words: str, why: str = "This moves production. To go on, type: ") -> str:
    errors.print(Text.assemble(why, (words, "bold")))
    return input("> ")


@commands.command("approve")
@explained
def approve_plan(
    request: Annotated[str, typer.Argument(help="The id of the run that asks for it, or the path of its control/approval.json.")],
    name: Annotated[str, typer.Option("--as", help="Your name, as it stands in dr_approvers.")],
    key: Annotated[Path, typer.Option(help="Your own private key (or public, where an agent holds the private one).")],
    confirm: Annotated[str | None, typer.Option(help="Where nobody can be asked: the words that the command shows.")] = None,
    directory: Annotated[Path | None, typer.Option("--out", "-o", help="Where approvals lie; default: in this state.")] = None,
) -> Exit:
    """Look at what a run would do, and agree to exactly that as the second person."""
    place = paths.find_place(os.environ)
    asked = approve.read(place, request)
    words = approve.confirmation(asked)
    for title, text in approve.sentences(asked):
        output.print(Text.assemble((f"  {title:<26}", "dim"), text))
    asking = confirm is None and sys.stdin.isatty() and errors.is_terminal
    typed = _ask(words, "Nothing is started by this. To agree, type: ") if asking else confirm
    if typed is None or typed.strip() != words:
        message = f"Not approved: expected the words {words!r}. Give them with --confirm where nobody can be asked."
        raise UsageError(message)
    path = approve.sign(asked, name, key.expanduser(), directory or place.state / "approvals", datetime.now(UTC))
    output.print(f"Approved: {path}. The run may now be started again, with the same words.", highlight=False)
    return Exit.PASSED


@commands.command("notify")
@explained
def notify_people(
    run_id: Annotated[str | None, typer.Argument(help="A run id, or: latest. Without it whatever waits is delivered.")] = None,
    file: NotifyFile = None,
    with_report: NotifyReport = False,
) -> Exit:
    """Deliver word of runs that waits, also of runs that were killed; or tell of one run now."""
    store = open_store()
    if run_id is not None:
        if file is None:
            message = "Nobody to notify: give a file of apprise URLs with --notify, or set RELEVO_NOTIFY_URLS."
            raise UsageError(message)
        reasons = notify.send(paths.find_place(os.environ), parse(store.get(run_id).document), file, with_report=with_report)
        for reason in reasons:
            complain(f"Not delivered: {reason}.")
        return Exit.FAILED if reasons else Exit.PASSED
    delivery = _tell_people()
    output.print(f"{len(delivery.told)} delivered, {len(delivery.waiting)} waiting.", highlight=False)
    return Exit.FAILED if delivery.waiting else Exit.PASSED


@results.command("list")
@explained
def list_results(
    as_json: AsJson = False,
    limit: Annotated[int | None, typer.Option(min=1, help=f"At most so many; without it {_SHOWN} in a table, all as JSON.")] = None,
    cluster: Annotated[str | None, typer.Option(help="Only of this cluster.")] = None,
    runbook: Annotated[str | None, typer.Option(help="Only of this runbook.")] = None,
) -> Exit:
    """List the records, newest first."""
    store = open_store()
    if as_json:
        print_json([json.loads(stored.document) for stored in store.newest(limit, cluster=cluster, runbook=runbook)])
        return Exit.PASSED
    found = store.summaries(limit=limit or _SHOWN, cluster=cluster, runbook=runbook)
    summary.list_runs(output, found)
    total = len(found) if limit else store.count(cluster=cluster, runbook=runbook)
    if total > len(found):
        output.print(Text(f"The newest {len(found)} of {total}; more with --limit.", "dim"))
    return Exit.PASSED


@results.command("show")
@explained
def show_result(run_id: Run = LATEST, as_json: AsJson = False) -> Exit:
    """Show one record."""
    stored = open_store().get(run_id)
    if as_json:
        print_json(json.loads(stored.document))
    else:
        summary.show(output, parse(stored.document))
    return Exit.PASSED


@commands.command("report")
@explained
def write_report(
    run_id: Run,
    form: Annotated[report.Form, typer.Option("--format", help="The form of the report.")] = report.Form.HTML,
    file: Annotated[Path | None, typer.Option("--output", "-o", help="A file; without it the report is printed.")] = None,
    policy: PolicyFile = None,
) -> Exit:
    """Write the report of one run, judged as the tests that it counts as."""
    if form is report.Form.PDF and file is None and sys.stdout.isatty():
        message = "A PDF is nothing that a terminal can show: give a file with -o, or send it into one with >."
        raise UsageError(message)
    judged, stored = load_policy(policy).policy, open_store().get(run_id)
    record = parse(stored.document)
    contents = report.contents(record, form, report.judged(judged, record, json.loads(stored.document)))
    if file is None:
        sys.stdout.buffer.write(contents)
    else:
        write(file, contents)
        output.print(f"Written to {file}.", highlight=False)
    return Exit.PASSED


@commands.command("status")
@explained
def show_status(
    cluster: Annotated[str, typer.Argument(help="The cluster's name: dr_cluster in the inventory.")],
    sources: Inventory = None,
    as_json: AsJson = False,
) -> Exit:
    """Observe a cluster now: who is primary, what protects it, what is next. Changes nothing and leaves no result."""
    project = paths.find_project(Path.cwd(), os.environ)
    chosen = inventory.of_cluster(project, _inventory(sources), cluster)
    record = _conduct("check", list(chosen), [], kept=False).record
    if as_json:
        print_json(
            {"cluster": cluster, "observed_at": record.closed_at, "verdict": record.verdict, **record.status, "gates": record.gates}
        )
        return record.verdict.exit
    newest = [parse(stored.document) for stored in open_store().newest(1, cluster=cluster)]
    unfinished = next((run for run in newest if run.verdict is Verdict.INTERRUPTED), None)
    status.show(output, cluster, record, unfinished)
    return record.verdict.exit


# Behind the commands above, which stand first in the help: each of these files registers its own.
for part in (
    *("verdict", "calendar", "evidence", "findings", "contacts", "sign_off", "policy", "predict", "metrics", "readiness"),
    *("dashboard", "watch", "maintenance"),
):
    import_module(f"relevo.cli_{part}")
