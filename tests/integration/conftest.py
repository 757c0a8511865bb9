"""The laboratory in a test's hands: protected once, kept as a snapshot, brought back for every test that breaks it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ansible_collections.relevo.lab.plugins.module_utils import container
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Laboratory

ROOT = Path(__file__).resolve().parents[2]
INVENTORY = ROOT / "inventories" / "lab"
BIN = ROOT / ".venv" / "bin"
SNAPSHOT = "protected"
DRILL = {
    "dr_mode": "drill",
    "dr_scope": "site",
    "dr_target_site": "b",
    "dr_confirm": "drill production minimarket to b",
}

# What a refused run must leave as it was: files, units, packet filter. Relevo's own lock and journal are among them.
_DIGEST = """
import hashlib, json, os, subprocess
found = {}
for top in ("/etc", "/var/lib/relevo", "/usr/local"):
    for directory, _, files in os.walk(top):
        for name in files:
            path = os.path.join(directory, name)
            if os.path.islink(path):
                found[path] = os.readlink(path)
            elif os.path.isfile(path):
                found[path] = hashlib.sha256(open(path, "rb").read()).hexdigest()
for words in (["systemctl", "list-units", "--all"], ["systemctl", "list-unit-files"]):
    lines = subprocess.run([*words, "--type=service", "--plain", "--no-legend", "--no-pager"], capture_output=True, text=True).stdout.splitlines()
    kept = [line for line in lines if any(name in line for name in ("postgresql", "minimarket", "relevo", "pgbackrest"))]
    found.update({words[1] + " " + line.split()[0]: " ".join(line.split()) for line in kept})
found["nft"] = subprocess.run(["nft", "list", "ruleset"], capture_output=True, text=True).stdout
print(json.dumps(found))
"""
CATALOG = """
select md5(string_agg(line, ',' order by line)) from (
  select concat('class ', oid, relname, relkind) from pg_class where relnamespace not in (select oid from pg_namespace where nspname like 'pg_temp%')
  union all select concat('role ', oid, rolname, rolpassword) from pg_authid
  union all select concat('setting ', name, setting) from pg_settings where source in ('configuration file', 'database', 'user')
  union all select concat('slot ', slot_name) from pg_replication_slots) as state (line)
"""


@dataclass(frozen=True)
class Run:
    """One finished run of a runbook."""

    code: int
    output: str
    record: dict[str, Any]


def family(pid: int) -> set[int]:
    """A process and all that came of it: the workers of ansible-playbook have sessions of their own."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parents[int(path.parent.name)] = int(path.read_text().rpartition(")")[2].split()[1])
    found = [pid]
    for each in found:
        found += [child for child, parent in parents.items() if parent == each]
    return set(found)


def stop_all(pid: int) -> set[int]:
    """Stand still, all of it: who stands still makes no further process."""
    stopped: set[int] = set()
    while new := family(pid) - stopped:
        for each in new:
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGSTOP)
        stopped |= new
    return stopped


def kill_all(pid: int) -> None:
    """As a controller whose power fails: nothing of the run is left on it."""
    for each in stop_all(pid):
        with contextlib.suppress(ProcessLookupError):
            os.kill(each, signal.SIGKILL)


