"""Measure backup, restore and verification beside plain pgBackRest, cp and sha256sum of the same bytes, on the same laboratory in one run.

  PYTHONPATH=.:collections .venv/bin/python bench/backups.py [--scale 40] [--rounds 3]

The laboratory must be up and protected. Each round starts from the same snapshot, with a database of pgbench's at that scale (15 MB for each 1), and
takes the others in turn, so that none has the warm caches for itself. Prints medians in seconds and their ratios as Markdown.
command: the whole runbook with everything it checks and records. work: the phase in it that does what the others do.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tests.integration.conftest import Bench, Run, protect

if TYPE_CHECKING:
    from collections.abc import Callable

PRIMARY, READER, SANDBOX = "a-db1", "b-db1", "b-scratch"
STORES = {"b-store1": "/srv/store/relevo-b/minimarket", "a-store1": "/srv/store/relevo-a/minimarket"}
MEMORY = "/var/lib/relevo/verified-minimarket-{}.json"
# On the volume that holds the data, so that cp has the same disk.
COPY = "/var/lib/postgresql/bench-copy"
RESTORED = "/var/lib/postgresql/bench-restored"
SANDBOX_CONFIG = "/etc/pgbackrest/relevo-sandbox.conf"
TRANSACTIONS_BETWEEN = 2000
LIMIT_SECONDS = 7200


@dataclass
class Case:
    """What was measured of one thing, in each round. bytes: what was read, as it lies on the disk."""

    name: str
    bytes: int = 0
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def add(self, who: str, seconds: float) -> None:
        """One more measurement of one of them."""
        self.seconds.setdefault(who, []).append(seconds)

    def row(self) -> str:
        """A row of the table: medians, then the work as a ratio to each of the others."""
        found = {who: statistics.median(each) for who, each in self.seconds.items()}
        others = ("pgbackrest", "cp", "sha256sum")
        times = [f"{found[who]:.2f}" if who in found else "" for who in ("command", "work", *others)]
        ratios = [f"{found['work'] / found[who]:.2f}" if who in found else "" for who in others]
        return f"| {self.name} | {self.bytes / 1e6:.0f} | {' | '.join(times)} | {' | '.join(ratios)} |"


def timed(bench: Bench, host: str, script: str, user: str = "root") -> float:
    """Seconds of a shell script on a host."""
    words = ["nsenter", "--target", str(bench.leader(host)), "--mount", "--uts", "--ipc", "--net", "--pid", "--wd=/", "--"]
    words += ["runuser", "-u", user, "--", "bash", "-ec", script]
    began = time.monotonic()
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=LIMIT_SECONDS)
    seconds = time.monotonic() - began
    if done.returncode != 0:
        raise SystemExit(f"{host}: {script}: {done.stdout[-1000:]}{done.stderr[-1000:]}")
    return seconds


def ours(bench: Bench, runbook: str, **variables: str) -> tuple[Run, float]:
    began = time.monotonic()
    run = bench.finish(bench.start(runbook, **variables), LIMIT_SECONDS)
    seconds = time.monotonic() - began
    # Coverage of a day has no backups yet, a restore test may leave rungs out: what is measured here is the work.
    if "Traceback" in run.output or not run.record["phases"]:
        raise SystemExit(f"{runbook}: {run.output[-3000:]}")
    return run, seconds


def phase(run: Run, name: str) -> float:
    return sum(entry["duration_seconds"] for entry in run.record["phases"] if entry["name"] == name and entry["outcome"] == "ok")


def pgbackrest(words: str, config: str = "/etc/pgbackrest/pgbackrest.conf") -> str:
    return f"pgbackrest --config={config} --stanza=minimarket {words}"


def in_turn(number: int, *measurements: Callable[[], None]) -> None:
    """Another one first in each round."""
    for measure in (*measurements[number % len(measurements) :], *measurements[: number % len(measurements)]):
        measure()


def size(bench: Bench, host: str, directory: str) -> int:
    return int(bench.inside(host, "du", "-sb", directory).split()[0])


def prepare(bench: Bench, scale: int) -> str:
    """The same cluster in each round, with so much data. Returns where its files are."""
    bench.verb("reset", "protected")
    bench.wait_until_serving()
    bench.sql(PRIMARY, "create database bench", "postgres")
    timed(bench, PRIMARY, f"pgbench -i -q -s {scale} bench", "postgres")
    bench.sql(PRIMARY, "checkpoint", "postgres")
    return bench.sql(PRIMARY, "select current_setting('data_directory')", "postgres")


def backups(bench: Bench, number: int, data: str, full: Case, incremental: Case) -> None:
    def by_runbook(case: Case, kind: str) -> None:
        run, seconds = ours(bench, "backup", dr_backup_type=kind, dr_backup_repository="1")
        case.add("command", seconds)
        case.add("work", phase(run, "BACKUP"))

    def plainly(case: Case, kind: str) -> None:
        case.add("pgbackrest", timed(bench, PRIMARY, pgbackrest(f"--repo=1 --type={kind} backup"), "postgres"))

    def copied() -> None:
        full.add("cp", timed(bench, PRIMARY, f"cp -a {data} {COPY}; sync -f {COPY}"))
        timed(bench, PRIMARY, f"rm -rf {COPY}; sync -f {data}")

    full.bytes = size(bench, PRIMARY, data)
    in_turn(
        number,
        lambda: by_runbook(full, "full"),
        lambda: plainly(full, "full"),
        copied,
        lambda: full.add("sha256sum", timed(bench, PRIMARY, f"find {data} -type f -print0 | xargs -0 sha256sum > /dev/null")),
    )
    written = 0
    for measure in (by_runbook, plainly) if number % 2 else (plainly, by_runbook):
        before = bench.sql(PRIMARY, "select pg_current_wal_lsn()", "postgres")
        timed(bench, PRIMARY, f"pgbench -n -t {TRANSACTIONS_BETWEEN} bench", "postgres")
        written = int(bench.sql(PRIMARY, f"select pg_wal_lsn_diff(pg_current_wal_lsn(), '{before}')::bigint", "postgres"))
        measure(incremental, "incr")
    incremental.bytes = written


def verifications(bench: Bench, number: int, first: Case, second: Case) -> None:
    def by_runbook() -> None:
        bench.inside(READER, "rm", "-f", *(MEMORY.format(each) for each in (1, 2)))
        for case in (first, second):
            run, seconds = ours(bench, "verify_backup")
            measured = run.record["measures"]["backup_verification"].values()
            case.bytes = sum(each["bytes_read"] for each in measured)
            case.add("command", seconds)
            case.add("work", sum(each["seconds"] for each in measured))

    def plainly() -> None:
        seconds = sum(timed(bench, READER, pgbackrest(f"--repo={each} verify"), "postgres") for each in (1, 2))
        for case in (first, second):
            case.add("pgbackrest", seconds)

    def summed() -> None:
        seconds = sum(
            timed(bench, host, f"find {directory} -type f -print0 | xargs -0 sha256sum > /dev/null")
            for host, directory in STORES.items()
        )
        for case in (first, second):
            case.add("sha256sum", seconds)

    in_turn(number, by_runbook, plainly, summed)


def restores(bench: Bench, number: int, case: Case) -> None:
    def by_runbook() -> None:
        run, seconds = ours(bench, "restore_test", dr_restore_repository="1")
        case.add("command", seconds)
        case.add("work", phase(run, "RESTORE"))

    def plainly() -> None:
        timed(bench, SANDBOX, f"mkdir -m 0700 {RESTORED}", "postgres")
        words = f"--repo=1 --pg1-path={RESTORED} --archive-mode=off restore"
        case.add("pgbackrest", timed(bench, SANDBOX, pgbackrest(words, SANDBOX_CONFIG), "postgres"))
        case.bytes = size(bench, SANDBOX, RESTORED)
        case.add("cp", timed(bench, SANDBOX, f"cp -a {RESTORED} {COPY}; sync -f {COPY}"))
        case.add("sha256sum", timed(bench, SANDBOX, f"find {RESTORED} -type f -print0 | xargs -0 sha256sum > /dev/null"))
        timed(bench, SANDBOX, f"rm -rf {COPY} {RESTORED}; sync -f /var/lib/postgresql")

    # The runbook writes the sandbox's configuration, so it comes first once.
    if not bench.inside(SANDBOX, "sh", "-c", f"test -e {SANDBOX_CONFIG} && echo there", check=False):
        ours(bench, "restore_test", dr_restore_repository="1")
    in_turn(number, by_runbook, plainly)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scale", type=int, default=40)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    bench = protect()
    full, incremental = Case("backup, full"), Case(f"backup, incr after {TRANSACTIONS_BETWEEN} transactions")
    first, second = Case("verify, everything"), Case("verify again, nothing new")
    restored = Case("restore")
    for number in range(asked.rounds):
        data = prepare(bench, asked.scale)
        backups(bench, number, data, full, incremental)
        verifications(bench, number, first, second)
        restores(bench, number, restored)
    print(
        "| case | MB | command, s | work, s | pgbackrest, s | cp + sync, s | sha256sum, s | to pgbackrest | to cp | to sha256sum |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    for case in (full, incremental, first, second, restored):
        print(case.row())
    ratio = statistics.median(second.seconds["work"]) / statistics.median(first.seconds["work"])
    print(f"\nSecond verification to the first: {ratio:.2f} of the time, {second.bytes / max(1, first.bytes):.3f} of the bytes.")


if __name__ == "__main__":
    main()
