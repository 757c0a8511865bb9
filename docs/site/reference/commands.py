"""Every command of `relevo` with its arguments and options, from the parser itself; and what the exit codes mean."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

from docs.site.reference import markdown
from relevo.cli import commands
from relevo.errors import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

_MEANING = {
    Exit.PASSED: "passed; of a command that runs nothing: done",
    Exit.FAILED: "failed, or an answer that was asked for with --require is no",
    Exit.REFUSED: "refused before anything changed; the sentence says what to do",
    Exit.INTERRUPTED: "interrupted while it was at work, or killed",
    Exit.USAGE: "the command cannot mean anything, and nothing was started",
    Exit.PARTIAL: "came through, but something required was accepted by name, skipped, or not seen",
    Exit.CANCELLED: "an armed run that was never told to go: nothing was changed, and nothing is judged",
}


def page() -> str:
    """All of them on one page, to be searched."""
    text = "# Commands\n\n## Exit codes\n\n"
    text += markdown.table(("code", "name", "meaning"), [(str(int(code)), code.name.lower(), _MEANING[code]) for code in Exit])
    return text + "".join(
        _command(f"relevo {' '.join(words)}", command) for words, command in leaves(typer.main.get_command(commands))
    )


def leaves(group: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Each command that does something, with the words that lead to it."""
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from leaves(command, (*above, name))
        elif not command.hidden:
            yield (*above, name), command


def _command(words: str, command: Any) -> str:
    context = command.context_class(command, info_name=words)
    rows = [_row(one, context) for one in command.params if one.param_type_name == "option"]
    arguments = [_row(one, context) for one in command.params if one.param_type_name == "argument"]
    says = "\n\n".join(markdown.escaped(" ".join(part.split())) for part in (command.help or "").split("\n\n"))
    usage = " ".join([words, *command.collect_usage_pieces(context)])
    return f"\n## {words}\n\n`{usage}`\n\n{says}\n\n" + markdown.table(("argument or option", "meaning"), [*arguments, *rows])


def _row(one: Any, context: Any) -> tuple[str, str]:
    typed, meaning = one.get_help_record(context) or (str(one.name), one.help or "")
    return markdown.code(typed), markdown.cell(markdown.escaped(meaning))
