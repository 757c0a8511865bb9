"""Completion: what is offered where, in real shells, at once, and never a word when something is wrong."""

from __future__ import annotations

import os
import pty
import re
import select
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from relevo import cli, command_tree, completion
from relevo.completion import offers
from tests.house.tree import PLAYBOOKS, ROOT

RELEVO = Path(sys.executable).with_name("relevo")
RUNS = ["20261124T121530Z-failover-1f3a", "20261123T030000Z-verify_backup-77aa"]
CPU_SECONDS = 0.3


def store(place: Path, clusters: tuple[str, ...] = ("minimarket", "minimarket")) -> None:
    """A store with two runs, as far as completion reads it."""
    place.mkdir(parents=True, exist_ok=True)
    with sqlite3.connect(place / "relevo.db") as connection:
        connection.execute("create table record (run_id text, opened_at text)")
        connection.execute("create table summary (run_id text, cluster text)")
        connection.executemany("insert into record values (?, ?)", [(run, run[:16]) for run in RUNS])
        connection.executemany("insert into summary values (?, ?)", list(zip(RUNS, clusters, strict=True)))


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    store(tmp_path / "store")
    inventory = tmp_path / "production/group_vars"
    inventory.mkdir(parents=True)
    (inventory / "all.yml").write_text(
        'dr_cluster: payroll # ours\ndr_cluster_port: 5432\n# dr_cluster: nobody\ndr_cluster: "{{ x }}"\n'
    )
    return {
        "HOME": str(tmp_path),
        "PATH": f"{RELEVO.parent}:{os.environ['PATH']}",
        "RELEVO_STORE": str(tmp_path / "store"),
        "RELEVO_PROJECT": str(ROOT),
        "RELEVO_INVENTORY": str(tmp_path / "production"),
        "TERM": "dumb",
        "LC_ALL": "C.UTF-8",
    }


def words(environment: dict[str, str], *typed: str, begun: str = "") -> list[str]:
    return [one.word for one in offers(typed, begun, environment) if one.word.startswith(begun)]


def test_the_commands_that_are_offered_are_those_of_the_parser() -> None:
    current = command_tree.written(command_tree.build())
    assert completion.TREE.read_text() == current, "make it anew: .venv/bin/python -m relevo.command_tree"


def test_what_is_offered_where(environment: dict[str, str], tmp_path: Path) -> None:
    assert {"run", "status", "results", "readiness"} <= set(words(environment))
    assert words(environment, "results", begun="s") == ["schema", "show"]
    runbooks = [path.stem for path in PLAYBOOKS]
    assert words(environment, "run") == words(environment, "predict") == runbooks
    assert words(environment, "run", "-i", "somewhere", "-e", "a=b") == runbooks
    assert words(environment, "run", "failover") == []
    assert words(environment, "results", "list", "--runbook") == runbooks
    assert words(environment, "status") == words(environment, "readiness", "--cluster") == ["minimarket", "payroll"]
    assert words(environment, "report") == words(environment, "results", "show") == ["latest", *RUNS]
    assert words(environment, "report", "latest", "--format") == ["html", "pdf", "junit", "markdown", "json"]
    assert words(environment, "report", "latest", "-o") == []
    assert words(environment, "run", begun="--req") == ["--require-objectives"]
    other = tmp_path / "other.yml"
    other.write_text("all:\n  vars:\n    dr_cluster: 'shop'\n")
    assert words(environment, "status", "-i", str(other)) == ["minimarket", "shop"]


def test_the_example_is_nobodys_cluster(environment: dict[str, str], tmp_path: Path) -> None:
    for name in ("playbooks", "inventories/example", "inventories/ours"):
        (tmp_path / "project" / name).mkdir(parents=True)
    (tmp_path / "project/ansible.cfg").touch()
    (tmp_path / "project/inventories/example/all.yml").write_text("dr_cluster: example")
    (tmp_path / "project/inventories/ours/all.yml").write_text("dr_cluster: ours")
    environment |= {"RELEVO_PROJECT": str(tmp_path / "project"), "RELEVO_INVENTORY": ""}
    assert words(environment, "status") == ["minimarket", "ours"]


def test_runs_of_a_store_elsewhere_are_those_of_this_controller(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "state/relevo/runs" / RUNS[1]).mkdir(parents=True)
    environment |= {"RELEVO_STORE": "postgresql://nobody@192.0.2.1/dr", "XDG_STATE_HOME": str(tmp_path / "state")}
    assert words(environment, "report") == ["latest", RUNS[1]]
    assert words(environment, "status") == ["payroll"]


def test_a_name_that_a_shell_would_take_for_something_else_is_not_offered(environment: dict[str, str], tmp_path: Path) -> None:
    shutil.rmtree(tmp_path / "store")
    store(tmp_path / "store", ("$(touch x)", "-rf"))
    assert words(environment, "status") == ["payroll"]


def test_a_broken_store_takes_nothing_else_with_it(environment: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "store/relevo.db").write_text("no database at all")
    assert words(environment, "status") == ["payroll"]
    assert words(environment, "report") == ["latest"]


