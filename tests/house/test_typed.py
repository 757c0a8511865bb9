"""Every command that the documents tell somebody to type is run here as far as it runs without a laboratory, or is walked on one; none is left out."""

from __future__ import annotations

import argparse
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from unittest import mock

import pytest
import typer
from ansible_collections.relevo.dr.plugins.module_utils import inputs

from docs.site.reference import plugins
from relevo.cli import commands
from tests.house import typed
from tests.house.tree import COLLECTION, ROOT, name, text
from tests.house.typed import Command, Line

EVERYTHING = typed.everything()
TREE = typer.main.get_command(commands)
# typer keeps the name of its parser's own error to itself.
USAGE_ERROR = typer.BadParameter.__mro__[1]
EXAMPLE = "inventories/example"
# Pages whose lines are typed one after the other on the laboratory, by the test that is named.
WALKED = {
    "docs/tutorial.md": "tests/integration/test_tutorial.py",
    "docs/adopting.md": "tests/integration/test_tutorial.py",
    "docs/by_hand.md": "tests/integration/test_guard.py",
    "docs/molecule.md": "tests/molecule/test_own_application.py",
}
# Programs of others, outside what can be run here: by which test of ours the same is shown.
OF_OTHERS = {
    ("age", "--decrypt"): "tests/unit/dr/test_escrow.py",
    ("tar", "-x"): "tests/unit/dr/test_escrow.py",
    ("aws", "secretsmanager"): "tests/unit/dr/test_escrow.py",
    ("base64", "-d"): "tests/unit/dr/test_escrow.py",
    ("systemd-nspawn", "--boot"): "tests/integration/test_files.py",
    ("ansible-rulebook", "-r"): "tests/unit/dr/test_event_source.py",
    ("sha256sum", "PACK"): "tests/integration/test_pack.py",
    ("sh", "PACK"): "tests/integration/test_pack.py",
    (".", "/opt/relevo/escape/environment"): "tests/integration/test_pack.py",
}


class ParsedError(Exception):
    """A program's own parser took its arguments; it goes no further."""


def parsed_by(program: str, words: list[str]) -> None:
    """Hand arguments to the parser of a program of ours that uses argparse."""
    taken = argparse.ArgumentParser.parse_args

    def parse(self: argparse.ArgumentParser, *_: object, **__: object) -> None:
        taken(self, words)
        raise ParsedError

    with (
        mock.patch.object(argparse.ArgumentParser, "parse_args", parse),
        mock.patch.object(sys, "argv", [program, *words]),
        pytest.raises(ParsedError),
    ):
        runpy.run_path(str(ROOT / program), run_name="__main__")


def run_here(*words: str) -> str:
    environment = {
        **os.environ,
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False, timeout=120, env=environment)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stdout}{done.stderr}"
    return done.stdout


def of_the_command_line(command: Command) -> None:
    """The real parser takes it; what goes into a run is what a run takes."""
    group, words = TREE, list(command.words[1:])
    while hasattr(group, "commands"):
        assert words and words[0] in group.commands, f"{command.line.place}: relevo has no command {' '.join(command.words[1:3])}"
        group = group.commands[words.pop(0)]
    try:
        context = group.make_context(command.words[1], words)
    except USAGE_ERROR as error:
        pytest.fail(f"{command.line.place}: {error}")
    if command.words[1] == "run":
        assert (ROOT / f"playbooks/{context.params['runbook']}.yml").is_file(), command.line.place
    for pair in context.params.get("extra") or []:
        key, _, value = pair.partition("=")
        if key != "dr_after":
            assert inputs.SCHEMA[key].fullmatch(value), f"{command.line.place}: {pair}"


def of_a_playbook(command: Command) -> None:
    (playbook,) = [word for word in command.words if word.startswith("playbooks/")]
    run_here("ansible-playbook", "-i", EXAMPLE, playbook, "--syntax-check")


def of_a_module(command: Command) -> None:
    """The hosts are those of the example too, the module is there, and takes these options."""
    words = list(command.words)
    module = words[words.index("-m") + 1]
    if module.startswith("relevo.dr."):
        known = plugins.strings(text(COLLECTION / f"plugins/modules/{module.rpartition('.')[2]}.py"))["DOCUMENTATION"]
        given = re.findall(r"(\w+)=", words[words.index("-a") + 1] if "-a" in words else "")
        assert [option for option in given if f"{option}:" not in known] == [], command.line.place
    assert re.search(r"hosts \([1-9]", run_here("ansible", words[1], "-i", EXAMPLE, "--list-hosts")), command.line.place


def of_the_inventory(command: Command) -> None:
    asked = [EXAMPLE if word.startswith("inventories/") else word for word in command.words]
    assert "@all" in run_here(*asked)


def of_make(command: Command) -> None:
    run_here("make", "--dry-run", *command.words[1:])


def of_the_laboratory(command: Command) -> None:
    words = list(command.words[1:])
    if words[0] in {"power-off", "power-status"}:
        assert len(words) == 2, command.line.place
        return
    parsed_by("collections/ansible_collections/relevo/lab/plugins/module_utils/faults.py", words)


def of_the_guard(command: Command) -> None:
    parsed_by("roles/dr_guard/files/relevo_guard.py", list(command.words[1:]))


