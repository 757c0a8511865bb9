"""`relevo drill`: rehearse on a copy, or run the tests of the matrix as one exercise; and what exercises there were."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from relevo import asked, drill, exercising, inventory, launch, paths, summary, wording
from relevo import exercise as exercises
from relevo.console import (
    AsJson,
    Inventory,
    PolicyFile,
    commands,
    complain,
    errors,
    explained,
    heard,
    load_policy,
    open_store,
    output,
    print_json,
    say,
)
from relevo.errors import Exit, UsageError
from relevo.store import LATEST

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from relevo.entries import Entry
    from relevo.exercise import Exercise
    from relevo.policy_file import Loaded
    from relevo.record import Record
    from relevo.store import Store

listing = typer.Typer(no_args_is_help=True, help="Exercises: what relevo drill NAME ran as one.")
commands.add_typer(listing, name="exercises")


@commands.command("drill")
@explained
def run_drill(
    exercise: Annotated[
        str | None, typer.Argument(help="An exercise of the policy: quarterly, full. Without it: a rehearsal on a copy.")
    ] = None,
    sources: Inventory = None,
    extra: launch.Extra = None,
    production: Annotated[
        bool, typer.Option("--production", help="Move production itself: a failover that says that it is a drill.")
    ] = False,
    moves_production: Annotated[
        str | None, typer.Option("--moves-production", metavar="CLUSTER", help="Of an exercise: yes, it moves this cluster.")
    ] = None,
    anew: Annotated[bool, typer.Option("--anew", help="End the exercise that is unfinished, and begin another.")] = False,
    approver: launch.Approver = None,
    policy: PolicyFile = None,
    notify_file: launch.NotifyFile = None,
    notify_when: launch.NotifyWhen = asked.When.NOT_PASSED,
    notify_report: launch.NotifyReport = False,
    as_json: AsJson = False,
) -> Exit:
    """Rehearse on a restored copy in the sandbox, which harms nobody; with the name of an exercise run the tests of the matrix in order, as one.

    An exercise that moves production is confirmed by --moves-production CLUSTER. The same command goes on with one that was stopped or killed.
    """
    wanted = launch.Wanted(
        sources, approver, notify=launch.request(notify_file, notify_when, report=notify_report), as_json=as_json
    )
    if exercise is not None:
        if production:
            message = "--production is for a single drill; an exercise is confirmed by --moves-production CLUSTER."
            raise UsageError(message)
        return _lead(exercise, extra or [], wanted, load_policy(policy), _Consent(moves_production, anew))
    if moves_production or anew:
        message = "--moves-production and --anew are for an exercise: name one, such as relevo drill full. A single drill takes --production."
        raise UsageError(message)
    pairs = [*(extra or []), *(["dr_mode=drill"] if production else [])]
    return launch.run_and_return(drill.PRODUCTION if production else drill.REHEARSAL, pairs, wanted)[-1].verdict.exit


@dataclass(frozen=True)
class _Consent:
    """What the operator typed beside the name: the cluster that may be moved; whether an unfinished exercise is to be ended."""

    cluster: str | None
    anew: bool


@dataclass(frozen=True)
class _Terminal:
    """The means of this terminal."""

    store: Store
    wanted: launch.Wanted

    def run(self, runbook: str, inputs: Mapping[str, str]) -> Record:
        return launch.run_one(runbook, [f"{name}={value}" for name, value in inputs.items()], self.wanted)

    def look(self) -> Mapping[str, Any]:
        # Nobody is told of a look.
        return launch.start("check", launch.Wanted(self.wanted.sources), kept=False).record.status

    def heard(self) -> Sequence[Entry]:
        return heard(self.store, exercises.KIND)

    def say(self, subject: str, event: str, said: dict[str, Any]) -> None:
        say(self.store, exercises.KIND, subject, event, said)

    def tell(self, sentence: str) -> None:
        errors.print(Text(sentence, "bold"))


def _lead(name: str, pairs: list[str], wanted: launch.Wanted, loaded: Loaded, consent: _Consent) -> Exit:
    if name not in loaded.policy.exercises:
        known = ", ".join(sorted(loaded.policy.exercises)) or "none"
        message = f"The policy has no exercise {name!r}. Exercises: {known}."
        raise UsageError(message)
    project = paths.find_project(Path.cwd(), os.environ)
    variables = inventory.variables(project, launch.needed(launch.sources(wanted.sources)))
    cluster = _cluster(variables)
    order = exercising.Order(name, cluster, pairs, variables)
    with exercising.alone(paths.find_place(os.environ), cluster):
        store = open_store()
        means = _Terminal(store, wanted)
        begun = exercising.unfinished(means, cluster)
        _check(name, cluster, begun, consent, moves=loaded.policy.exercises[name].moves)
        if begun is None or consent.anew:
            fresh = exercising.begin(means, loaded, order)
            if begun is not None:
                exercising.give_up(means, begun)
            begun = fresh
        else:
            begun = exercising.take_up(means, store, loaded, begun, pairs)
        try:
            ended, code = exercising.lead(means, store, loaded, begun)
        except KeyboardInterrupt:
            complain(f"{begun.id} is not finished: the same command goes on with it.")
            raise
    launch.tell_people()
    if wanted.as_json:
        print_json(ended.document())
    else:
        _show(ended)
    return code


def _cluster(variables: Mapping[str, Mapping[str, Any]]) -> str:
    found = sorted({str(said["dr_cluster"]) for said in variables.values() if said.get("dr_cluster")})
    if len(found) != 1:
        message = f"An exercise is of one cluster: the inventory names {', '.join(found) or 'none'}. Give its own with -i."
        raise UsageError(message)
    return found[0]


def _check(name: str, cluster: str, begun: Exercise | None, consent: _Consent, *, moves: bool) -> None:
    """Before anything: that the operator means it, and means this one."""
    if moves and consent.cluster != cluster:
        said = f"observed {consent.cluster!r}" if consent.cluster else "it is not given"
        message = (
            f"The exercise {name} moves production of {cluster} to another site and back. If that is what you mean, "
            f"give --moves-production {cluster}; {said}. Nothing was started."
        )
        raise UsageError(message)
    if begun is not None and begun.name != name and not consent.anew:
        message = (
            f"{begun.id}, the exercise {begun.name} of {cluster}, began at {begun.begun_at} and has not ended: go on with relevo drill {begun.name}, "
            "or end it with --anew. Nothing was started."
        )
        raise UsageError(message)


@listing.command("list")
@explained
def list_exercises(as_json: AsJson = False) -> Exit:
    """List the exercises, newest first."""
    found = list(reversed(exercises.fold(heard(open_store(), exercises.KIND))))
    if as_json:
        print_json([one.document() for one in found])
        return Exit.PASSED
    table = Table(box=None, header_style="dim")
    for title in ("exercise", "title", "cluster", "began", "verdict", "runs", "led by"):
        table.add_column(title, overflow="fold")
    for one in found:
        verdict = Text(one.verdict, summary.VERDICT_STYLES[one.verdict]) if one.verdict else Text("not finished", "yellow")
        cells = (one.title, one.cluster, wording.moment(one.begun_at))
        table.add_row(Text(one.id), *map(Text, cells), verdict, Text(str(len(one.ran))), Text(one.begun_by))
    output.print(table if found else Text("There are no exercises yet."))
    return Exit.PASSED


@listing.command("show")
@explained
def show_exercise(
    exercise: Annotated[str, typer.Argument(help="The id of an exercise, or: latest")] = LATEST, as_json: AsJson = False
) -> Exit:
    """Show one exercise: its steps, runs and tests, and what stands against it."""
    found = exercises.choose(exercises.fold(heard(open_store(), exercises.KIND)), exercise)
    if as_json:
        print_json(found.document())
    else:
        _show(found)
    return Exit.PASSED


def _show(one: Exercise) -> None:
    verdict = Text(one.verdict.upper(), summary.VERDICT_STYLES[one.verdict]) if one.verdict else Text("NOT FINISHED", "bold yellow")
    output.print(Text.assemble(verdict, f"  {one.title} of {one.cluster}, {one.id}"))
    for reason in one.reasons:
        output.print(Text(f"  {reason}"))
    table = Table(box=None, header_style="dim")
    for title in ("step", "what", "run", "verdict", "tests"):
        table.add_column(title, overflow="fold")
    for number, step in enumerate(one.steps):
        ran = one.of_step(number)
        if not ran:
            table.add_row(str(number + 1), Text(step.title), Text(step.left_out or "not reached", "dim"), "", "")
        for run in ran:
            told = ", ".join(f"{name} {said}" for name, said in run.tests.items())
            style = summary.VERDICT_STYLES[run.verdict]
            table.add_row(str(number + 1), Text(step.title), Text(run.run_id), Text(run.verdict, style), Text(told))
    output.print(table)
    output.print(Text(f"  report: relevo report {one.id} --format html -o FILE", "dim"))
