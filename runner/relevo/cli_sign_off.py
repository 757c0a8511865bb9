"""`relevo signoff`: a person's word about a run, or about what the checklist wants a word about."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from relevo import digest, identity, paths, sign_offs, wording
from relevo.console import AsJson, PolicyFile, commands, explained, heard, load_policy, open_store, output, print_json, say
from relevo.errors import Exit, UsageError
from relevo.store import LATEST


@commands.command("signoff")
@explained
def sign_off(
    subject: Annotated[
        str | None, typer.Argument(help="A run id, latest, or a subject of the checklist such as runbooks. Without it: list them.")
    ] = None,
    name: Annotated[str, typer.Option("--as", help="Who signs off.")] = "",
    statement: Annotated[str, typer.Option(help="What they say.")] = "",
    file: PolicyFile = None,
    as_json: AsJson = False,
) -> Exit:
    """Keep a person's word about a run or a subject, with its date and with what exactly they saw; or list what was said."""
    store = open_store()
    if subject is not None:
        if subject == LATEST or identity.RUN_ID.fullmatch(subject):
            stored = store.get(subject)
            subject = stored.run_id
            seen: str | None = sign_offs.of_run(stored)
        else:
            known = sign_offs.subjects(load_policy(file).policy)
            if subject not in known:
                message = (
                    f"{subject!r} is no run id and no subject of the checklist. Subjects: {', '.join(sorted(known)) or 'none'}."
                )
                raise UsageError(message)
            seen = digest.commit(paths.find_project(Path.cwd(), os.environ))[0]
        say(store, sign_offs.KIND, subject, sign_offs.SIGNED, sign_offs.said(name, statement, seen))
    given = [one for one in sign_offs.fold(heard(store, sign_offs.KIND)) if subject in {None, one.subject}]
    if as_json:
        print_json([one.document() for one in given])
        return Exit.PASSED
    table = Table(box=None, header_style="dim")
    for title in ("subject", "signed off by", "at", "statement", "seen", "typed by"):
        table.add_column(title, overflow="fold")
    for one in given:
        table.add_row(*map(Text, (one.subject, one.name, wording.moment(one.at), one.statement, (one.seen or "–")[:12], one.by)))
    output.print(table if given else Text("Nothing was signed off."))
    return Exit.PASSED
