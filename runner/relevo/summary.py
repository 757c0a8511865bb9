"""Records in a terminal: one in full, many as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from relevo import wording
from relevo.progress import GATE_MARKS, MARKS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from relevo.history import Summary
    from relevo.record import Record

VERDICT_STYLES = {
    "passed": "bold green",
    "partial": "bold yellow",
    "failed": "bold red",
    "refused": "bold yellow",
    "interrupted": "bold red",
    "cancelled": "yellow",
}


def show(console: Console, record: Record) -> None:
    """Verdict and reasons, objectives, losses, phases, and the gates that did not pass."""
    console.print(Text.assemble((record.verdict.upper(), VERDICT_STYLES[record.verdict]), f"  {wording.headline(record)}"))
    for reason in record.verdict_reasons:
        console.print(Text(f"  {reason}"))
    facts = Table.grid(padding=(0, 2))
    for name, value in wording.facts(record):
        facts.add_row(Text(f"  {name}", "dim"), Text(value))
    console.print(facts)
    if record.phases:
        console.print(_phases(record))
    doubtful = [gate for gate in record.gates if gate.get("verdict") not in {"pass", "not_applicable"}]
    if doubtful:
        console.print(_gates(doubtful))
    holding = sum(gate.get("verdict") in {"pass", "not_applicable"} for gate in record.gates)
    if record.gates:
        console.print(Text(f"  {holding} of {len(record.gates)} gates hold or do not apply", "dim"))
    console.print(Text(f"  run {record.run_id}", "dim"))


def _phases(record: Record) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=True)
    for title in ("", "phase", "host", "began (UTC)", "took", ""):
        table.add_column(title, justify="right" if title == "took" else "left")
    for phase in record.phases:
        mark, style = MARKS.get(str(phase.get("outcome")), ("?", "yellow"))
        table.add_row(
            Text(mark, style),
            Text(str(phase.get("name"))),
            Text(str(phase.get("host"))),
            Text(wording.time_of_day(phase.get("started_at"))),
            Text(wording.seconds(phase.get("duration_seconds"))),
            Text(str(phase.get("detail") or "")),
        )
    return table


def _gates(gates: Sequence[dict[str, Any]]) -> Table:
    table = Table(box=None, header_style="dim", pad_edge=True)
    for title in ("", "gate", "host", "observed", "expected", "next"):
        table.add_column(title, overflow="fold")
    for gate in gates:
        mark, style = GATE_MARKS.get(str(gate.get("verdict")), ("?", "yellow"))
        cells = (str(gate.get(key) or "") for key in ("id", "host", "observed", "expected", "next_action"))
        table.add_row(Text(mark, style), *(Text(cell) for cell in cells))
    return table


def list_runs(console: Console, runs: Sequence[Summary]) -> None:
    """One line per run, in the order given."""
    table = Table(box=None, header_style="dim")
    for title in ("run", "cluster", "mode", "verdict", "RTO", "RPO", "objectives", "operator"):
        table.add_column(title, justify="right" if title in {"RTO", "RPO"} else "left", no_wrap=title == "run")
    for run in runs:
        table.add_row(
            Text(run.run_id),
            Text(run.cluster or "–"),
            Text(run.mode or "–"),
            Text(run.verdict, VERDICT_STYLES[run.verdict]),
            *(Text(_short(seconds)) for seconds in (run.rto_seconds, run.rpo_seconds)),
            Text({True: "met", False: "missed", None: "–"}[run.objectives_met]),
            Text(run.operator),
        )
    console.print(table if runs else Text("There are no results yet."))


def _short(seconds: Any) -> str:
    return "–" if seconds is None else wording.seconds(seconds)
