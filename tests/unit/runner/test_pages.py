"""Pages of runbooks against their playbooks: this project's own all match, and each way not to match is named with its place."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from relevo import pages
from relevo.pages import HEADINGS, Surroundings
from tests.house.tree import ROOT

PAGE = "# Failover\n" + "".join(f"\n## {heading}\nsome words\n" for heading in HEADINGS).replace(
    "## Command\nsome words",
    "## Command\n```\nrelevo run failover -i INVENTORY -e dr_mode=drill\n```\nSee [check](check.md#gates).",
)
AROUND = Surroundings("# -e dr_mode=drill", {"dr_mode"}, {"failover", "check"}, lambda link: link == "check.md")


def test_every_page_of_this_project_matches_its_playbook() -> None:
    library = pages.look(ROOT)
    assert [problem.sentence for problem in library.problems] == []
    assert {path.stem for path in (ROOT / "playbooks").glob("*.yml")} == set(library.pages)
    assert library.of("recover_nothing").problems[0].sentence == (
        "playbooks/recover_nothing.yml: there is no such playbook; expected it beside its page"
    )


def test_a_page_that_matches() -> None:
    assert pages.check("failover", PAGE, AROUND).problems == ()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("## Undo\nsome words\n", "", "docs/runbooks/failover.md: the section 'Undo' is missing"),
        ("## Undo\nsome words\n", "## Undo\n\n", "docs/runbooks/failover.md, line 27: the section 'Undo' is empty"),
        (
            "dr_mode=drill",
            "dr_mood=drill",
            "docs/runbooks/failover.md, line 11: it names dr_mood, which no playbook and no role knows",
        ),
        ("-e dr_mode=drill", "", "docs/runbooks/failover.md: it does not name dr_mode, which the playbook takes"),
        ("check.md#", "chek.md#", "docs/runbooks/failover.md, line 13: it links to chek.md, which is not there"),
        (
            "relevo run failover",
            "relevo run check",
            "docs/runbooks/failover.md, line 9: the command does not start this runbook; expected",
        ),
        (
            "some words",
            "relevo run failovr",
            "docs/runbooks/failover.md, line 4: it names the runbook failovr, and there is no playbooks/failovr.yml",
        ),
    ],
)
def test_what_does_not_match_is_named_with_its_line(old: str, new: str, sentence: str) -> None:
    assert old in PAGE
    found = [problem.sentence for problem in pages.check("failover", PAGE.replace(old, new, 1), AROUND).problems]
    assert any(one.startswith(sentence) for one in found), found


def test_a_heading_in_a_block_of_code_is_none() -> None:
    page = PAGE.replace("## Undo\nsome words", "```\n## Undo\nsome words\n```")
    assert "the section 'Undo' is missing" in [problem.observed for problem in pages.check("failover", page, AROUND).problems]


def test_a_page_that_is_not_there() -> None:
    (problem,) = pages.check("failover", None, AROUND).problems
    assert problem.sentence.startswith("docs/runbooks/failover.md: there is no such page")


def test_a_variable_that_a_role_loses_is_found_on_the_page(tmp_path: Path) -> None:
    for name, text in (
        ("playbooks/failover.yml", "# -e dr_mode=drill\n"),
        ("docs/runbooks/failover.md", PAGE),
        ("docs/runbooks/check.md", "x"),
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    assert pages.look(tmp_path).problems == []
    (tmp_path / "playbooks/failover.yml").write_text("# no input\n")
    assert [problem.observed for problem in pages.look(tmp_path).problems] == [
        "it names dr_mode, which no playbook and no role knows"
    ]
    assert pages.look(tmp_path).commit is None


def test_pages_that_changed_since_a_commit(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        identity = ("-c", "user.name=a", "-c", "user.email=a@example.org")
        return subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    page = tmp_path / "docs/runbooks/failover.md"
    page.parent.mkdir(parents=True)
    page.write_text("one")
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    commit = git("rev-parse", "HEAD")
    assert pages.changed_since(tmp_path, commit) == []
    page.write_text("two")
    assert pages.changed_since(tmp_path, commit) == ["docs/runbooks/failover.md"]
    assert pages.changed_since(tmp_path, "f" * 40) is None
    assert pages.changed_since(tmp_path, "--output=x") is None


def test_links_are_looked_for_beside_the_page() -> None:
    asked: list[str] = []
    around = replace(AROUND, exists=lambda link: not asked.append(link))
    pages.check("failover", f"{PAGE}\n[a](../nightly.md#x) [b](https://example.org) [c](#here)", around)
    assert asked == ["check.md", "../nightly.md"]
