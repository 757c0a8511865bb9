"""`relevo maintenance`: planned work, during which a watcher proposes and starts nothing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated

import typer

from relevo import maintenance, wording
from relevo.console import AsJson, commands, explained, heard, open_store, output, print_json, say
from relevo.errors import Exit, UsageError

if TYPE_CHECKING:
    from relevo.entries import Entry

group = typer.Typer(no_args_is_help=True, help="Planned work: for a stated time relevo watch proposes and starts nothing.")
commands.add_typer(group, name="maintenance")

Cluster = Annotated[str, typer.Argument(help="The cluster's name: dr_cluster in the inventory.")]


@group.command("start")
@explained
def start(
    cluster: Cluster,
    length: Annotated[str, typer.Option("--for", help="How long, such as 30m or 2h; it ends by itself.")],
    reason: Annotated[str, typer.Option(help="What is done, for whoever finds the watcher silent.")] = "",
) -> Exit:
    """Begin a maintenance; said again it is a new one, from now."""
    said = maintenance.begin(reason, maintenance.span(length), datetime.now(UTC))
    say(open_store(), maintenance.KIND, cluster, maintenance.STARTED, said)
    output.print(f"Maintenance of {cluster} until {wording.moment(said['until'])}; it ends by itself.", highlight=False)
    return Exit.PASSED


@group.command("stop")
@explained
def stop(cluster: Cluster) -> Exit:
    """End it before its time."""
    store = open_store()
    if _running(heard(store, maintenance.KIND), cluster) is None:
        message = f"No maintenance of {cluster} is on."
        raise UsageError(message)
    say(store, maintenance.KIND, cluster, maintenance.STOPPED, {})
    output.print(f"Maintenance of {cluster} is over: relevo watch acts again as the inventory says.", highlight=False)
    return Exit.PASSED


@group.command("show")
@explained
def show(cluster: Cluster, as_json: AsJson = False) -> Exit:
    """Show whether one is on."""
    running = _running(heard(open_store(), maintenance.KIND), cluster)
    if as_json:
        print_json(
            None if running is None else {"cluster": cluster, "until": running.until, "by": running.by, "reason": running.reason}
        )
    else:
        output.print(running.sentence().capitalize() if running else f"No maintenance of {cluster}.", highlight=False)
    return Exit.PASSED


def _running(entries: list[Entry], cluster: str) -> maintenance.Maintenance | None:
    found = maintenance.latest(entries, cluster)
    return found if found and found.left_seconds(datetime.now(UTC)) > 0 else None
