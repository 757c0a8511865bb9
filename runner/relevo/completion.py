"""What a shell offers between two key strokes: commands, options, runbooks, clusters and run ids. Standard library only, no process, no network.

Whatever goes wrong is answered with nothing: a sentence in the middle of somebody's line helps nobody.
"""

from __future__ import annotations

import json
import re
import shlex
import sqlite3
import sys
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo.paths import find_place, find_project

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from relevo.paths import Place

# The name that typer gives it in the scripts that --install-completion writes.
VARIABLE = "_RELEVO_COMPLETE"
TREE = Path(__file__).with_name("data") / "commands.json"
LATEST = "latest"
_BUSY_SECONDS = 0.1
# An inventory has tens of files; a directory that holds thousands is none.
_FILES, _BYTES = 200, 100_000
_EXAMPLE = "example"
# A shell evaluates what it is given: nothing that could mean something to it is offered.
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_CLUSTER = re.compile(r"^\s*[\"']?dr_cluster[\"']?\s*:\s*[\"']?([A-Za-z0-9][A-Za-z0-9._-]*)[\"']?\s*(?:#.*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Offer:
    """A word that may stand here. meaning: empty where the word says it all."""

    word: str
    meaning: str = ""


def answer(shell: str, environment: Mapping[str, str]) -> int:
    """Print what the shell wants in its own form; the exit code that it expects."""
    found: list[Offer] = []
    with suppress(Exception):
        words, begun = _typed(shell, environment)
        found = [one for one in offers(words, begun, environment) if one.word.startswith(begun)]
    # Of fish's two questions the first is only whether there is anything.
    if shell == "fish" and environment.get("_TYPER_COMPLETE_FISH_ACTION") == "is-args":
        return 0 if found else 1
    with suppress(Exception):
        sys.stdout.write(_written(shell, found))
    return 0


def _typed(shell: str, environment: Mapping[str, str]) -> tuple[list[str], str]:
    """The words before the one that is begun, without the command's name; and what of that one is there."""
    if shell == "bash":
        # The scripts put the words on lines of their own, or one after the other.
        words = _split(environment["COMP_WORDS"])
        position = int(environment["COMP_CWORD"])
        return words[1:position], words[position] if position < len(words) else ""
    line = environment["_TYPER_COMPLETE_ARGS"]
    words = _split(line)[1:]
    if words and not line.endswith(" "):
        return words[:-1], words[-1]
    return words, ""


def _split(line: str) -> list[str]:
    """As a shell does, of a line whose quotes may still be open."""
    lexer = shlex.shlex(line, posix=True)
    lexer.whitespace_split, lexer.commenters = True, ""
    words: list[str] = []
    try:
        words.extend(lexer)
    except ValueError:
        words.append(lexer.token)
    return words


def offers(words: Sequence[str], begun: str, environment: Mapping[str, str]) -> list[Offer]:
    """What may stand behind these words."""
    tree: Mapping[str, Any] = json.loads(TREE.read_text(encoding="utf-8"))
    taken, option, given = 0, "", list[str]()
    for word in words:
        if option:
            if option in {"-i", "--inventory"}:
                given.append(word)
            option = ""
        elif word.startswith("-"):
            wants = tree.get("options", {}).get(word)
            option = word if wants and wants["takes"] else ""
        elif word in tree.get("commands", {}):
            tree, taken = tree["commands"][word], 0
        else:
            taken += 1
    known = _Known(environment, given)
    if option:
        return known.values(option.lstrip("-"), tree["options"][option]["takes"])
    if begun.startswith("-"):
        return [Offer(name, each["help"]) for name, each in tree.get("options", {}).items()]
    if tree.get("commands"):
        return [Offer(name, each["help"]) for name, each in tree["commands"].items()]
    arguments = tree.get("arguments", [])
    return known.values(arguments[taken], []) if taken < len(arguments) else []


class _Known:
    """Names that there are on this controller."""

    def __init__(self, environment: Mapping[str, str], inventories: Sequence[str]) -> None:
        self._environment = environment
        self._inventories = inventories or list(filter(None, [environment.get("RELEVO_INVENTORY")]))

    def values(self, name: str, choices: Sequence[str]) -> list[Offer]:
        """What an argument or an option of that name may be."""
        if name == "runbook":
            return self._plain(self._runbooks())
        if name == "cluster":
            return self._plain(self._clusters())
        if name in {"run", "run_id", "request", "subject"}:
            return self._plain(self._runs())
        return [Offer(choice) for choice in choices if choice != "*"]

    @staticmethod
    def _plain(names: Iterable[str]) -> list[Offer]:
        return [Offer(name) for name in dict.fromkeys(names) if _PLAIN.fullmatch(name)]

    def _runbooks(self) -> list[str]:
        return sorted(path.stem for path in (self._project() / "playbooks").glob("*.yml"))

    def _project(self) -> Path:
        return find_project(Path.cwd(), self._environment)

    def _runs(self) -> Iterator[str]:
        place = find_place(self._environment)
        yield LATEST
        found = _asked(place, "select run_id from record order by opened_at desc, run_id desc limit 50")
        # Where the store is a database elsewhere, the runs of this controller lie beside it.
        if not found and place.runs.is_dir():
            found = sorted((path.name for path in place.runs.iterdir()), reverse=True)[:50]
        yield from found

    def _clusters(self) -> list[str]:
        found = _asked(find_place(self._environment), "select distinct cluster from summary where cluster is not null")
        with suppress(Exception):
            own = [path for path in sorted((self._project() / "inventories").iterdir()) if path.name != _EXAMPLE]
            for path in _files([Path(given).expanduser() for given in self._inventories] or own):
                found += _CLUSTER.findall(path.read_text(encoding="utf-8", errors="replace"))
        return sorted(set(found))


def _asked(place: Place, query: str) -> list[str]:
    """The first column, from a store that is a file. Read only, and not waited for."""
    scheme, _, path = place.store_url.partition(":///")
    if scheme != "sqlite":
        return []
    with (
        suppress(sqlite3.Error),
        closing(sqlite3.connect(f"{Path(path).as_uri()}?mode=ro", uri=True, timeout=_BUSY_SECONDS)) as connection,
    ):
        return [str(row[0]) for row in connection.execute(query)]
    return []


def _files(places: Iterable[Path]) -> list[Path]:
    """Files of inventories that may name a cluster."""
    found = list[Path]()
    for place in places:
        for path in [place] if place.is_file() else sorted(place.rglob("*")):
            if len(found) == _FILES:
                return found
            if (
                path.suffix in {".yml", ".yaml", ""}
                and path.is_file()
                and path.stat().st_size <= _BYTES
                and "secrets" not in path.parts
            ):
                found.append(path)
    return found


def _written(shell: str, found: Sequence[Offer]) -> str:
    if shell == "zsh":
        # Evaluated there; without an offer the shell's own files.
        pairs = [
            f'"{_harmless(one.word)}":"{_harmless(one.meaning)}"' if one.meaning else f'"{_harmless(one.word)}"' for one in found
        ]
        return f"_arguments '*: :(({' '.join(pairs)}))'" if pairs else "_files"
    if shell == "fish":
        return "\n".join(f"{one.word}\t{_harmless(one.meaning)}" if one.meaning else one.word for one in found)
    return "\n".join(one.word for one in found)


def _harmless(text: str) -> str:
    """Words that no shell takes for anything else."""
    return re.sub(r"[^A-Za-z0-9 .,_=-]", "", text)
