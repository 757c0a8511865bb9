"""`relevo arm`, `go`, `cancel` and `armed`: a run that waits at its gates, and the word to it."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Annotated

import typer
from rich.text import Text

from relevo import armed, asked, identity, launch, paths, wording
from relevo.console import AsJson, Inventory, commands, complain, errors, explained, output, print_json
from relevo.errors import Exit, UsageError

if TYPE_CHECKING:
    from relevo.armed import Waiting

_ARMED = "dr_armed=true"
# The one that can wait: nothing else is in such a hurry.
_RUNBOOKS = frozenset({"failover"})
RunId = Annotated[str, typer.Argument(help="The id of a run that waits, as relevo armed shows it.")]


@commands.command("arm")
@explained
def arm(
    runbook: Annotated[str, typer.Argument(help="failover")],
    sources: Inventory = None,
    extra: launch.Extra = None,
    approver: launch.Approver = None,
    notify_file: launch.NotifyFile = None,
    notify_when: launch.NotifyWhen = asked.When.NOT_PASSED,
    notify_report: launch.NotifyReport = False,
    as_json: AsJson = False,
) -> Exit:
    """Start a failover that passes its gates, starts what it will run, and waits until relevo go, relevo cancel or Ctrl-C; it changes nothing before.

    Exit codes: those of relevo run, and 6 where it was cancelled or its evidence grew old.
    """
    if runbook not in _RUNBOOKS:
        message = f"{runbook} cannot be armed; {', '.join(sorted(_RUNBOOKS))} can."
        raise UsageError(message)
    wanted = launch.Wanted(
        sources, approver, notify=launch.request(notify_file, notify_when, report=notify_report), as_json=as_json
    )
    return launch.run_and_return(runbook, [*(extra or []), _ARMED], wanted)[-1].verdict.exit


@commands.command("go")
@explained
def go(
    run_id: RunId,
    confirm: Annotated[str | None, typer.Option(help="Where nobody can be asked: the words that the command shows.")] = None,
) -> Exit:
    """Tell an armed run to go. It judges every gate once more; a gate that is red for longer than a look takes is a no, and it stays armed."""
    run = armed.choose(paths.find_place(os.environ), run_id)
    _show(run)
    asking = confirm is None and sys.stdin.isatty() and errors.is_terminal
    typed = launch.ask(run.confirm) if asking else confirm
    if typed is None or typed.strip() != run.confirm:
        message = f"Not said: expected the words {run.confirm!r}. Give them with --confirm where nobody can be asked."
        raise UsageError(message)
    answer = armed.say(run, armed.GO, identity.operator(os.environ), confirm=typed.strip())
    if not answer.granted:
        for sentence in answer.sentences:
            complain(sentence)
        complain(f"{run_id} does not go, and stays armed.")
        return Exit.REFUSED
    output.print(f"{run_id} goes: {' '.join(answer.sentences)}. Its progress is where it was started.", highlight=False)
    return Exit.PASSED


@commands.command("cancel")
@explained
def cancel(run_id: RunId, reason: Annotated[str, typer.Option(help="Why; it is kept in the record.")] = "") -> Exit:
    """Tell an armed run that nothing is to be done. It has changed nothing, and leaves nothing behind."""
    run = armed.choose(paths.find_place(os.environ), run_id)
    armed.say(run, armed.CANCEL, identity.operator(os.environ), reason=reason)
    output.print(f"{run_id} is cancelled: nothing was changed.", highlight=False)
    return Exit.PASSED


@commands.command("armed")
@explained
def show_armed(as_json: AsJson = False) -> Exit:
    """Show the runs of this controller that wait for a word, and what stands in the way of go."""
    found = armed.waiting(paths.find_place(os.environ))
    if as_json:
        print_json([one.document() for one in found])
        return Exit.PASSED
    for one in found:
        _show(one)
    if not found:
        output.print("No run is armed.", highlight=False)
    return Exit.PASSED


def _show(run: Waiting) -> None:
    left = wording.seconds(max(0.0, run.limit_seconds - run.armed_seconds))
    output.print(Text.assemble((run.run_id, "bold"), f"  {run.cluster}, {'armed' if run.ready else 'getting ready'}"))
    judged = f"judged {wording.moment(run.judged_at)}" if run.judged_at else "not judged yet"
    output.print(f"  since {wording.moment(run.armed_at)}, for {left} more; {judged}, {run.looks} looks", highlight=False)
    output.print(Text(f"  {run.summary}" if run.summary else "  not judged since it is armed", "" if run.red else "green"))
    for sentence in run.red:
        output.print(Text(f"  in the way of go: {sentence}", "red"))
