"""Documents: the same shape for each runbook and decision, and nothing named that does not exist."""

from __future__ import annotations

import re

import pytest
import typer
from ansible_collections.relevo.dr.plugins.module_utils import gates

from docs.site import build
from relevo.cli import commands
from relevo.pages import HEADINGS
from tests.house import gate_ids
from tests.house.tree import PLAYBOOKS, ROOT, files, load, name, text

DECISIONS = sorted(path for path in (ROOT / "docs/decisions").glob("*.md") if path.name != "README.md")
DOCUMENTS = files(".md")
EVERY_DOCUMENT = pytest.mark.parametrize("path", DOCUMENTS, ids=name)


def headings(path, level):
    return re.findall(rf"^{'#' * level} (.+)$", text(path), re.MULTILINE)


def targets():
    return set(re.findall(r"^([a-z-]+):.*## ", text(ROOT / "Makefile"), re.MULTILINE))


def command_names():
    tree = typer.main.get_command(commands)
    return {entry for entry, command in tree.commands.items()} | {
        f"{entry} {inner}" for entry, command in tree.commands.items() for inner in getattr(command, "commands", {})
    }


def code(path):
    """What stands in backquotes or in a fenced block: what a reader may type."""
    content = text(path)
    return "\n".join(re.findall(r"```[a-z]*\n(.*?)```", content, re.DOTALL) + re.findall(r"`([^`\n]+)`", content))


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_each_runbook_has_a_page_of_the_same_shape(playbook):
    page = ROOT / f"docs/runbooks/{playbook.stem}.md"
    assert page.is_file()
    assert headings(page, 2) == list(HEADINGS)
    assert f"docs/runbooks/{playbook.stem}.md" in text(playbook), "the playbook does not name its page"


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_each_page_of_a_runbook_shows_the_plays_of_its_playbook(playbook):
    plays = [play["name"].partition(" ")[2] if ": " not in play["name"] else play["name"] for play in load(playbook)]
    titles = [re.search(r"(\d+/\d+): (.+)", play).groups() for play in plays]
    page = text(ROOT / f"docs/runbooks/{playbook.stem}.md")
    section = page.partition("## How long it takes\n")[2].partition("\n## ")[0]
    assert re.findall(r"^\| (\d+/\d+) ([^|]+?) \|", section, re.MULTILINE) == titles


@pytest.mark.parametrize("playbook", PLAYBOOKS, ids=lambda path: path.stem)
def test_the_phases_beside_the_plays_are_those_that_the_page_explains(playbook):
    page = text(ROOT / f"docs/runbooks/{playbook.stem}.md")
    section = page.partition("## How long it takes\n")[2].partition("\n## ")[0]
    beside = {
        phase for row in re.findall(r"^\| \d+/\d+ [^|]+\|([^|]+)\|", section, re.MULTILINE) for phase in re.findall(r"[A-Z]+", row)
    }
    explained = set(re.findall(r"^\| ([A-Z]{4,}) \|", page.partition("## What happens\n")[2].partition("\n## ")[0], re.MULTILINE))
    assert not explained or beside == explained
    unknown = {phase for phase in beside if not any(f'"{phase}"' in text(path) for path in files(".py") if "plugins" in path.parts)}
    assert unknown == set()


@pytest.mark.parametrize("path", DECISIONS, ids=lambda path: path.stem)
def test_each_decision_explains_gives_reasons_and_an_example(path):
    assert len(headings(path, 1)) == 1
    assert headings(path, 2)[:3] == ["Explanation", "Rationale", "Example"]
    assert path.name in text(ROOT / "docs/decisions/README.md"), "the list of decisions does not name it"


@EVERY_DOCUMENT
def test_documents_name_only_what_can_be_typed(path):
    typed = code(path)
    assert set(re.findall(r"(?<![\w-])make ([a-z][a-z-]*)", typed)) <= targets()
    known = command_names()
    for words in re.findall(r"(?<![\w./-])relevo ([a-z]+(?: [a-z]+)?)", typed):
        first, _, second = words.partition(" ")
        assert first in known, f"relevo {words}"
        if any(entry.startswith(f"{first} ") for entry in known) and second:
            assert words in known, f"relevo {words}"
    for runbook in re.findall(r"(?:relevo run |playbooks/)([a-z_]+)", typed):
        assert (ROOT / f"playbooks/{runbook}.yml").exists() or runbook == "tasks", runbook
    for script in re.findall(r"(?<![\w/])(bin/[a-z]+)", typed):
        assert (ROOT / script).exists(), script


@EVERY_DOCUMENT
def test_links_lead_somewhere(path):
    for link in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text(path)):
        assert (path.parent / link).exists(), link


def test_the_readme_lists_every_command():
    listed = text(ROOT / "README.md")
    assert {f"make {target}" for target in targets() if f"`make {target}`" not in listed} == set()
    assert {entry for entry in command_names() if f"`relevo {entry}" not in listed} - {"results"} == set()


def test_every_gate_is_explained_to_the_one_who_reads_a_refusal():
    judged = text(ROOT / "collections/ansible_collections/relevo/dr/plugins/module_utils/gates.py")
    explained = text(ROOT / "docs/runbooks/check.md")
    assert {gate for gate in re.findall(r'"(G\d\d|HA|LOSS|REACH|FORKS|SIGNER)"', judged) if f"`{gate}`" not in explained} == set()


def test_every_gate_has_its_line_and_every_line_its_gate():
    sources = [path for path in files(".py") if path.is_relative_to(ROOT / "collections") or path.is_relative_to(ROOT / "runner")]
    in_code = {found for path in sources for found in gate_ids.find(text(path))}
    in_code |= {
        gate
        for path in files(".yml")
        if path.is_relative_to(ROOT / "roles")
        for gate in re.findall(r"^    gate: ([A-Z]+)$", text(path), re.MULTILINE)
    }
    page = text(ROOT / "docs/gates.md")
    told = {gate for row in re.findall(r"^\| (`[^|]+`) \|", page, re.MULTILINE) for gate in re.findall(r"`([A-Z0-9]+)`", row)}
    assert in_code - told == set()
    everywhere = "\n".join(map(text, sources))
    assert {gate for gate in told - in_code if f'"{gate}"' not in everywhere} == set()


def test_what_may_be_accepted_by_name_is_said_so():
    accepted = set(re.findall(r"^\| `([A-Z0-9]+)` \|[^|]*\| [^|]*by name \|", text(ROOT / "docs/gates.md"), re.MULTILINE))
    assert accepted == gates.ACCEPTABLE


def test_every_page_has_one_place_on_the_site():
    placed = [
        (ROOT / listing).parent.joinpath(page).resolve()
        for listing, parts in build.places(ROOT).items()
        for part in parts
        for page in part.pages
    ]
    assert len(placed) == len(set(placed))
    pages = {path for path in DOCUMENTS if path.is_relative_to(ROOT / "docs")} - {ROOT / build.START}
    assert {name(path) for path in pages - set(placed)} == set()


def test_every_runbook_that_a_message_sends_a_reader_to_exists():
    named = {
        (runbook, name(path))
        for path in files(".py", ".yml", ".md")
        for runbook in re.findall(r"playbooks/([a-z_]+)\.yml", text(path))
        if not path.is_relative_to(ROOT / "tests")
    }
    assert {entry for entry in named if not (ROOT / f"playbooks/{entry[0]}.yml").exists()} == set()
