"""`relevo findings`: what a run showed to be deficient, until a later run has looked again."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from relevo import findings, wording
from relevo.console import AsJson, commands, explained, heard, open_store, output, print_json, say
from relevo.errors import Exit, UsageError
from relevo.findings import Severity, State
from relevo.record import parse

group = typer.Typer(no_args_is_help=True, help="Deficiencies that runs have shown, with owner and due date.")
commands.add_typer(group, name="findings")

_STYLES = {State.OPEN: "bold red", State.RETESTED: "bold yellow", State.CLOSED: "green"}
Finding = Annotated[str, typer.Argument(help="A finding, such as F-1f3a9c.")]


@group.command("add")
@explained
def add_finding(
    deficiency: Annotated[str, typer.Argument(help="What is wrong, in words.")],
    severity: Annotated[Severity, typer.Option(help="How bad it is.")],
    owner: Annotated[str, typer.Option(help="Who mends it.")],
    due: Annotated[str, typer.Option(help="By when: a date, YYYY-MM-DD (UTC).")],
    run_id: Annotated[str | None, typer.Option("--run", help="The run that showed it, or: latest.")] = None,
    cluster: Annotated[str | None, typer.Option(help="The cluster; without it, that of the run.")] = None,
    as_json: AsJson = False,
) -> Exit:
    """Open a finding."""
    store = open_store()
    record = parse(store.get(run_id).document) if run_id else None
    where = cluster or (record.cluster if record else None)
    if not where:
        message = "Of which cluster? Give the run that showed it with --run, or name it with --cluster."
        raise UsageError(message)
    if record is not None and cluster and record.cluster not in {None, cluster}:
        message = f"Run {record.run_id} is of the cluster {record.cluster}, not of {cluster}."
        raise UsageError(message)
    said = findings.opened(deficiency, severity, owner, due, (where, record.run_id if record else None))
    entry = say(store, findings.KIND, findings.new_id(), findings.OPENED, said)
    return _told(entry.subject, as_json=as_json)


@group.command("retest")
@explained
def retest_finding(
    finding: Finding,
    run_id: Annotated[str, typer.Option("--run", help="The later run that looked again, or: latest.")],
    as_json: AsJson = False,
) -> Exit:
    """Say which run tested a finding again; only a passed one makes it ready to be closed."""
    store = open_store()
    said = findings.retested(_find(finding), parse(store.get(run_id).document))
    say(store, findings.KIND, finding, findings.RETESTED, said)
    return _told(finding, as_json=as_json)


@group.command("close")
@explained
def close_finding(
    finding: Finding,
    resolution: Annotated[str, typer.Option(help="What was done about it.")],
    without_retest: Annotated[str | None, typer.Option(help="Why no passed re-test is needed.")] = None,
    as_json: AsJson = False,
) -> Exit:
    """Close a finding that a later run has passed."""
    store = open_store()
    say(store, findings.KIND, finding, findings.CLOSED, findings.closed(_find(finding), resolution, without_retest))
    return _told(finding, as_json=as_json)


@group.command("list")
@explained
def list_findings(
    everything: Annotated[bool, typer.Option("--all", help="Closed ones too.")] = False,
    cluster: Annotated[str | None, typer.Option(help="Only of this cluster.")] = None,
    as_json: AsJson = False,
) -> Exit:
    """List the findings that are not closed, the worst first."""
    today = datetime.now(UTC).date()
    order = list(Severity)
    chosen = [
        finding
        for finding in findings.fold(heard(open_store(), findings.KIND))
        if (everything or finding.state is not State.CLOSED) and cluster in {None, finding.cluster}
    ]
    chosen.sort(key=lambda finding: (finding.state is State.CLOSED, order.index(finding.severity), finding.due))
    if as_json:
        print_json([finding.document(today) for finding in chosen])
        return Exit.PASSED
    table = Table(box=None, header_style="dim")
    for title in ("finding", "cluster", "severity", "state", "owner", "due (UTC)", "deficiency", "shown by", "re-tested by"):
        table.add_column(title, no_wrap=title in {"finding", "due (UTC)"}, overflow="fold")
    for finding in chosen:
        late = finding.is_overdue(today)
        table.add_row(
            Text(finding.id),
            Text(finding.cluster),
            Text(finding.severity.value),
            Text(finding.state.value, _STYLES[finding.state]),
            Text(finding.owner),
            Text(f"{finding.due}{' overdue' if late else ''}", "bold red" if late else ""),
            Text(finding.deficiency),
            Text(finding.run_id or "–"),
            Text(", ".join(f"{one.run_id} ({one.verdict})" for one in finding.retests) or "–"),
        )
    output.print(table if chosen else Text("No finding is open." if not everything else "There are no findings."))
    if chosen:
        late_ones = sum(finding.is_overdue(today) for finding in chosen)
        output.print(Text(f"  {wording.count(len(chosen), 'finding')}, {late_ones} overdue", "dim"))
    return Exit.PASSED


def _find(wanted: str) -> findings.Finding:
    return findings.choose(findings.fold(heard(open_store(), findings.KIND)), wanted)


def _told(wanted: str, *, as_json: bool) -> Exit:
    finding = _find(wanted)
    if as_json:
        print_json(finding.document(datetime.now(UTC).date()))
    else:
        output.print(
            f"{finding.id} ({finding.severity}) of {finding.cluster} is {finding.state}: {finding.deficiency}", highlight=False
        )
    return Exit.PASSED