def keyed(line: str, shell: str) -> dict[str, str]:
    """What a shell hands over for a line whose end is where the cursor stands."""
    parts = line.split(" ")
    return {
        "_RELEVO_COMPLETE": f"complete_{shell}",
        "COMP_WORDS": "\n".join(parts),
        "COMP_CWORD": str(len(parts) - 1),
        "_TYPER_COMPLETE_ARGS": line,
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
@pytest.mark.parametrize("broken", ["store", "locked", "project", "inventory", "everything"])
def test_whatever_is_wrong_nothing_is_said(
    environment: dict[str, str], tmp_path: Path, capfd: pytest.CaptureFixture[str], shell: str, broken: str
) -> None:
    database = tmp_path / "store/relevo.db"
    lock = None
    if broken in {"store", "everything"}:
        database.write_text("no database at all")
    if broken == "locked":
        lock = sqlite3.connect(database)
        lock.execute("begin exclusive")
    if broken in {"project", "everything"}:
        environment["RELEVO_PROJECT"] = "/nowhere"
    if broken in {"inventory", "everything"}:
        environment["RELEVO_INVENTORY"] = "/nowhere/at/all"
    try:
        for line in (
            "relevo status ",
            "relevo report ",
            "relevo run ",
            'relevo status "',
            "relevo nothing here ",
            "relevo run -i",
            "",
        ):
            assert completion.answer(shell, environment | keyed(line, shell)) == 0, line
            shown = capfd.readouterr()
            assert shown.err == "", line
            assert "Error" not in shown.out
        assert completion.answer(shell, {}) == 0
        assert capfd.readouterr() == (("_files" if shell == "zsh" else ""), "")
    finally:
        if lock:
            lock.close()


def test_it_answers_before_the_next_key_stroke(environment: dict[str, str]) -> None:
    def seconds() -> float:
        times = os.times()
        return times.children_user + times.children_system

    took = []
    for _ in range(3):
        began = seconds()
        done = subprocess.run(
            [RELEVO],
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
            env=environment | keyed("relevo report ", "bash"),
            cwd="/",
        )
        took.append(seconds() - began)
    assert done.stdout.split() == ["latest", *RUNS]
    assert min(took) < CPU_SECONDS, took


class Terminal:
    """A real shell on a terminal of its own, and somebody who presses keys."""

    def __init__(self, argv: list[str], environment: dict[str, str]) -> None:
        self.terminal, theirs = pty.openpty()
        # The terminal becomes the shell's own, as one that somebody sits at.
        self.shell = subprocess.Popen(
            ["setsid", "--ctty", *argv],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            cwd=environment["HOME"],
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def types(self, keys: str) -> None:
        os.write(self.terminal, keys.encode())

    def sees(self, pattern: str, seconds: float = 60) -> str:
        """What is on the screen up to the pattern, which goes away with it."""
        limit = time.monotonic() + seconds
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < limit, f"{pattern!r} is not on the screen:\n{self.seen}"
            if select.select([self.terminal], [], [], 0.2)[0]:
                self.seen += os.read(self.terminal, 4096).decode(errors="replace")
        screen, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return screen

    def close(self) -> None:
        self.shell.kill()
        self.shell.wait()
        os.close(self.terminal)


@pytest.fixture
def terminals() -> Iterator[list[Terminal]]:
    opened: list[Terminal] = []
    yield opened
    for terminal in opened:
        terminal.close()


def test_bash_as_it_is_installed(environment: dict[str, str], terminals: list[Terminal]) -> None:
    environment["PS1"] = "ready> "
    first = Terminal(["bash", "--norc", "-i"], environment)
    terminals.append(first)
    first.sees("ready> ")
    first.types("relevo --install-completion\n")
    first.sees("installed in")
    second = Terminal(["bash", "-i"], environment)
    terminals.append(second)
    second.types("PS1='ready> '\n")
    second.sees("\nready> ")
    second.types("relevo run fail\t\t")
    second.sees(r"failback\s+failover")
    second.types("o\t")
    second.sees("failover ")
    second.types("\x15relevo status pay\t")
    second.sees("relevo status payroll ")
    second.types("\x15relevo report 20261124\t")
    second.sees(RUNS[0])
    second.types("\x15relevo report nothing\t\x15echo do'ne'\n")
    assert "Traceback" not in second.sees("done")


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """What --show-completion prints, asked as the shells ask it."""

    def shown(shell: str) -> str:
        monkeypatch.setenv("_RELEVO_COMPLETE", f"source_{shell}")
        with pytest.raises(SystemExit):
            cli.commands(args=[], prog_name="relevo")
        return capsys.readouterr().out

    return shown


@pytest.mark.skipif(shutil.which("zsh") is None, reason="no zsh here; bin/bootstrap browser installs it for the tests")
def test_zsh(environment: dict[str, str], terminals: list[Terminal], tmp_path: Path, script: Callable[[str], str]) -> None:
    (tmp_path / "relevo.zsh").write_text(script("zsh"))
    (tmp_path / ".zshrc").write_text("PS1='ready> '\nautoload -Uz compinit; compinit -u -D\nsource ~/relevo.zsh\n")
    shell = Terminal(["zsh", "-i"], environment | {"ZDOTDIR": str(tmp_path)})
    terminals.append(shell)
    shell.sees("ready> ")
    shell.types("relevo status pay\t")
    shell.sees("payroll")
    shell.types("\x15relevo run fail\t\t")
    shell.sees(r"failback\s+failover")
    shell.types("\x15relevo report 20261124\t")
    assert "command not found" not in shell.sees(RUNS[0])


@pytest.mark.skipif(shutil.which("fish") is None, reason="no fish here; bin/bootstrap browser installs it for the tests")
def test_fish(environment: dict[str, str], tmp_path: Path, script: Callable[[str], str]) -> None:
    (tmp_path / "relevo.fish").write_text(script("fish"))
    for line, expected in (
        ("relevo run fail", {"failback", "failover"}),
        ("relevo status ", {"minimarket", "payroll"}),
        ("relevo report 20261124", {RUNS[0]}),
    ):
        ask = f"source {tmp_path}/relevo.fish; complete -C '{line}'"
        done = subprocess.run(
            ["fish", "--no-config", "-c", ask], capture_output=True, text=True, check=True, timeout=60, env=environment
        )
        assert {one.split("\t")[0] for one in done.stdout.splitlines()} == expected, done.stdout
        assert done.stderr == ""