class Bench:
    """Everything a test does to the laboratory."""

    def __init__(self, store: Path, inventory: Path = INVENTORY) -> None:
        self.lab = Laboratory.at()
        self.store, self.inventory = store, inventory
        self.environment = {
            **os.environ,
            "PATH": f"{BIN}:{os.environ['PATH']}",
            "RELEVO_STORE": str(store),
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
        }

    def with_inventory(self, inventory: Path) -> Bench:
        """The same laboratory, seen through another inventory."""
        return Bench(self.store, inventory)

    def verb(self, *words: str) -> str:
        """bin/lab, which fails when the fault did not bite."""
        done = subprocess.run([ROOT / "bin" / "lab", *words], capture_output=True, text=True, check=False, timeout=120)
        assert done.returncode == 0, f"bin/lab {' '.join(words)}: {done.stderr}"
        return done.stdout.strip()

    def leader(self, host: str) -> int:
        """The host's process 1, as this machine numbers it."""
        return container.leader(self.lab, self.lab.host(host))

    def inside(self, host: str, *argv: str, text: str | None = None, check: bool = True) -> str:
        """Run a command on a host from outside, network or not."""
        words = ["nsenter", "--target", str(self.leader(host)), "--mount", "--uts", "--ipc", "--net", "--pid", "--", *argv]
        done = subprocess.run(words, input=text, capture_output=True, text=True, check=False, timeout=60)
        assert not check or done.returncode == 0, f"{host}: {' '.join(argv)}: {done.stderr}{done.stdout}"
        return done.stdout.strip()

    def sql(self, host: str, statement: str, database: str = "minimarket", *, check: bool = True) -> str:
        return self.inside(host, "runuser", "-u", "postgres", "--", "psql", "-XAtq", "-d", database, "-c", statement, check=check)

    def freeze(self, host: str, *, frozen: bool) -> None:
        """The whole machine stands still, as a virtual machine that is paused."""
        path = container.group(self.lab, self.lab.host(host))
        (path / "cgroup.freeze").write_text("1" if frozen else "0")
        state = f"frozen {int(frozen)}"
        self.wait("the freezer has acted", lambda: state in (path / "cgroup.events").read_text(), 10, 0.01)

    @contextlib.contextmanager
    def frozen(self, host: str) -> Iterator[None]:
        self.freeze(host, frozen=True)
        try:
            yield
        finally:
            self.freeze(host, frozen=False)

    def fence(self, host: str) -> dict[str, Any]:
        """The fence mark, read from the host's disk."""
        try:
            mark: dict[str, Any] = json.loads((self.lab.root(self.lab.host(host)) / "var/lib/relevo/fence.json").read_text())
        except FileNotFoundError:
            return {}
        return mark

    def writable(self, host: str) -> bool:
        on = container.is_on(self.lab, self.lab.host(host))
        return on and self.sql(host, "select not pg_is_in_recovery()", "postgres", check=False) == "t"

    def digest(self, *names: str) -> dict[str, str]:
        """What each of these hosts (none: all) that is on holds, by host and place; equal digests mean that nothing was changed."""
        found = {}
        for host in self.lab.hosts():
            if (not names or host.name in names) and container.is_on(self.lab, host):
                held = json.loads(self.inside(host.name, "python3", "-", text=_DIGEST))
                found |= {f"{host.name} {place}": content for place, content in held.items()}
        for host in ("a-db1", "b-db1"):
            if f"{host} nft" in found:
                found[f"{host} catalog"] = self.sql(host, CATALOG, check=False)
        return found

    def start(self, runbook: str, *options: str, **variables: str) -> subprocess.Popen[str]:
        """ansible-playbook in its own session, as an operator would start it."""
        extra = [word for name, value in variables.items() for word in ("-e", json.dumps({name: value}))]
        return subprocess.Popen(
            [BIN / "ansible-playbook", "-i", self.inventory, ROOT / "playbooks" / f"{runbook}.yml", *options, *extra],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=self.environment,
            start_new_session=True,
        )

    def finish(self, process: subprocess.Popen[str], seconds: float = 300) -> Run:
        output, _ = process.communicate(timeout=seconds)
        return Run(process.returncode, output, self.record("latest"))

    def run(self, runbook: str, *options: str, **variables: str) -> Run:
        return self.finish(self.start(runbook, *options, **variables))

    def play(self, *words: str | Path, within: tuple[str | Path, ...] = (), **environment: str) -> Run:
        """ansible-playbook with a playbook of the test's own. within: a command that runs it, in a view of its own."""
        done = subprocess.run(
            [*within, BIN / "ansible-playbook", "-i", self.inventory, *words],
            capture_output=True,
            text=True,
            check=False,
            timeout=900,
            cwd=ROOT,
            env={**self.environment, **environment},
            stdin=subprocess.DEVNULL,
        )
        return Run(done.returncode, done.stdout + done.stderr, self.record("latest"))

    def relevo(self, *words: str, seconds: float = 300, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BIN / "relevo", *words],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
            env={**self.environment, **environment},
            timeout=seconds,
            stdin=subprocess.DEVNULL,
        )

    def record(self, run: str) -> dict[str, Any]:
        done = self.relevo("results", "show", run, "--json")
        assert done.returncode == 0, done.stderr
        found: dict[str, Any] = json.loads(done.stdout)
        return found

    def journal(self, host: str) -> list[dict[str, Any]]:
        """The phase journal on a host, read from its disk, whether it is on or off."""
        path = self.lab.root(self.lab.host(host)) / "var/lib/relevo/journal.jsonl"
        if not path.exists():
            return []
        return [json.loads(line) for line in path.read_text().splitlines() if line.endswith("}")]

    def begun(self, host: str, phase: str) -> bool:
        """Whether a phase was begun there; it may be over already, as some take a few milliseconds."""
        return any(entry["phase"] == phase and entry["kind"] == "intent" for entry in self.journal(host))

    def lock_of(self, host: str) -> dict[str, Any] | None:
        """The lock file on a host, read from its disk."""
        try:
            found: dict[str, Any] = json.loads((self.lab.root(self.lab.host(host)) / "var/lib/relevo/lock.json").read_text())
        except FileNotFoundError:
            return None
        return found

    def acknowledged(self) -> int:
        """How many ledger entries the witness has seen acknowledged."""
        path = self.lab.root(self.lab.host("wit1")) / "var/lib/relevo-ledger/ledger.jsonl"
        return path.read_text().count('"acknowledged"') if path.exists() else 0

    def health(self, host: str) -> dict[str, Any]:
        answer = self.inside(host, "curl", "-s", "-m", "3", "http://127.0.0.1:8080/health", check=False)
        found: dict[str, Any] = json.loads(answer) if answer.startswith("{") else {}
        return found

    def wait(self, what: str, condition: Callable[[], bool], seconds: float = 60, pause: float = 0.1) -> None:
        limit = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < limit, f"{what}: not within {seconds:g} s"
            time.sleep(pause)

    def wait_until_serving(self) -> None:
        """The healthy state: a streams to b, the application serves from a, the ledger is acknowledged."""
        streaming = "select count(*) from pg_stat_replication where state = 'streaming'"
        self.wait("b-db1 streams from a-db1", lambda: self.sql("a-db1", streaming, check=False) == "1", 90)
        self.wait("the application is healthy", lambda: self.health("a-app1").get("in_recovery") is False)
        before = self.acknowledged()
        self.wait("the ledger is acknowledged", lambda: self.acknowledged() > before)


