"""What every command of `relevo` needs: where it prints, how it ends, and the store it reads."""

from __future__ import annotations

import functools
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ParamSpec

import typer
from rich.console import Console
from rich.text import Text

from relevo import entries, identity, paths, policy_file, settlement, signature
from relevo.errors import Exit, RelevoError, UsageError
from relevo.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

commands = typer.Typer(no_args_is_help=True, help="Failover runbooks, and the record of every run.")
results = typer.Typer(no_args_is_help=True, help="The records of past runs.")
commands.add_typer(results, name="results")

_WIDE = 200  # where nobody sees a terminal, nothing is folded
output = Console(width=None if sys.stdout.isatty() else _WIDE)
errors = Console(stderr=True, width=None if sys.stderr.isatty() else _WIDE)

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Inventory = Annotated[
    list[str] | None, typer.Option("--inventory", "-i", help="Inventory path; more than once is possible. [env: RELEVO_INVENTORY]")
]
PresentInventory = Annotated[
    list[str] | None,
    typer.Option(
        "--inventory", "-i", help="The inventory as it is now; without it, as the newest run saw it. [env: RELEVO_INVENTORY]"
    ),
]
Run = Annotated[str, typer.Argument(help="A run id, or: latest")]
PolicyFile = Annotated[
    Path | None,
    typer.Option(
        "--policy", envvar=policy_file.VARIABLE, show_envvar=True, help="The policy; default: the one policy.yml in inventories/."
    ),
]


class Ended(SystemExit):
    """The command came to its end by itself: its code is ours, not the argument parser's."""


P = ParamSpec("P")


def explained(command: Callable[P, Exit]) -> Callable[P, None]:
    """Turn what went wrong into one sentence and an exit code: no traceback reaches an operator."""

    @functools.wraps(command)
    def run(*arguments: P.args, **options: P.kwargs) -> None:
        try:
            code = command(*arguments, **options)
        except RelevoError as error:
            complain(str(error))
            raise Ended(error.exit) from None
        except KeyboardInterrupt:
            complain("Interrupted.")
            raise Ended(Exit.INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise Ended(Exit.FAILED) from None
        except Exception as error:
            if os.environ.get("RELEVO_DEBUG"):
                raise
            complain(f"An error that nobody foresaw: {type(error).__name__}: {error}. RELEVO_DEBUG=1 shows where.")
            raise Ended(Exit.FAILED) from None
        raise Ended(code)

    return run


def open_store() -> Store:
    """The store of results, with what was still to be delivered to it."""
    place = paths.find_place(os.environ)
    for sentence in settlement.settle(place):
        complain(sentence)
    return Store(place)


def load_policy(given: Path | None) -> policy_file.Loaded:
    """The policy that holds here."""
    return policy_file.load(given, Path.cwd(), os.environ)


def say(store: Store, kind: str, subject: str, event: str, said: dict[str, Any]) -> entries.Entry:
    """Keep an entry of the person at this terminal, signed by this controller."""
    # First the key: the first word of a new controller must not be older than the key that signs it.
    key = signature.ready_key(paths.find_place(os.environ).keys)
    speaker = entries.Speaker(identity.operator(os.environ), identity.controller(), datetime.now(UTC))
    entry = entries.make(speaker, kind, subject, event, said)
    entries.append(store, entry, key)
    return entry


def heard(store: Store, kind: str) -> list[entries.Entry]:
    """All entries of a kind."""
    return [entries.parse(signed.document) for signed in entries.read(store, kind)]


def print_json(tree: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(tree, ensure_ascii=False, indent=2, sort_keys=True) + "\n")


def write(path: Path, contents: str | bytes) -> None:
    """A file as a whole. RelevoError with the reason when it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents.encode() if isinstance(contents, str) else contents)
    except OSError as error:
        message = f"{path} cannot be written: {error.strerror}."
        raise RelevoError(message) from error


def refuse_terminal(file: Path | None, *, pdf: bool) -> None:
    """UsageError where a PDF would be printed on a terminal; before it is made."""
    if pdf and file is None and sys.stdout.isatty():
        message = "A PDF is nothing that a terminal can show: give a file with -o, or send it into one with >."
        raise UsageError(message)


def hand_over(contents: bytes, file: Path | None) -> None:
    """What a command made: into a file, or to whoever reads its output. RelevoError with the reason when the file cannot be written."""
    if file is None:
        sys.stdout.buffer.write(contents)
    else:
        write(file, contents)
        errors.print(f"Written to {file}.", highlight=False)


def complain(sentence: str) -> None:
    """A sentence on standard error."""
    errors.print(Text(sentence, "red"))
