"""The tutorial and the adoption, typed line by line as they stand on their pages, by somebody who has nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.house import typed
from tests.house.typed import Line

from .conftest import ROOT, Bench
from .test_protect import OURS, THEIRS, Pair, passed

pytestmark = pytest.mark.full

TUTORIAL = ROOT / "docs/tutorial.md"
ADOPTING = ROOT / "docs/adopting.md"


@dataclass
class Reader:
    """Somebody at a terminal: what one line sets or where it goes holds for the next ones."""

    place: Path
    replaced: dict[str, str] = field(default_factory=dict)
    kept: list[str] = field(default_factory=list)
    seconds: dict[str, float] = field(default_factory=dict)

    def types(self, line: Line, *, codes: tuple[int, ...] | None = None) -> str:
        """The line, in a shell; it ends as the page says."""
        text = line.text
        for word, other in self.replaced.items():
            text = text.replace(word, other)
        began = time.monotonic()
        script = "\n".join(["set -e", *self.kept, text])
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=self.place,
            capture_output=True,
            text=True,
            check=False,
            timeout=1800,
            stdin=subprocess.DEVNULL,
        )
        self.seconds[line.place] = time.monotonic() - began
        said = done.stdout + done.stderr
        assert done.returncode in (codes or (line.code,)), f"{line.place}: {text}: ended with {done.returncode}\n{said[-3000:]}"
        if text.startswith(("export ", "cd ")):
            self.kept.append(text)
        return said


def own_environment() -> None:
    """Nobody who begins has our variables."""
    for name in ("RELEVO_STORE", "RELEVO_INVENTORY", "RELEVO_PROJECT", "ANSIBLE_CONFIG"):
        os.environ.pop(name, None)


@pytest.fixture
def beginner(tmp_path: Path) -> Iterator[Reader]:
    """A new directory and the address of this repository; no laboratory is left of it."""
    before = dict(os.environ)
    own_environment()
    subprocess.run(["make", "--no-print-directory", "lab-down"], cwd=ROOT, check=True, capture_output=True, timeout=600)
    try:
        yield Reader(tmp_path, {"REPOSITORY": f"file://{ROOT}"})
    finally:
        os.environ.clear()
        os.environ.update(before)
        # The other tests make their laboratory again, with what it needs of this checkout.
        subprocess.run(["make", "--no-print-directory", "lab-down"], cwd=ROOT, check=True, capture_output=True, timeout=600)


def test_the_tutorial_as_it_stands(beginner: Reader, record_property) -> None:
    said: dict[str, str] = {}
    for line in typed.lines(TUTORIAL):
        # Whether every gate passes at that moment is the state's business, and the page says so.
        codes = (0, 1, 5) if "relevo status" in line.text else None
        said[line.text] = said.get(line.text, "") + beginner.types(line, codes=codes)
    record_property("seconds", beginner.seconds)

    def of(words: str) -> str:
        return " ".join(text for typed_line, text in said.items() if words in typed_line)

    assert "a-db1" in of("bin/lab show") and "b-scratch" in of("bin/lab show")
    assert "absent -> restored" in of("--check")
    assert "passed" in of("relevo results show latest")
    report = beginner.place / "relevo/.relevo/tutorial.html"
    assert "minimarket" in report.read_text()
    listed = of("relevo results list")
    assert all(runbook in listed for runbook in ("protect", "failover", "failback", "switchover"))
    assert "a-db1" in of("relevo status")


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    """A primary, and a standby that somebody made by hand, neither of which has ever heard of Relevo."""
    pair = Pair(tmp_path / "store")
    pair.up("absent")
    pair.up()
    try:
        yield pair
    finally:
        pair.up("absent")


# What the two hosts of the small laboratory do not have: a sandbox, an application to restore, a night.
BEYOND = ("restore_test", "relevo drill", "run nightly", "relevo readiness", "verify_backup")


def test_adopting_a_pair_as_it_stands(pair: Pair, tmp_path: Path, record_property) -> None:
    by_hand(pair)
    inode = pair.inside(THEIRS, "stat", "-c", "%i", standing(pair))
    target = ROOT / "inventories/production"
    assert not target.exists(), "an inventory of that name is here already; this test makes and removes it"
    reader = Reader(
        ROOT,
        {"/etc/relevo-controller/secrets": str(tmp_path / "secrets"), "run protect": "run protect -e dr_allow_restart=true"},
        [f'export RELEVO_STORE="{pair.store}" RELEVO_LAB_STATE="{pair.lab.state}"'],
    )
    try:
        for line in typed.lines(ADOPTING):
            if any(words in line.text for words in BEYOND):
                continue
            # The small laboratory has neither witness nor application: what a check says of that is not what the page is about.
            codes = (0, 1, 2, 5) if "relevo status" in line.text or "run check" in line.text else None
            reader.types(line, codes=codes)
            if line.text.startswith("cp -r"):
                edited(pair, target)
    finally:
        shutil.rmtree(target, ignore_errors=True)
    record_property("seconds", reader.seconds)
    assert pair.inside(THEIRS, "stat", "-c", "%i", standing(pair)) == inode, "the standby was built again"
    assert pair.streams()
    run = passed(Bench.run(pair, "protect"))
    assert run.record["verdict"] == "passed"
    assert OURS in run.output


def standing(pair: Pair) -> str:
    """A file of the standby's data, which is another one after a restore."""
    version = pair.inside(OURS, "sh", "-c", "ls /usr/lib/postgresql")
    return f"/var/lib/postgresql/{version}/main/PG_VERSION"


def by_hand(pair: Pair) -> None:
    """As an operator makes a standby: a role, a rule, pg_basebackup."""
    version = pair.inside(OURS, "sh", "-c", "ls /usr/lib/postgresql")
    unit, data = f"postgresql@{version}-main.service", f"/var/lib/postgresql/{version}/main"
    pair.sql(OURS, "create role theirs replication login password 'x'", "postgres")
    rule = "hostssl replication theirs all scram-sha-256"
    pair.inside(OURS, "bash", "-ec", f"sed -i '1i {rule}' /etc/postgresql/{version}/main/pg_hba.conf; systemctl reload {unit}")
    pair.inside(THEIRS, "bash", "-ec", f"pg_createcluster {version} main >/dev/null; rm -r {data}/*")
    pair.as_owner(
        THEIRS,
        f"/usr/lib/postgresql/{version}/bin/pg_basebackup",
        "-D",
        data,
        "-R",
        "-d",
        f"host={OURS} user=theirs password=x sslmode=require",
    )
    pair.inside(THEIRS, "systemctl", "start", unit)


def edited(pair: Pair, target: Path) -> None:
    """The copied example with what the page tells to say: these hosts and their store instead of those; their secrets lie beside the laboratory."""
    shutil.rmtree(target)
    shutil.copytree(pair.inventory, target)
