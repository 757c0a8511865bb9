"""Measure the failover beside bench/failover.sh, an operator's own script, on the same laboratory in one run.

  PYTHONPATH=.:collections .venv/bin/python bench/compare.py [--rounds 5] [--cases planned crash]

The laboratory must be up and protected. Each round starts from the same snapshot. Two clients watch from the witness: one commits every 5 ms
on whichever database takes it, one asks the application for /health every 5 ms. Prints medians in seconds and their ratios as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import statistics
import subprocess
import time

from tests.integration.conftest import DRILL, ROOT, Bench, protect

# Runs on the witness until its input ends; prints the longest hole between two successes, in seconds. A client that has no success at the end has no hole.
WATCH = """
import json, sys, threading, time, urllib.request
import psycopg
passfile = sys.argv[1]
told = threading.Event()
holes = {}
def longest(name, attempt):
    last, hole = None, 0.0
    while not told.is_set():
        try:
            attempt()
        except Exception:
            time.sleep(0.005)
            continue
        now = time.monotonic()
        hole = max(hole, now - last) if last is not None else 0.0
        last = now
        time.sleep(0.005)
    if last and time.monotonic() - last < 1:
        holes[name] = hole
state = {}
def database():
    if "connection" not in state:
        state["connection"] = psycopg.connect(
            "host=a-db1,b-db1 user=relevo_observer dbname=minimarket target_session_attrs=read-write connect_timeout=1"
            " sslmode=require keepalives_idle=1 tcp_user_timeout=300 passfile=" + passfile, autocommit=True)
    try:
        state["connection"].execute("update relevo.observation set count = count + 1 where observer = 'wit1'")
    except Exception:
        state.pop("connection").close()
        raise
def application():
    urllib.request.urlopen("http://a-app1:8080/health", timeout=0.5).read()
threads = [threading.Thread(target=longest, args=pair) for pair in (("db", database), ("app", application))]
[thread.start() for thread in threads]
sys.stdin.read()
told.set()
[thread.join() for thread in threads]
print(json.dumps(holes))
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


def ours(bench: Bench) -> list[str]:
    extra = {**DRILL, "dr_scope": "database", "dr_accept_loss_seconds": "5"}
    words = [str(ROOT / ".venv/bin/ansible-playbook"), "-i", str(bench.inventory), str(ROOT / "playbooks/failover.yml")]
    return [*words, *(word for name, value in extra.items() for word in ("-e", json.dumps({name: value})))]


def one_round(bench: Bench, mode: str, who: str) -> dict[str, float]:
    bench.verb("reset", "protected")
    bench.wait_until_serving()
    command = baseline(bench, mode) if who == "bash" else ours(bench)
    watcher = watch(bench)
    time.sleep(3)
    if mode == "crash":
        bench.verb("power-off", "a-db1")
    began = time.monotonic()
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=bench.environment | os.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise SystemExit(f"{who} {mode}: {done.stdout[-2000:]}{done.stderr[-2000:]}")
    # The clients still see the new side serve: a hole ends with a success.
    time.sleep(3)
    output, _ = watcher.communicate(timeout=30)
    return {**json.loads(output), "command": seconds}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--cases", nargs="+", choices=("planned", "crash"), default=("planned", "crash"))
    given = parser.parse_args()
    bench = protect()
    print("| case | measure | bash, s | Relevo, s | ratio |\n|---|---|---|---|---|")
    for mode in given.cases:
        found: dict[str, list[dict[str, float]]] = {"bash": [], "relevo": []}
        # In turn: the machine's own pace changes from minute to minute.
        for _ in range(given.rounds):
            for who, rounds in found.items():
                rounds.append(one_round(bench, mode, who))
        for measure in ("db", "app", "command"):
            bash, relevo = (statistics.median(each[measure] for each in found[who]) for who in ("bash", "relevo"))
            print(f"| {mode} | {measure} | {bash:.2f} | {relevo:.2f} | {relevo / bash:.1f} |", flush=True)


if __name__ == "__main__":
    main()
