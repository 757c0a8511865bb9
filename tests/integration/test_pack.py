"""An escape pack on bare hosts of both releases, without any network: it opens, and what it brought runs."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyrage
import pytest

from .bare import BareHost, tree

ROOT = Path(__file__).resolve().parents[2]
RELEVO = Path(sys.executable).with_name("relevo")
LANES = {"bookworm": ("3.11", "2.19."), "trixie": ("3.13", "2.21.")}
pytestmark = pytest.mark.full


@dataclass(frozen=True)
class Packed:
    """A pack of this checkout's commit, who opens it, and the secret that is in it."""

    file: Path
    identity: Path
    secret: Path


def checkout(directory: Path) -> Path:
    """This project at its commit: a pack is never made of what is in none."""
    subprocess.run(["git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(directory)], check=True)
    return directory


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Packed]:
    top = tmp_path_factory.mktemp("pack")
    project, inventory, secrets = checkout(top / "project"), top / "shop", Path("/var/lib/relevo-test-pack/secrets")
    shutil.copytree(ROOT / "inventories/example", inventory)
    secrets.mkdir(parents=True, exist_ok=True)
    (secrets / "become_password").write_text("geheim\n")
    people = [pyrage.x25519.Identity.generate() for _ in range(2)]
    (top / "ana.txt").write_text(f"{people[0]}\n")
    settings = inventory / "group_vars/all.yml"
    settings.write_text(settings.read_text().replace("/etc/relevo-controller/secrets", str(secrets)))
    words = [word for one in people for word in ("--recipient", str(one.to_public()))]
    environment = {
        **os.environ,
        "RELEVO_PROJECT": str(project),
        "RELEVO_STORE": os.environ.get("RELEVO_STORE") or str(ROOT / ".relevo"),
    }
    done = subprocess.run(
        [RELEVO, "pack", "-i", str(inventory), "-o", str(top), *words],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        cwd=project,
        timeout=1200,
    )
    assert done.returncode == 0, done.stderr
    (file,) = top.glob("relevo-pack-*.sh")
    assert "sha256 " in done.stdout
    shutil.rmtree(secrets.parent)
    yield Packed(file, top / "ana.txt", secrets)
    shutil.rmtree(top)  # a hundred megabytes, twice


@pytest.fixture(params=list(LANES))
def host(request: pytest.FixtureRequest, packed: Packed, tmp_path: Path) -> BareHost:
    found = BareHost("b-bare1", tree(request.param), tmp_path).ready()
    shutil.copy(packed.file, tmp_path / "given/pack.sh")
    shutil.copy(packed.identity, tmp_path / "given/ana.txt")
    return found


def test_a_bare_host_becomes_a_controller_without_any_network(host: BareHost, packed: Packed) -> None:
    python, ansible = LANES[host.tree.name]
    assert "It is whole, and for this host" in host.run("sh /given/pack.sh check")
    # Neither pip nor what puts pip into a virtual environment is there, and no way out.
    host.run("! python3 -m pip --version && ! python3 -c 'import ensurepip' && ! ip route | grep .")
    host.run("sh /given/pack.sh unpack /opt/relevo -i /given/ana.txt")
    assert host.path(str(packed.secret / "become_password")).read_text() == "geheim\n"
    said = host.run(
        ". /opt/relevo/escape/environment && relevo --version && ansible-playbook --version && relevo calendar"
        " && ansible-playbook -i $RELEVO_INVENTORY playbooks/failover.yml --syntax-check && relevo runbook failover --to b --format html | wc -c"
    )
    assert f"[core {ansible}" in said and f"python version = {python}." in said and "NEVER PASSED" in said
    # A run of it leaves a signed record, though nobody answers here.
    refused = host.run(". /opt/relevo/escape/environment && relevo run failover -e dr_mode=drill", code=2)
    assert "-e dr_scope is missing" in refused
    host.run(". /opt/relevo/escape/environment && relevo results verify latest")
    pages = host.run("cd /opt/relevo/escape && ls failover-to-*.html failover-to-*.pdf README.txt").split()
    assert pages == ["README.txt", *(f"failover-to-{site}.{form}" for site in "ab" for form in ("html", "pdf"))]


def test_an_unpacking_that_was_killed_goes_on(host: BareHost) -> None:
    process = host.start("sh /given/pack.sh unpack /opt/relevo -i /given/ana.txt")
    assert process.stdout is not None
    while "Installing" not in process.stdout.readline():
        assert process.poll() is None
    process.kill()
    process.wait(30)
    host.run("[ -e /opt/relevo/ansible.cfg ] && [ ! -e /opt/relevo/escape/ready ]")
    host.run("sh /given/pack.sh unpack /opt/relevo -i /given/ana.txt && . /opt/relevo/escape/environment && relevo --version")


def test_what_is_damaged_or_not_for_somebody_writes_nothing(host: BareHost) -> None:
    whole = (host.top / "given/pack.sh").read_bytes()
    for name, content in (
        ("cut", whole[:-4096]),
        ("changed", whole[: len(whole) // 2] + b"\x00" + whole[len(whole) // 2 + 1 :]),
        ("beginning", whole[:20000]),
    ):
        (host.top / f"given/{name}.sh").write_bytes(content)
        said = host.run(f"sh /given/{name}.sh unpack /opt/relevo -i /given/ana.txt", code=2)
        assert said.startswith("DAMAGED: ") and "Traceback" not in said
    (host.top / "given/eve.txt").write_text(str(pyrage.x25519.Identity.generate()))
    assert host.run("sh /given/pack.sh unpack /opt/relevo -i /given/eve.txt", code=2).startswith("NO_IDENTITY: ")
    assert host.run("sh /given/pack.sh unpack /usr -i /given/ana.txt", code=2).startswith("NOT_EMPTY: ")
    host.run("[ ! -e /opt/relevo ] && [ ! -e /opt/relevo.unpacking ]")
