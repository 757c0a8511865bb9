"""Measure the failover beside bench/failover.sh, an operator's own script, on the same laboratory in one run.

  PYTHONPATH=.:collections .venv/bin/python bench/compare.py [--rounds 5] [--cases planned crash armed-crash]

The laboratory must be up and protected. Each round starts from the same snapshot. Clients watch from the witness: two commit every 5 ms
on whichever database takes it, one asks the application for /health every 5 ms.
Armed: the run waits, and the last key of relevo go is pressed. Prints medians in seconds and their ratios as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import time
from collections.abc import Callable

import pexpect

from relevo import armed
from relevo.paths import Place
from tests.integration.conftest import DRILL, ROOT, Bench, protect

# Runs on the witness until its input ends; prints the longest hole between two successes, in seconds. A client that has no success at the end has no hole.
# Each database host has a client of its own with an open connection: one that tries a dead host first would measure its own time-out.
WATCH = """
import json, sys, threading, time, urllib.request
import psycopg
passfile = sys.argv[1]
told, lock = threading.Event(), threading.Lock()
last, holes = {}, {}
def longest(name, attempt):
    while not told.is_set():
        try:
            attempt()
        except Exception:
            time.sleep(0.005)
            continue
        now = time.monotonic()
        with lock:
            holes[name] = max(holes.get(name, 0.0), now - last.get(name, now))
            last[name] = now
        time.sleep(0.005)
class Database:
    def __init__(self, host):
        self.host, self.connection = host, None
    def __call__(self):
        if self.connection is None:
            self.connection = psycopg.connect(
                "host=" + self.host + " user=relevo_observer dbname=minimarket connect_timeout=2 sslmode=require"
                " keepalives_idle=1 tcp_user_timeout=300 passfile=" + passfile, autocommit=True)
        try:
            self.connection.execute("update relevo.observation set count = count + 1 where observer = 'wit1'")
        except psycopg.errors.ReadOnlySqlTransaction:
            raise
        except Exception:
            connection, self.connection = self.connection, None
            connection.close()
            raise
def application():
    urllib.request.urlopen("http://a-app1:8080/health", timeout=0.5).read()
clients = (("db", Database("a-db1")), ("db", Database("b-db1")), ("app", application))
threads = [threading.Thread(target=longest, args=pair) for pair in clients]
[thread.start() for thread in threads]
sys.stdin.read()
told.set()
[thread.join() for thread in threads]
print(json.dumps({name: hole for name, hole in holes.items() if time.monotonic() - last[name] < 3}))
"""


def watch(bench: Bench) -> subprocess.Popen[str]:
    leader = bench.leader("wit1")
    words = ["nsenter", "--target", str(leader), "--mount", "--uts", "--ipc", "--net", "--pid", "--"]
    words += ["python3", "-c", WATCH, "/etc/relevo/observer.pgpass"]
    return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def baseline(bench: Bench, mode: str) -> list[str]:
    """The operator's script, with what it needs to know of this laboratory in its environment."""
    lab = bench.lab
    options = f"-i {lab.state}/ssh/operator -o UserKnownHostsFile={lab.state}/ssh/known_hosts -o IdentitiesOnly=yes -l sre"
    version = bench.inside("b-db1", "sh", "-c", "ls /usr/lib/postgresql")
    os.environ.update(
        SSH=f"ssh {options} -o ControlMaster=auto -o ControlPath={lab.state}/ssh/control/bench-%h -o ControlPersist=60",
        UNIT=f"postgresql@{version}-main",
        PGBIN=f"/usr/lib/postgresql/{version}/bin",
        PGDATA=f"/var/lib/postgresql/{version}/main",
        ENVFILE="/etc/minimarket/app.env",
        DEAD_CMD=f"{ROOT}/bench/is_off.sh a-db1",
        HEALTH=f"http://{lab.host('a-app1').address}:8080/health",
        PROBE_SQL="select pg_logical_emit_message(true, 'bench', 'x')",
    )
    for host in ("a-db1", "b-db1", "a-app1"):
        bench.inside(
            host, "sh", "-c", "echo 'sre ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/zz-bench && chmod 440 /etc/sudoers.d/zz-bench"
        )
        # A connection that is open already, as an operator's would be.
        subprocess.run([*shlex.split(os.environ["SSH"]), lab.host(host).address, "true"], check=True)
    # The script replaces the old address as it stands in the file.
    bench.inside("a-app1", "sed", "-i", f"s/@a-db1/@{lab.host('a-db1').address}/", "/etc/minimarket/app.env")
    bench.inside("a-app1", "sed", "-i", "s/verify-full/verify-ca/", "/etc/minimarket/app.env")
    return [str(ROOT / "bench/failover.sh"), mode, *(lab.host(host).address for host in ("a-db1", "b-db1", "a-app1"))]


