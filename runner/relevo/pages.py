"""Whether the pages of runbooks exist, have what a page must have, and match their playbooks. :func:`look` alone touches files."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relevo import digest

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

HEADINGS = (
    "Purpose",
    "Before you start",
    "Command",
    "What happens",
    "How long it takes",
    "Point of no return",
    "When it stops",
    "Undo",
    "Proof",
)
PLAYBOOKS, PAGES = "playbooks", "docs/runbooks"
# What may hold a variable's name: what a run executes, and what starts it.
_CODE = ("playbooks", "roles", "collections", "runner")
_CODE_ENDS = frozenset({".yml", ".yaml", ".py", ".j2", ".json"})
_VARIABLE = re.compile(r"\bdr_[a-z0-9_]*[a-z0-9]\b")
_LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)\s]*)?\)")
_INPUT = re.compile(r"-e (dr_[a-z0-9_]*[a-z0-9])=")
_RUN = re.compile(r"(?:relevo run |playbooks/|make )([a-z][a-z_]*)")


@dataclass(frozen=True)
class Problem:
    """What does not match, and where. line: None where the whole file is meant."""

    file: str
    line: int | None
    observed: str

    @property
    def sentence(self) -> str:
        """Place first."""
        return f"{self.file}{f', line {self.line}' if self.line else ''}: {self.observed}"


@dataclass(frozen=True)
class Page:
    """The page of one runbook, as it was looked at."""

    runbook: str
    problems: tuple[Problem, ...] = ()


@dataclass(frozen=True)
class Library:
    """All pages. commit: of the checkout they lie in; uncommitted: whether its files differ from it; None where it is no checkout."""

    pages: Mapping[str, Page]
    commit: str | None
    uncommitted: bool | None

    def of(self, runbook: str) -> Page:
        """The page of a runbook, also of one that is not there."""
        missing = Problem(f"{PLAYBOOKS}/{runbook}.yml", None, "there is no such playbook; expected it beside its page")
        return self.pages.get(runbook) or Page(runbook, (missing,))

    @property
    def problems(self) -> list[Problem]:
        """Of all pages."""
        return [problem for page in self.pages.values() for problem in page.problems]


@dataclass(frozen=True)
class Surroundings:
    """What a page may speak of.

    playbook: the text of its own; variables: names that playbooks, roles and runner know; exists: whether a link from the page leads somewhere.
    """

    playbook: str
    variables: Collection[str]
    runbooks: Collection[str]
    exists: Callable[[str], bool]


def check(runbook: str, text: str | None, around: Surroundings) -> Page:
    """A page against its playbook; text: None where there is no page. Pure."""
    file = f"{PAGES}/{runbook}.md"
    if text is None:
        return Page(runbook, (Problem(file, None, f"there is no such page; expected one with {', '.join(HEADINGS)}"),))
    lines = text.splitlines()
    found = [*_headings(lines), *_command(runbook, lines, around), *_names(lines, around)]
    return Page(runbook, tuple(Problem(file, line, observed) for line, observed in sorted(found, key=lambda one: one[0] or 0)))


def variables(texts: Iterable[str]) -> frozenset[str]:
    """Every variable's name in them."""
    return frozenset(name for text in texts for name in _VARIABLE.findall(text))


def _headings(lines: Sequence[str]) -> Iterator[tuple[int | None, str]]:
    seen = {line[3:].strip(): number for number, line in _outside_code(lines) if line.startswith("## ")}
    for heading in HEADINGS:
        if heading not in seen:
            yield None, f"the section {heading!r} is missing"
        elif not any(line.strip() for line in _section(lines, heading)):
            yield seen[heading], f"the section {heading!r} is empty"


def _command(runbook: str, lines: Sequence[str], around: Surroundings) -> Iterator[tuple[int | None, str]]:
    section = "\n".join(_section(lines, "Command"))
    names = set(_RUN.findall(section))
    if section and runbook not in names:
        yield (
            _line_of(lines, "## Command"),
            f"the command does not start this runbook; expected relevo run {runbook} or playbooks/{runbook}.yml",
        )
    for name in _INPUT.findall(around.playbook):
        if not any(name in line for line in lines):
            yield None, f"it does not name {name}, which the playbook takes"
    for number, line in enumerate(lines, 1):
        for name in _RUN.findall(line.replace("make ", "")):
            if name not in around.runbooks and not line.partition(f"playbooks/{name}")[2].startswith("/"):
                yield number, f"it names the runbook {name}, and there is no {PLAYBOOKS}/{name}.yml"


def _names(lines: Sequence[str], around: Surroundings) -> Iterator[tuple[int | None, str]]:
    for number, line in enumerate(lines, 1):
        for name in dict.fromkeys(_VARIABLE.findall(line)):
            if name not in around.variables:
                yield number, f"it names {name}, which no playbook and no role knows"
        for link in _LINK.findall(line):
            if not around.exists(link):
                yield number, f"it links to {link}, which is not there"


def _section(lines: Sequence[str], heading: str) -> list[str]:
    """The lines below a heading, up to the next one."""
    begun, found = False, []
    starts = {number for number, line in _outside_code(lines) if line.startswith("## ")}
    for number, line in enumerate(lines, 1):
        if number in starts:
            begun = line[3:].strip() == heading
        elif begun:
            found.append(line)
    return found


def _outside_code(lines: Sequence[str]) -> Iterator[tuple[int, str]]:
    fenced = False
    for number, line in enumerate(lines, 1):
        if line.startswith("```"):
            fenced = not fenced
        elif not fenced:
            yield number, line


def _line_of(lines: Sequence[str], start: str) -> int | None:
    return next((number for number, line in enumerate(lines, 1) if line.startswith(start)), None)


# -- files --


def look(project: Path) -> Library:
    """Every runbook of a project, and its page."""
    known = variables(_texts(project))
    runbooks = sorted(path.stem for path in (project / PLAYBOOKS).glob("*.yml"))
    directory = project / PAGES
    commit, dirty = digest.commit(project)

    def page(name: str) -> Page:
        playbook = _read(project / PLAYBOOKS / f"{name}.yml") or ""
        around = Surroundings(playbook, known, runbooks, lambda link: (directory / link).exists())
        return check(name, _read(directory / f"{name}.md"), around)

    return Library({name: page(name) for name in runbooks}, commit, dirty)


def changed_since(project: Path, commit: str) -> list[str] | None:
    """The pages that are others now than in a commit; None where this checkout does not know it."""
    return digest.changed_files(project, commit, PAGES)


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _texts(project: Path) -> Iterator[str]:
    for folder in _CODE:
        for directory, inner, names in os.walk(project / folder):
            inner[:] = [name for name in inner if not name.startswith(".") and name != "__pycache__"]
            yield from filter(None, (_read(Path(directory, name)) for name in names if Path(name).suffix in _CODE_ENDS))
