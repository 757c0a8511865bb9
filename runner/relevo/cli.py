"""The command `relevo`: reads arguments, prints sentences, and exits with a code that says how it ended."""

from __future__ import annotations

import json
import os
import sys
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

import relevo
from relevo import approve, armed, asked, exercise, exercise_report, inventory, launch, notify, paths, report, status, summary
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
    hand_over,
    heard,
    load_policy,
    open_store,
    output,
    print_json,
    refuse_terminal,
    results,
)
from relevo.errors import Exit, UsageError
from relevo.record import parse
from relevo.store import LATEST
from relevo.verdict import Verdict

if TYPE_CHECKING:
    from relevo.store import Store

# More rows than anybody reads in a terminal.
_SHOWN = 100


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
    extra: launch.Extra = None,
    approver: launch.Approver = None,
    check: Annotated[bool, typer.Option("--check", help="Show what would change, change nothing.")] = False,
    require_objectives: Annotated[
        bool, typer.Option("--require-objectives", help="A passed run that missed an objective exits with 1.")
    ] = False,
    notify_file: launch.NotifyFile = None,
    notify_when: launch.NotifyWhen = asked.When.NOT_PASSED,
    notify_report: launch.NotifyReport = False,
    as_json: AsJson = False,
) -> Exit:
    """Run a runbook, show its progress, and record it.

    A run may come home: with -e dr_after=return what it needs for that follows, each run with its own record.
    Exit codes: 0 passed, 1 failed, 2 refused, 3 interrupted, 4 usage, 5 partial.
    """
    wanted = launch.Wanted(sources, approver, check, launch.request(notify_file, notify_when, report=notify_report), as_json)
    records = launch.run_and_return(runbook, extra or [], wanted)
    missed = require_objectives and records[0].verdict in launch.CAME_THROUGH and records[0].objectives_met is not True
    return Exit.FAILED if missed else records[-1].verdict.exit


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
    typed = launch.ask(words, "Nothing is started by this. To agree, type: ") if asking else confirm
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
    file: launch.NotifyFile = None,
    with_report: launch.NotifyReport = False,
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
    delivery = launch.tell_people()
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
    run_id: Annotated[str, typer.Argument(help="A run id, the id of an exercise, or: latest")],
    form: Annotated[report.Form, typer.Option("--format", help="The form of the report.")] = report.Form.HTML,
    file: Annotated[Path | None, typer.Option("--output", "-o", help="A file; without it the report is printed.")] = None,
    policy: PolicyFile = None,
) -> Exit:
    """Write the report of one run, judged as the tests that it counts as; or of an exercise, with its steps."""
    refuse_terminal(file, pdf=form is report.Form.PDF)
    store = open_store()
    if exercise.ID.fullmatch(run_id):
        contents = _of_exercise(store, run_id, form)
    else:
        judged, stored = load_policy(policy).policy, store.get(run_id)
        record = parse(stored.document)
        contents = report.contents(record, form, report.judged(judged, record, json.loads(stored.document)))
    hand_over(contents, file)
    return Exit.PASSED


def _of_exercise(store: Store, wanted: str, form: report.Form) -> bytes:
    found = exercise.choose(exercise.fold(heard(store, exercise.KIND)), wanted)
    records = {run_id: parse(document) for run_id, document in store.documents([one.run_id for one in found.ran]).items()}
    return exercise_report.contents(found, records, form)


@commands.command("status")
@explained
def show_status(
    cluster: Annotated[str, typer.Argument(help="The cluster's name: dr_cluster in the inventory.")],
    sources: Inventory = None,
    as_json: AsJson = False,
) -> Exit:
    """Observe a cluster now: who is primary, what protects it, what is next. Changes nothing and leaves no result."""
    project = paths.find_project(Path.cwd(), os.environ)
    chosen = inventory.of_cluster(project, launch.sources(sources), cluster)
    record = launch.start("check", launch.Wanted(list(chosen)), kept=False).record
    waiting = [run for run in armed.waiting(paths.find_place(os.environ)) if run.cluster == cluster]
    if as_json:
        said = {"cluster": cluster, "observed_at": record.closed_at, "verdict": record.verdict, **record.status}
        print_json({**said, "armed": [run.document() for run in waiting], "gates": record.gates})
        return record.verdict.exit
    newest = [parse(stored.document) for stored in open_store().newest(1, cluster=cluster)]
    unfinished = next((run for run in newest if run.verdict is Verdict.INTERRUPTED), None)
    status.show(output, cluster, record, unfinished, waiting)
    return record.verdict.exit


# Behind the commands above, which stand first in the help: each of these files registers its own.
for part in (
    *("drill", "verdict", "calendar", "evidence", "findings", "contacts", "sign_off", "policy", "predict", "metrics", "readiness"),
    *("dashboard", "pack", "runbook", "watch", "maintenance", "armed"),
):
    import_module(f"relevo.cli_{part}")
