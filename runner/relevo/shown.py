"""Readiness and checklist in a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from relevo import briefing, due, wording
from relevo.checklist import State
from relevo.readiness import Weight

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from relevo.checklist import Checklist
    from relevo.readiness import Readiness

STYLES = {"good": "bold green", "bad": "bold red", "doubt": "bold yellow"}
_NOBODY = "No cluster: the policy names none, and the store holds no run of one."
_DATES = 8


def readiness(console: Console, reports: Sequence[Readiness]) -> None:
    """The verdict with its reasons, the four numbers, the tests, what changed and what is next."""
    for one in reports:
        mood = briefing.OUTCOME_MOODS[one.outcome]
        console.print(Text.assemble((one.outcome.upper(), STYLES[mood]), f"  {one.cluster}, {wording.moment(one.at)}"))
        for reason in one.reasons:
            console.print(
                Text.assemble(
                    "  ", (reason.weight.value, "red" if reason.weight is Weight.BLOCKS else "yellow"), f"  {reason.sentence}"
                )
            )
        facts = Table.grid(padding=(0, 2))
        for card in briefing.cards(one):
            facts.add_row(Text(f"  {card.title}", "dim"), Text(card.value, STYLES.get(card.mood, "")), Text(card.note))
        for measured in one.measured:
            facts.add_row(Text(f"  {measured.name}: trend", "dim"), Text(""), Text(measured.tendency))
        for loss in one.losses:
            known = "not measured" if loss.seconds is None else wording.seconds(loss.seconds)
            said = "unknown" if loss.met is None else "met" if loss.met else "missed"
            facts.add_row(
                Text(f"  Loss of {loss.kind}", "dim"), Text(known), Text(f"target {wording.seconds(loss.target_seconds)}: {said}")
            )
        console.print(facts)
        console.print(_tests(one))
        for change in one.changes:
            console.print(Text(f"  since {wording.moment(one.since)}: {change}"))
        for finding in one.findings:
            console.print(Text(f"  {finding.id}, {finding.severity}, {finding.owner}, due {finding.due}: {finding.deficiency}"))
        for date in one.dates[:_DATES]:
            console.print(
                Text(f"  {wording.moment(date.at)}: {date.what}{' (overdue)' if date.over else ''}", "red" if date.over else "dim")
            )
        console.print(Text(f"  checklist: {one.checklist.status}"))
    if not reports:
        console.print(_NOBODY)


def _tests(one: Readiness) -> Table:
    table = Table(box=None, header_style="dim", padding=(0, 2))
    for title in ("test", "state", "last passed", "age", "due"):
        table.add_column(title)
    for entry in one.tests:
        table.add_row(
            Text(entry.title),
            Text(entry.state.value, STYLES[due.MOODS[entry.state]]),
            Text(wording.moment(entry.passed.at) if entry.passed else "never"),
            Text(wording.seconds(entry.age_seconds) if entry.passed else "–"),
            Text(wording.moment(entry.due_at) if entry.due_at else "now"),
        )
    return table


def checklists(console: Console, lists: Sequence[Checklist]) -> None:
    """Each line with its evidence, the clauses, and the status line at the end."""
    for one in lists:
        console.print(Text(f"Disaster recovery checklist of {one.cluster}, {wording.moment(one.at)}", "bold"))
        table = Table(box=None, header_style="dim", padding=(0, 2))
        table.add_column("line")
        table.add_column("state", no_wrap=True)
        table.add_column("what it rests on")
        table.add_column("holds until", no_wrap=True)
        for section, lines in one.sections.items():
            table.add_row(Text(section, "bold"))
            for line in lines:
                table.add_row(
                    Text(f"  {line.line}"),
                    Text(line.state.value, STYLES[briefing.STATE_MOODS[line.state]]),
                    Text("\n".join(proof.sentence for proof in line.proofs)),
                    Text(wording.moment(line.until) if line.until else "–"),
                )
        console.print(table)
        clauses = Table.grid(padding=(0, 2))
        for clause, answering in one.clauses.items():
            states = [line.state for line in answering]
            clauses.add_row(
                Text(f"  {clause}", "dim"),
                Text(f"{states.count(State.PROVEN)} of {wording.count(len(states), 'line')} proven"),
            )
        console.print(clauses)
        console.print(Text(f"Status: {one.status}", "bold green" if one.ready else "bold red"))
    if not lists:
        console.print(_NOBODY)