def made_by(store: Path) -> str:
    """The code that protects, and the store whose key the cluster believes."""
    sources = [
        path
        for top in ("roles", "collections")
        for path in sorted((ROOT / top).rglob("*"))
        if path.suffix in (".py", ".yml", ".j2")
    ]
    return f"{store} {hashlib.sha256(b''.join(path.read_bytes() for path in sources)).hexdigest()}"


def store_of_the_tests() -> Path:
    return Path(os.environ.get("RELEVO_STORE") or ROOT / ".relevo")


def protect() -> Bench:
    """A protected cluster, kept as a snapshot; one that this code made already is taken as it is."""
    store = store_of_the_tests()
    bench = Bench(store)
    if not bench.lab.hosts():
        pytest.fail("The laboratory is not up. Run 'make lab' first, as root.")
    stamp = bench.lab.state / "snapshots" / SNAPSHOT / "made-by"
    this_code = made_by(store)
    if not (stamp.exists() and stamp.read_text() == this_code):
        if stamp.parent.exists():
            # Made by other code: go back to where a protected cluster was, and bring it up to date.
            bench.verb("reset", SNAPSHOT)
            bench.wait_until_serving()
        run = bench.run("protect", dr_allow_restart="true")
        assert run.code == 0, run.output[-3000:]
        bench.wait_until_serving()
        bench.verb("snapshot", SNAPSHOT)
        bench.wait_until_serving()
        stamp.write_text(this_code)
    return bench


@pytest.fixture(scope="session")
def protected() -> Bench:
    """The protected cluster, in whatever state the last test left it."""
    return protect()


@pytest.fixture
def bench(protected: Bench) -> Bench:
    """The protected cluster as it was kept."""
    protected.verb("reset", SNAPSHOT)
    protected.wait_until_serving()
    return protected


@pytest.fixture
def healthy(protected: Bench) -> Bench:
    """The protected cluster serving from site a; brought back only when a test before left it otherwise."""
    if not protected.writable("a-db1") or not protected.health("a-app1"):
        protected.verb("reset", SNAPSHOT)
    protected.wait_until_serving()
    return protected
