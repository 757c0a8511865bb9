"""`relevo watch`: an automatic failover, as far as the inventory allows it."""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from relevo import automatic, clerk, inventory, paths, targets, wording
from relevo.console import AsJson, Inventory, commands, complain, errors, explained, open_store, output, say
from relevo.errors import Exit, UsageError
from relevo.streams import Told
from relevo.trigger import Trigger
from relevo.watcher import Watch, Watcher, own_directory

if TYPE_CHECKING:
    from collections.abc import Mapping


@commands.command("watch")
@explained
def watch(
    cluster: Annotated[str, typer.Argument(help="The cluster's name: dr_cluster in the inventory.")],
    sources: Inventory = None,
    notify_file: Annotated[
        Path | None,
        typer.Option(
            "--notify",
            envvar="RELEVO_NOTIFY_URLS",
            show_envvar=True,
            help="Whom to tell: a file of apprise URLs; default: the contacts of the inventory.",
        ),
    ] = None,
    hand_over: Annotated[
        bool, typer.Option("--hand-over", help="Start nothing: whoever reads the decisions does, such as ansible-rulebook.")
    ] = False,
    rearm: Annotated[bool, typer.Option("--rearm", help="Allow another automatic run after one was started, and end.")] = False,
    reason: Annotated[str, typer.Option(help="With --rearm: why another one may be started.")] = "",
    as_json: AsJson = False,
) -> Exit:
    """Watch a cluster from all its vantage points, until a signal ends it. What is done is said by dr_automatic: off, propose or act."""
    place = paths.find_place(os.environ)
    if rearm:
        return _rearm(place, cluster, reason)
    project = paths.find_project(Path.cwd(), os.environ)
    named = os.environ.get("RELEVO_INVENTORY")
    chosen = inventory.of_cluster(project, inventory.absolute(sources or ([named] if named else [])), cluster)
    found = automatic.read(project, chosen, cluster)
    contacts = _contacts(notify_file, found.contacts)
    watcher = Watcher(Watch(place, project, chosen, found, contacts, hand_over, Told(cluster)), _as_json if as_json else _in_words)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: watcher.stop())
    policy = found.policy
    errors.print(
        f"Watching {cluster}; dr_automatic is {policy.automatic}, the window {policy.window_seconds:g} s.", highlight=False
    )
    watcher.run()
    return Exit.PASSED


def _contacts(given: Path | None, declared: Path | None) -> Path | None:
    """Judged before anything is watched. A file that was named has to be good; without the inventory's the watcher only writes down."""
    if given is not None:
        targets.read(given.expanduser())
        return given.expanduser().absolute()
    try:
        if declared is not None:
            targets.read(declared)
            return declared
        reason = "the inventory names no contacts."
    except UsageError as error:
        reason = str(error)
    complain(f"Nobody will be told: {reason}")
    return None


def _rearm(place: paths.Place, cluster: str, reason: str) -> Exit:
    if not reason.strip():
        message = "--rearm needs a --reason: it is kept with the decisions."
        raise UsageError(message)
    # Said before it is done: a run that is allowed again without a word of it is worse than a word without.
    say(open_store(), clerk.KIND, cluster, "rearmed", {"reason": reason.strip()})
    done = Trigger(own_directory(place, cluster), Path()).rearm()
    output.print(f"One automatic run of {cluster} {'is allowed again' if done else 'was allowed already'}.", highlight=False)
    return Exit.PASSED


def _as_json(said: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(said, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def _in_words(said: Mapping[str, Any]) -> None:
    action = said.get("action")
    about = said.get("because") or f"run {said.get('run_id')}: {said.get('verdict')}"
    output.print(
        f"{wording.moment(said['decided_at'])}  {said['event']}{f' -> {action}' if action else ''}: {about}", highlight=False
    )
    if said.get("command"):
        output.print(f"  {said['command']}", highlight=False, soft_wrap=True)
