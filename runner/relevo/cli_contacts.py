"""`relevo contacts`: who is called, whether they said that it is still them, and who could lead a run."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

import typer
from rich.table import Table
from rich.text import Text

from relevo import contacts, wording
from relevo.clock import utc
from relevo.console import AsJson, PolicyFile, commands, explained, heard, load_policy, open_store, output, print_json, say
from relevo.contacts import State
from relevo.errors import Exit
from relevo.stored_history import StoredHistory

group = typer.Typer(no_args_is_help=True, help="The contacts of the policy, and their acknowledgements.")
commands.add_typer(group, name="contacts")

_STYLES = {State.NEVER: "bold red", State.CHANGED: "bold yellow", State.OVERDUE: "bold red", State.CURRENT: "green"}


@group.command("ack")
@explained
def acknowledge(
    contact: Annotated[str, typer.Argument(help="The contact's key in the policy.")],
    note: Annotated[str | None, typer.Option(help="How it was confirmed, where somebody else types this.")] = None,
    file: PolicyFile = None,
    as_json: AsJson = False,
) -> Exit:
    """Say that a contact has confirmed name, role, mail and phone as the policy has them now."""
    loaded, store = load_policy(file), open_store()
    say(store, contacts.KIND, contact, contacts.ACKNOWLEDGED, contacts.acknowledgement(loaded.policy, contact, note))
    standing = next(
        one for one in contacts.standings(loaded.policy, heard(store, contacts.KIND), datetime.now(UTC)) if one.id == contact
    )
    if as_json:
        print_json(standing.document())
    else:
        output.print(f"{standing.name} ({standing.role}): acknowledged until {wording.moment(standing.due_at)}.", highlight=False)
    return Exit.PASSED


@group.command("list")
@explained
def list_contacts(file: PolicyFile = None, as_json: AsJson = False) -> Exit:
    """List the contacts and how long ago each has acknowledged, the escalation, and who has led a passed test."""
    loaded, store, now = load_policy(file), open_store(), datetime.now(UTC)
    policy = loaded.policy
    standings = contacts.standings(policy, heard(store, contacts.KIND), now)
    history = StoredHistory(store)
    team = contacts.team(policy, history, history.clusters(), now)
    if as_json:
        print_json(
            {
                "at": utc(now),
                "policy": loaded.document(),
                "contacts": [standing.document() for standing in standings],
                "escalation": [step.model_dump(mode="json") for step in policy.escalation],
                "team": team.document(),
            }
        )
        return Exit.PASSED
    table = Table(box=None, header_style="dim")
    for title in ("contact", "name", "role", "mail", "phone", "state", "acknowledged", "by", "due"):
        table.add_column(title)
    for one in standings:
        cells = (one.id, one.name, one.role, one.mail or "–", one.phone or "–")
        when = wording.moment(one.acknowledged_at) if one.acknowledged_at else "never"
        until = wording.moment(one.due_at) if one.due_at else "now"
        table.add_row(
            *map(Text, cells), Text(one.state.value, _STYLES[one.state]), *map(Text, (when, one.acknowledged_by or "–", until))
        )
    output.print(table if standings else Text(f"{loaded.source} names no contact; see inventories/example/policy.yml."))
    for step in policy.escalation:
        output.print(
            Text(f"  after {wording.seconds(step.after_seconds)}: {', '.join(step.contacts)}: {step.then}"), highlight=False
        )
    led = ", ".join(f"{one.name} ({wording.count(one.runs, 'run')})" for one in team.operators) or "nobody"
    output.print(
        Text(
            f"Led a passed test since {wording.moment(team.since)}: {led}; wanted {team.operators_min}: {'ready' if team.ready else 'not ready'}."
        ),
        highlight=False,
    )
    return Exit.PASSED
