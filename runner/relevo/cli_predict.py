"""`relevo predict`: how long a runbook will take here, from this cluster's own history."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from relevo import expectation, forecast, inventory, paths, wording
from relevo.console import AsJson, Inventory, commands, explained, open_store, output, print_json
from relevo.errors import Exit, UsageError

if TYPE_CHECKING:
    from rich.console import Console

    from relevo.prediction import Prediction, Way

_SIZES = {"database_bytes": "database", "lag_bytes": "WAL not replayed", "wal_since_backup_bytes": "WAL behind the newest backup"}


@commands.command("predict")
@explained
def predict_runbook(
    runbook: Annotated[str, typer.Argument(help="The name of a playbook below playbooks/, without .yml")],
    sources: Inventory = None,
    cluster: Annotated[str | None, typer.Option(help="The cluster's name; else that of the inventory.")] = None,
    as_json: AsJson = False,
) -> Exit:
    """Say how long a runbook will take: P50 and P90 of each phase and of the whole, and on how many runs that rests."""
    project = paths.find_project(Path.cwd(), os.environ)
    paths.find_playbook(project, runbook)
    (prediction,) = forecast.look(open_store(), cluster or _only(project, sources), [runbook])
    if as_json:
        print_json(asdict(prediction))
    else:
        show(output, prediction)
    return Exit.PASSED


def _only(project: Path, sources: list[str] | None) -> str:
    named = os.environ.get("RELEVO_INVENTORY")
    given = inventory.absolute(sources or ([named] if named else []))
    if not given:
        message = "Whose history? Give --cluster, or an inventory with -i or RELEVO_INVENTORY."
        raise UsageError(message)
    found = inventory.clusters(project, given)
    if len(found) != 1:
        message = f"The inventory names {', '.join(found) or 'no cluster'}, expected one: give --cluster."
        raise UsageError(message)
    return found[0]


def show(console: Console, prediction: Prediction) -> None:
    """Each way with its phases; a number that the runs cannot bear is a dash."""
    console.print(Text.assemble((f"{prediction.runbook} of {prediction.cluster}", "bold")))
    if not prediction.runs and not any(way.phases for way in prediction.ways):
        console.print(Text("  No history: no run of this runbook came through yet, so nothing is predicted."))
    for way in prediction.ways:
        if way.phases or way.runs:
            _show_way(console, way)
    for name, size in prediction.sizes.items():
        console.print(
            Text(f"  {_SIZES[name]}: {wording.size(size.bytes)}, as of {wording.moment(size.at)} (run {size.run_id})", "dim")
        )
    if prediction.limit_seconds is not None:
        console.print(Text(f"  limit (RTO): {wording.seconds(prediction.limit_seconds)}"))
    for miss in prediction.past:
        if miss.part in {"recovery", "total"}:
            console.print(Text(f"  predicted before: {expectation.off(miss)}"))


def _show_way(console: Console, way: Way) -> None:
    source = f"; restores of {way.borrowed_from}, nobody failed over like that here" if way.borrowed_from else ""
    if way.way != "all" or source:
        console.print(Text(f"  by {way.way}{source}"))
    table = Table(box=None, header_style="dim")
    for title in ("", "P50", "P90", "longest", "rests on"):
        table.add_column(title, justify="right" if title in {"P50", "P90", "longest"} else "left")
    wholes = {"outage": way.outage, "recovery": way.recovery, "in all": way.total}
    for name, one in {**way.phases, **wholes}.items():
        if one.runs:
            seconds = (one.p50_seconds, one.p90_seconds, one.longest_seconds)
            cells = ("–" if value is None else wording.seconds(value) for value in seconds)
            table.add_row(name, *cells, expectation.rests_on(one))
    console.print(table)
