"""`relevo runbook`: a runbook for paper, with the reader's own hosts, commands, times and telephone numbers."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from relevo import digest, estate, forecast, handbook, identity, inventory, paths
from relevo.clock import utc
from relevo.console import Inventory, PolicyFile, commands, explained, hand_over, load_policy, open_store, refuse_terminal
from relevo.errors import Exit, UsageError


@commands.command("runbook")
@explained
def print_runbook(
    runbook: Annotated[str, typer.Argument(help="The name of a playbook below playbooks/, without .yml")],
    sources: Inventory = None,
    target: Annotated[str | None, typer.Option("--to", help="The site that serves afterwards, where there are several.")] = None,
    form: Annotated[handbook.Form, typer.Option("--format", help="The form of the page.")] = handbook.Form.PDF,
    file: Annotated[Path | None, typer.Option("--output", "-o", help="A file; without it the page is printed.")] = None,
    policy: PolicyFile = None,
) -> Exit:
    """Print a runbook with the real names: whom to call, what to type, how long it takes, where there is no way back, how to undo."""
    project = paths.find_project(Path.cwd(), os.environ)
    paths.find_playbook(project, runbook)
    refuse_terminal(file, pdf=form is handbook.Form.PDF)
    named = os.environ.get("RELEVO_INVENTORY")
    given = sources or ([named] if named else [])
    if not given:
        message = "Whose runbook? Give the inventory with -i, or set RELEVO_INVENTORY."
        raise UsageError(message)
    hosts, texts = estate.look(project, inventory.absolute(given), handbook.ASKED), handbook.read(project, runbook)
    cluster = estate.only_cluster(hosts)
    about = handbook.About(
        cluster=cluster,
        target=handbook.target_of(texts, hosts, target),
        inventory=" -i ".join(given),
        made_at=utc(datetime.now(UTC)),
        made_by=f"{identity.operator(os.environ)} on {identity.controller()}",
        commit=digest.commit(project)[0] or "not known",
    )
    (prediction,) = forecast.look(open_store(), cluster, [runbook])
    here = handbook.Here(hosts, load_policy(policy).policy, prediction)
    contents = handbook.render(texts, about, here, form)
    hand_over(contents, file)
    return Exit.PASSED
