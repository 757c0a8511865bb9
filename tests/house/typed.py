"""What a reader of the documents types: every command of every fenced block, word by word, and where it is typed."""

from __future__ import annotations

import re
import shlex
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.house.tree import ROOT, files, name

if TYPE_CHECKING:
    from collections.abc import Iterator

# A block without a language holds commands too; whatever does not is labelled.
SHELLS = ("", "sh", "console")
OTHERS = ("text", "yaml", "json", "ini", "sql", "python", "jinja", "toml", "diff", "promql", "{toctree}")
_BLOCK = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = re.compile(r"([a-z0-9-]+)[#$] (.+)")
_EXIT = re.compile(r"# exit (\d)\b")
_BETWEEN = frozenset({"&&", "||", "|", ";", "&"})
_REDIRECTION = re.compile(r"\d*(>>?|<)")


@dataclass(frozen=True)
class Line:
    """One line as it stands in a block. host: where a prompt says that it is typed; else the controller. code: how it is said to end."""

    path: Path
    number: int
    text: str
    host: str = "controller"
    code: int = 0

    @property
    def place(self) -> str:
        return f"{name(self.path)}:{self.number}"


@dataclass(frozen=True)
class Command:
    """One command of a line. environment: what is set for it alone."""

    line: Line
    environment: dict[str, str]
    words: tuple[str, ...]


def documents() -> list[Path]:
    """Every page that tells somebody what to type, but decisions, which tell what was done."""
    return [path for path in files(".md") if "decisions" not in path.parts and path.name != "CHANGELOG.md"]


def blocks(path: Path) -> Iterator[tuple[int, str, str]]:
    """Line, language and content of each fenced block."""
    text = path.read_text(encoding="utf-8")
    for block in _BLOCK.finditer(text):
        yield text.count("\n", 0, block.start()) + 2, block[1], block[2]


def lines(path: Path) -> list[Line]:
    """Each line that somebody types, one that is folded with a backslash as one."""
    found = []
    for first, language, content in blocks(path):
        if language not in SHELLS:
            continue
        folded = ""
        for number, line in enumerate(content.splitlines(), first):
            folded += line
            if folded.endswith("\\"):
                folded = folded[:-1]
                continue
            typed, folded = folded.strip(), ""
            if typed and not typed.startswith("#"):
                host, text = prompt.groups() if (prompt := _PROMPT.fullmatch(typed)) else ("controller", typed)
                code = _EXIT.search(text)
                found.append(Line(path, number, text, host, int(code[1]) if code else 0))
    return found


def commands(line: Line) -> list[Command]:
    """What a shell would run for it: pipes and lists taken apart, redirections and comments taken off."""
    lexer = shlex.shlex(line.text, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    found, words, skip = list[list[str]](), list[str](), False
    for word in lexer:
        if skip:
            skip = False
        elif word in _BETWEEN:
            found.append(words)
            words = []
        elif _REDIRECTION.fullmatch(word):
            skip = True
        else:
            words.append(word)
    return [_command(line, each) for each in [*found, words] if each]


def _command(line: Line, words: list[str]) -> Command:
    environment = {}
    while words and re.fullmatch(r"[A-Z_]+=.*", words[0]):
        key, _, value = words[0].partition("=")
        environment[key], words = value, words[1:]
    return Command(line, environment, tuple(words))


def everything() -> list[Command]:
    """Every command of every page."""
    return [command for path in documents() for line in lines(path) for command in commands(line)]


__all__ = ["OTHERS", "ROOT", "SHELLS", "Command", "Line", "blocks", "commands", "documents", "everything", "lines"]