def of_a_benchmark(command: Command) -> None:
    assert command.environment == {"PYTHONPATH": ".:collections"}, command.line.place
    parsed_by(command.words[1], list(command.words[2:]))


def of_the_share_program(command: Command) -> None:
    assert "COMBINE" in text(ROOT / "tests/unit/dr/test_escrow.py") and (ROOT / f"roles/dr_keys/files/{command.words[1]}").is_file()


def of_a_script(command: Command) -> None:
    run_here("sh", "-n", command.words[0])


def of_the_environment(command: Command) -> None:
    """A variable that is exported is one that something reads."""
    for pair in command.words[1:]:
        key = pair.partition("=")[0]
        known = key == "PATH" or any(key in text(path) for path in (ROOT / "runner/relevo").glob("*.py"))
        assert known, f"{command.line.place}: nothing reads {key}"


def of_a_walked_page(command: Command) -> None:
    page, test = name(command.line.path), ROOT / WALKED.get(name(command.line.path), "")
    assert page in WALKED, f"{command.line.place}: {' '.join(command.words)} is in no class"
    assert f'"{page}"' in text(test), f"{test} does not read {page}"


def of_others(command: Command) -> None:
    assert (ROOT / OF_OTHERS[command.words[:2]]).is_file()


Check = Callable[[Command], None]
BY_NAME: dict[str, Check] = {
    "relevo": of_the_command_line,
    "ansible-playbook": of_a_playbook,
    "ansible": of_a_module,
    "ansible-inventory": of_the_inventory,
    "make": of_make,
    "bin/lab": of_the_laboratory,
    "bin/bootstrap": of_a_script,
    "/usr/local/lib/relevo/relevo-guard": of_the_guard,
    ".venv/bin/python": of_a_benchmark,
    "python3": of_the_share_program,
    "export": of_the_environment,
    **dict.fromkeys(("systemctl", "cat", "flock", "rm", "cd", "cp", "install", "sleep", "git", "apt-get"), of_a_walked_page),
}


def check_of(command: Command) -> Check | None:
    """The class of a command; None where it is in no class."""
    return BY_NAME.get(command.words[0]) or (of_others if command.words[:2] in OF_OTHERS else None)


def distinct() -> list[Command]:
    """Each command once, where it stands first."""
    return list(
        {
            (command.line.path if check_of(command) is of_a_walked_page else None, command.words): command
            for command in reversed(EVERYTHING)
        }.values()
    )


def test_no_command_of_a_document_is_in_no_class() -> None:
    assert [f"{command.line.place}: {' '.join(command.words)}" for command in EVERYTHING if check_of(command) is None] == []
    assert len(EVERYTHING) > 100


@pytest.mark.parametrize("command", distinct(), ids=lambda command: command.line.place)
def test_a_command_of_a_document_can_be_typed(command: Command) -> None:
    check = check_of(command)
    assert check, "it is in no class"
    check(command)


@pytest.mark.parametrize("path", typed.documents(), ids=name)
def test_a_block_that_holds_no_commands_says_what_it_holds(path: Path) -> None:
    unknown = {
        f"line {number}: {language}" for number, language, _ in typed.blocks(path) if language not in typed.SHELLS + typed.OTHERS
    }
    assert unknown == set()


@pytest.mark.parametrize(
    "wrong",
    [
        "relevo run failovr -i INVENTORY",
        "relevo run failover -i INVENTORY --force",
        "relevo run failover -i INVENTORY -e dr_mood=drill",
        "relevo run failover -i INVENTORY -e dr_mode=drills",
        "relevo reslts list",
        "relevo report latest --format docx",
        "make labs",
        "bin/lab power-of a-db1",
        "bin/lab cut a-db1",
        "ansible dr_witnes -i inventories/lab -m relevo.dr.ledger_pace",
        "ansible dr_witness -i inventories/lab -m relevo.dr.ledger_pace -a minutes=3",
        "/usr/local/lib/relevo/relevo-guard start --because x",
        "export RELEVO_STORES=x",
        "rm -r /var/lib/relevo",
        "curl example.org",
    ],
)
def test_a_wrong_command_would_be_found(wrong: str) -> None:
    command = typed.commands(Line(ROOT / "docs/nowhere.md", 1, wrong))[0]
    check = check_of(command)
    if wrong.startswith("curl"):
        assert check is None
        return
    assert check
    with pytest.raises((AssertionError, KeyError, SystemExit, pytest.fail.Exception)):
        check(command)


def test_a_prompt_says_where_and_a_comment_says_how_it_ends(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "```\nb-db1# systemctl reboot\nrelevo run check -i X # exit 1: not yet\nFOO=1 a | b > c && d \\\n  e\n# a comment\n```\n```text\nnot typed\n```\n"
    )
    found = typed.lines(page)
    assert [(line.host, line.text, line.code, line.number) for line in found] == [
        ("b-db1", "systemctl reboot", 0, 2),
        ("controller", "relevo run check -i X # exit 1: not yet", 1, 3),
        ("controller", "FOO=1 a | b > c && d   e", 0, 5),
    ]
    assert [(command.environment, command.words) for line in found for command in typed.commands(line)] == [
        ({}, ("systemctl", "reboot")),
        ({}, ("relevo", "run", "check", "-i", "X")),
        ({"FOO": "1"}, ("a",)),
        ({}, ("b",)),
        ({}, ("d", "e")),
    ]
