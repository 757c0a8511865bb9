"""`relevo calendar`: which test of which cluster is due."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from relevo import appointments, documents, due, present, wording
from relevo.clock import utc
from relevo.console import (
    AsJson,
    PolicyFile,
    PresentInventory,
    commands,
    explained,
    load_policy,
    open_store,
    output,
    print_json,
    write,
)
from relevo.errors import Exit
from relevo.shown import STYLES
from relevo.stored_history import StoredHistory

if TYPE_CHECKING:
    from collections.abc import Sequence


@commands.command("calendar")
@explained
def show_calendar(
    cluster: Annotated[str | None, typer.Option(help="Only of this cluster.")] = None,
    sources: PresentInventory = None,
    file: PolicyFile = None,
    ics: Annotated[Path | None, typer.Option(help="Write the dates as iCalendar to this file.")] = None,
    require_current: Annotated[
        bool, typer.Option("--require-current", help="Exit with 1 when a test is anything but CURRENT or DUE.")
    ] = False,
    as_json: AsJson = False,
) -> Exit:
    """Show for each test of each cluster when it last passed, what has changed since, and when it is due."""
    loaded, store, at = load_policy(file), open_store(), datetime.now(UTC)
    now = present.look(sources, at)
    with store.one_view():
        history = StoredHistory(store)
        found = due.entries(loaded.policy, due.Past(history, documents.of(store)), history.clusters(), now)
    found = [entry for entry in found if cluster in {None, entry.cluster}]
    if ics is not None:
        write(ics, appointments.write(found, at).decode())
    if as_json:
        print_json({"at": utc(at), "policy": loaded.document(), "tests": [entry.document() for entry in found]})
    else:
        _show(found)
    good = all(entry.state in {due.State.CURRENT, due.State.DUE} for entry in found)
    return Exit.FAILED if require_current and not good else Exit.PASSED


def _show(entries: Sequence[due.Entry]) -> None:
    if not entries:
        output.print("No cluster: the policy names none, and the store holds no run of one.")
        return
    table = Table(box=None, header_style="dim")
    for title in ("cluster", "test", "every", "state", "last passed", "age", "due"):
        table.add_column(title, no_wrap=title != "test")
    for entry in entries:
        table.add_row(
            Text(entry.cluster),
            Text(entry.title),
            Text(entry.every),
            Text(
                f"{entry.state}{', OVERDUE' if entry.overdue and entry.passed and entry.state is not due.State.OVERDUE else ''}",
                STYLES[due.MOODS[entry.state]],
            ),
            Text(wording.moment(entry.passed.at) if entry.passed else "never"),
            Text(wording.seconds(entry.age_seconds) if entry.passed else "–"),
            Text(wording.moment(entry.due_at) if entry.due_at else "now"),
        )
    output.print(table)
    for entry in entries:
        for reason in entry.reasons:
            output.print(Text(f"  {entry.cluster}, {entry.test}: {reason}"), highlight=False)
        if entry.unobserved:
            output.print(
                Text(f"  {entry.cluster}, {entry.test}: no run tells whether these changed: {', '.join(entry.unobserved)}", "dim")
            )