WISH = {**DRILL, "dr_scope": "database", "dr_accept_loss_seconds": "5"}


def started(bench: Bench, command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=ROOT,
        env=bench.environment | os.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


# Each gets everything ready that may be ready before the clock, and returns what is done when it begins.
Go = Callable[[], subprocess.Popen[str]]


def bash(bench: Bench, mode: str) -> Go:
    command = baseline(bench, mode)
    return lambda: started(bench, command)


def ours(bench: Bench, mode: str) -> Go:
    baseline(bench, mode)
    words = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(bench.inventory), str(ROOT / "playbooks/failover.yml")]
    words += [word for name, value in WISH.items() for word in ("-e", json.dumps({name: value}))]
    return lambda: started(bench, words)


def ours_armed(bench: Bench, mode: str) -> Go:
    """Armed, and the words of `relevo go` typed but for the last key."""
    baseline(bench, mode)
    words = [word for name, value in WISH.items() for word in ("-e", f"{name}={value}")]
    run = started(bench, [str(ROOT / ".venv/bin/relevo"), "arm", "failover", "-i", str(bench.inventory), *words])
    place = Place(bench.store, "")
    bench.wait("a run is armed", lambda: any(one.ready for one in armed.waiting(place)), 120)
    [waiting] = armed.waiting(place)
    typing = pexpect.spawn(
        str(ROOT / ".venv/bin/relevo"), ["go", waiting.run_id], env=bench.environment | os.environ, encoding="utf-8", timeout=60
    )
    typing.expect_exact("> ")
    typing.send(waiting.confirm)

    def go() -> subprocess.Popen[str]:
        typing.send("\r")
        return run

    return go


WAYS = {"bash": bash, "relevo": ours, "armed": ours_armed}
# The script, and what stands beside it.
CASES = {"planned": ("planned", "relevo"), "crash": ("crash", "relevo"), "armed-crash": ("crash", "armed")}


def one_round(bench: Bench, mode: str, who: str) -> dict[str, float]:
    bench.verb("reset", "protected")
    bench.wait_until_serving()
    go = WAYS[who](bench, mode)
    watcher = watch(bench)
    time.sleep(3)
    if mode == "crash":
        bench.verb("power-off", "a-db1")
    began = time.monotonic()
    process = go()
    output, _ = process.communicate(timeout=300)
    seconds = time.monotonic() - began
    if process.returncode != 0:
        raise SystemExit(f"{who} {mode}: {output[-4000:]}")
    # The clients still see the new side serve: a hole ends with a success.
    time.sleep(3)
    output, _ = watcher.communicate(timeout=30)
    return {**json.loads(output), "command": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=tuple(CASES), default=tuple(CASES))
    given = parser.parse_args()
    bench = protect()
    print("| case | measure | bash, s | Relevo, s | ratio |\n|---|---|---|---|---|")
    for case in given.cases:
        mode, way = CASES[case]
        found: dict[str, list[dict[str, float]]] = {"bash": [], way: []}
        # In turn: the machine's own pace changes from minute to minute.
        for _ in range(given.rounds):
            for who, rounds in found.items():
                rounds.append(one_round(bench, mode, who))
        for measure in ("db", "app", "command"):
            script, relevo = (statistics.median(each[measure] for each in found[who]) for who in ("bash", way))
            print(f"| {case} | {measure} | {script:.2f} | {relevo:.2f} | {relevo / script:.2f} |", flush=True)


if __name__ == "__main__":
    main()
