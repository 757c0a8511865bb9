"""The old primary comes back: what only it had is sealed first, and then it follows."""

from __future__ import annotations

import gzip
import json
import re
import time

import pytest

from .conftest import DRILL, Bench, Run, kill_all
from .test_failover import acknowledged_by, load
from .test_restore import archived
from .test_switchover import assert_passed, assert_serves, to, unchanged, when

PHASES = {"PREFLIGHT", "LOCK", "FENCE", "SALVAGE", "REBUILD", "FOLLOW"}
BACK = {"dr_target_site": "a", "dr_confirm": "failback minimarket to a"}
SALVAGE = "/var/lib/relevo-salvage"


def power_on(bench: Bench, host: str) -> None:
    bench.verb("power-on", host)
    bench.wait(
        "the guard has decided",
        lambda: bench.inside(host, "systemctl", "is-system-running", check=False) in ("running", "degraded"),
    )


def assert_back(bench: Bench, run: Run, method: str | None = None) -> None:
    assert run.code == 0, run.output[-4000:]
    record = run.record
    assert record["verdict"] == "passed", record["verdict_reasons"]
    assert {phase["name"] for phase in record["phases"]} == PHASES
    assert record["measures"]["time_to_reprotect_seconds"] > 0
    if method:
        assert record["measures"]["rebuild"]["a-db1"]["method"] == method
    kept = record["measures"]["salvage"]["a-db1"]
    assert (
        bench.inside("a-db1", "sh", "-c", f"cd {kept['directory']} && sha256sum --quiet -c SHA256SUMS && stat -c '%a %U' .")
        == "700 root"
    )
    assert bench.inside("a-db1", "sha256sum", f"{kept['directory']}/manifest.json").split()[0] == kept["digest"]
    assert_serves(bench, "b")
    again = bench.run("failback", **BACK)
    assert again.code == 0, again.output[-3000:]
    assert "nothing to do" in again.output
    assert unchanged(again)


def sealed_references(bench: Bench, directory: str) -> set[str]:
    """Read once more, by other code: the plain bytes of the sealed segments."""
    place = bench.lab.root(bench.lab.host("a-db1")) / directory.lstrip("/")
    found: set[str] = set()
    for path in sorted(place.glob("0000000*.gz")):
        if ".history" not in path.name:
            plain = gzip.decompress(path.read_bytes())
            found |= {match.decode() for match in re.findall(rb"relevo-[0-9a-f]{8}-\d+", plain)}
    return found


def moment_of(bench: Bench, primary: str) -> str:
    """A time with committed work on both sides of it, and all of it archived."""
    load(bench, 20)
    time.sleep(1.1)
    at = bench.sql(primary, """select to_char(clock_timestamp() at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')""")
    time.sleep(1.1)
    load(bench, 20)
    archived(bench, primary)
    return at


def assert_restorable(bench: Bench, at: str) -> None:
    run = bench.run("restore_test", dr_restore_target_time=at)
    assert run.code == 0, run.output[-4000:]
    [test] = run.record["measures"]["restore_tests"]
    assert {rung["id"]: rung["verdict"] for rung in test["rungs"]}["R5"] == "pass", test


def test_there_killed_and_home_again(bench):
    """Switchover a to b to a to b under load; the primary is killed, a failover to a, failback of b, and home: nothing planned loses anything.

    A moment before and one after each change of primary can be restored at the end.
    """
    moments = [moment_of(bench, "a-db1")]
    for site in ("b", "a", "b"):
        assert_passed(bench.run("switchover", **to(site)))
        assert_serves(bench, site)
        assert unchanged(bench.run("switchover", **to(site)))
        moments.append(moment_of(bench, f"{site}-db1"))
    bench.verb("power-off", "b-db1")
    words = {**DRILL, "dr_target_site": "a", "dr_confirm": "drill production minimarket to a", "dr_accept_loss_seconds": "5"}
    over = bench.run("failover", **words)
    assert over.code == 0, over.output[-4000:]
    assert over.record["verdict"] == "passed", over.record["verdict_reasons"]
    measures = over.record["measures"]
    assert measures["writable_overlap_seconds"] == 0
    assert measures["ledger"]["acknowledged"] > 0
    assert measures["ledger"]["present"] + measures["ledger"]["lost"] == measures["ledger"]["acknowledged"]
    again = bench.run("failover", **words)
    assert "nothing to do" in again.output, again.output[-3000:]
    assert unchanged(again)
    moments.append(moment_of(bench, "a-db1"))
    power_on(bench, "b-db1")
    assert not bench.writable("b-db1")
    back = bench.run("failback", dr_target_site="b", dr_confirm="failback minimarket to b")
    assert back.code == 0, back.output[-4000:]
    assert back.record["verdict"] == "passed", back.record["verdict_reasons"]
    assert_serves(bench, "a")
    assert unchanged(bench.run("failback", dr_target_site="b", dr_confirm="failback minimarket to b"))
    assert_passed(bench.run("switchover", **to("b")))
    assert_serves(bench, "b")
    moments.append(moment_of(bench, "b-db1"))
    assert unchanged(bench.run("switchover", **to("b")))
    for at in moments:
        assert_restorable(bench, at)


def present_on(bench: Bench, host: str) -> set[int]:
    """Numbers of the ledger that a database host holds, by its own word."""
    numbers = "select string_agg(substring(reference from '[0-9]+$'), ' ') from shop.ledger_entries where reference like 'relevo-%'"
    return {int(number) for number in bench.sql(host, numbers).split()}


def bound(transactions: int) -> dict[str, str]:
    """Exactly so many; the seconds, which another gate asks for, are wide."""
    return {"dr_accept_loss_transactions": str(transactions), "dr_accept_loss_seconds": "300"}


def cut_off(bench: Bench, transactions: int = 10) -> list[int]:
    """Writes that are acknowledged on a primary which is cut off from its standby and from every store, and then stopped; their numbers.

    They are counted without the product: what the witness was told on the one side, and what the standby holds on the other.
    """
    load(bench, 20)
    for other in ("b-db1", "b-store1", "a-store1"):
        bench.verb("cut", "a-db1", other)
    before = bench.acknowledged()
    bench.wait("acknowledged work that the standby lacks", lambda: bench.acknowledged() > before + transactions)
    # With no bound at all it would be refused before anything is stopped, once the standby has heard nothing for a while.
    refused = bench.run("failover", **DRILL, **bound(0))
    assert refused.code != 0
    assert re.search(r"\d+ acknowledged ledger transactions .* are missing", refused.output)
    assert not bench.writable("b-db1")
    lost = sorted(acknowledged_by(bench, "a-db1") - present_on(bench, "b-db1"))
    assert len(lost) >= transactions
    return lost


def leave(bench: Bench, lost: list[int]) -> None:
    """The failover, with exactly what it costs."""
    accepted = bench.run("failover", **DRILL, **bound(len(lost)))
    assert accepted.code == 0, accepted.output[-3000:]
    bench.verb("heal-all")
    assert accepted.record["measures"]["ledger"]["lost_numbers"] == lost


def lose(bench: Bench) -> list[int]:
    lost = cut_off(bench)
    leave(bench, lost)
    return lost


@pytest.mark.full
def test_a_bound_that_is_one_too_small_is_refused_with_the_number_that_would_do(bench):
    lost = cut_off(bench)
    refused = bench.run("failover", **DRILL, **bound(len(lost) - 1))
    assert refused.code != 0, refused.output[-3000:]
    assert not bench.writable("b-db1")
    shown = re.search(r"-e dr_accept_loss_transactions=(\d+) ", " ".join(refused.output.split()))
    assert shown, refused.output[-3000:]
    assert int(shown.group(1)) == len(lost)
    accepted = bench.run("failover", **DRILL, **bound(int(shown.group(1))))
    assert accepted.code == 0, accepted.output[-3000:]
    assert accepted.record["measures"]["ledger"]["lost_numbers"] == lost


@pytest.mark.full
def test_lost_transactions_are_salvaged_and_sealed_before_the_rewind(bench):
    lost = lose(bench)
    run = bench.run("failback", **BACK)
    assert_back(bench, run, "rewind")
    measures = run.record["measures"]
    assert measures["salvaged"] == {"lost_numbers": lost, "not_found_numbers": []}
    kept = measures["salvage"]["a-db1"]
    # Nothing but these, and what was inside its commit when it was stopped.
    assert 0 <= kept["relations"]["shop.ledger_entries"]["inserted"] - len(lost) <= 3
    assert kept["committed"] >= kept["relations"]["shop.ledger_entries"]["inserted"]
    numbers = {int(reference.rpartition("-")[2]) for reference in sealed_references(bench, kept["directory"])}
    assert set(lost) <= numbers
    place = bench.lab.root(bench.lab.host("a-db1")) / kept["directory"].lstrip("/")
    listed = [json.loads(line) for line in gzip.decompress((place / "transactions.jsonl.gz").read_bytes()).splitlines()]
    assert len(listed) == kept["committed"]
    assert_passed(bench.run("switchover", **to("a")))
    assert_serves(bench, "a")


@pytest.mark.full
def test_a_failback_that_returns_is_followed_by_the_switchover_home(bench):
    lose(bench)
    words = {**BACK, "dr_scope": "site", "dr_after": "return"}
    extra = [word for name, value in words.items() for word in ("-e", f"{name}={value}")]
    done = bench.relevo("run", "failback", "-i", str(bench.inventory), "--json", *extra, seconds=600)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    records = json.loads(done.stdout)
    assert [(record["runbook"], record["verdict"]) for record in records] == [("failback", "passed"), ("switchover", "passed")]
    assert records[1]["measures"]["ledger"]["lost"] == 0
    assert_serves(bench, "a")


@pytest.mark.parametrize("method", ["delta", "full"])
def test_the_operator_may_choose_the_way(bench, method):
    lose(bench)
    assert_back(bench, bench.run("failback", **BACK, dr_failback_method=method), method)


def test_without_the_grant_it_comes_back_another_way(bench):
    lose(bench)
    bench.sql(
        "b-db1", "revoke execute on function pg_read_binary_file(text, bigint, bigint, boolean) from relevo_rewind", "postgres"
    )
    run = bench.run("failback", **BACK)
    assert_back(bench, run)
    rebuild = run.record["measures"]["rebuild"]["a-db1"]
    assert rebuild["method"] != "rewind"
    assert "permission denied" in rebuild["ways"]["rewind"]["obstacle"]


def last_segment(bench: Bench) -> str:
    """That of the old primary's last checkpoint: what only it has ends there."""
    read = "/usr/lib/postgresql/*/bin/pg_controldata /var/lib/postgresql/*/main | sed -n 's/.*REDO WAL file: *//p'"
    return bench.inside("a-db1", "sh", "-c", read)


def test_missing_wal_stops_it_before_anything_is_rewound(bench):
    lose(bench)
    wal = "/var/lib/postgresql/*/main/pg_wal"
    last = last_segment(bench)
    bench.inside("a-db1", "sh", "-c", f"rm {wal}/{last}")
    control = bench.inside("a-db1", "sh", "-c", "sha256sum /var/lib/postgresql/*/main/global/pg_control")
    run = bench.run("failback", **BACK)
    assert run.code != 0, run.output[-3000:]
    said = " ".join(run.output.split())
    assert "G21 on a-db1: the WAL behind the fork is kept" in said
    assert f"1 segments are missing, from {last} on" in said
    assert "Nothing was rewound" in said
    assert bench.inside("a-db1", "sh", "-c", "sha256sum /var/lib/postgresql/*/main/global/pg_control") == control
    accepted = bench.run("failback", **BACK, dr_accept_unknown="G21", dr_reason="that WAL is gone for good")
    assert accepted.record["verdict"] == "partial", accepted.output[-3000:]
    assert_serves(bench, "b")


@pytest.mark.full
def test_a_segment_that_only_the_archive_has_is_fetched_before_it_is_judged(bench):
    """As an old primary leaves it that archived to its own site's store and has removed the segment since."""
    lost = lose(bench)
    wal = "/var/lib/postgresql/*/main/pg_wal"
    last = last_segment(bench)
    path = bench.inside("a-db1", "sh", "-c", f"ls {wal}/{last}")
    bench.inside(
        "a-db1", "sh", "-c", f"cd / && runuser -u postgres -- pgbackrest --stanza=minimarket --no-archive-async archive-push {path}"
    )
    bench.inside("a-db1", "rm", path)
    run = bench.run("failback", **BACK)
    assert_back(bench, run)
    kept = run.record["measures"]["salvage"]["a-db1"]
    assert (kept["fetched"], kept["missing"], kept["complete"]) == ([last], [], True)
    assert run.record["measures"]["salvaged"] == {"lost_numbers": lost, "not_found_numbers": []}


def bare_hands(bench: Bench, host: str, words: str) -> str:
    """PostgreSQL without systemd, and so without its guard."""
    control = f"cd / && runuser -u postgres -- sh -c '/usr/lib/postgresql/*/bin/pg_ctl -D /etc/postgresql/*/main {words}'"
    return bench.inside(host, "sh", "-c", control, check=False)


ENTRIES = "select coalesce(string_agg(reference, ' '), '') from shop.ledger_entries"


@pytest.mark.full
def test_what_was_written_on_a_timeline_of_its_own_with_the_same_number_is_salvaged_and_not_followed_from(bench):
    """The old primary, read-only after a failover and alone again, is promoted by hand, accepts writes, and is stopped again."""
    lost = lose(bench)
    # Nobody tells it that the number is taken, nor that it should follow.
    for other in ("wit1", "b-db1", "b-app1", "b-store1", "a-store1"):
        bench.verb("cut", "a-db1", other)
    bare_hands(bench, "a-db1", "-l /var/log/postgresql/bare-hands.log -W start")
    bench.wait(
        "it answers, read-only", lambda: bench.sql("a-db1", "select pg_is_in_recovery()", "postgres", check=False) == "t", 60
    )
    bench.sql("a-db1", "select pg_promote(false)", "postgres")
    bench.wait("it is promoted", lambda: bench.writable("a-db1"), 120)
    timeline = "select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"
    assert bench.sql("a-db1", timeline) == bench.sql("b-db1", timeline) == "2"
    bench.sql("a-db1", "insert into shop.ledger_entries (reference) select 'by-hand-' || number from generate_series(0, 6) number")
    only_here = set(bench.sql("a-db1", ENTRIES).split()) - set(bench.sql("b-db1", ENTRIES).split())
    assert len(only_here) >= len(lost) + 7
    # Its archiver tries three times more, each for a whole archive-timeout, and no store answers.
    bare_hands(bench, "a-db1", "-m fast -W stop")
    bench.wait("it is stopped", lambda: bench.inside("a-db1", "pgrep", "-x", "postgres", check=False) == "", 600, 1.0)
    bench.verb("heal-all")
    assert not bench.writable("a-db1")

    run = bench.run("failback", **BACK)

    assert_back(bench, run)
    kept = run.record["measures"]["salvage"]["a-db1"]
    assert (kept["timeline"], kept["common_timeline"], kept["complete"]) == (2, 1, True)
    # Both tails, to the row: what it had when it was left, and what was written on its own timeline.
    assert kept["relations"]["shop.ledger_entries"]["inserted"] == len(only_here)
    assert run.record["measures"]["salvaged"] == {"lost_numbers": lost, "not_found_numbers": []}
    place = bench.lab.root(bench.lab.host("a-db1")) / kept["directory"].lstrip("/")
    plain = b"".join(gzip.decompress(path.read_bytes()) for path in place.glob("00000002*.gz") if ".history" not in path.name)
    assert all(f"by-hand-{number}".encode() in plain for number in range(7))
    rebuild = run.record["measures"]["rebuild"]["a-db1"]
    # pg_rewind would find nothing to do and say that it went well.
    assert "takes both servers' timeline 2 for the same one" in rebuild["ways"]["rewind"]["obstacle"]
    assert rebuild["method"] in ("delta", "full")
    assert not [entry for entry in bench.sql("a-db1", ENTRIES).split() if entry.startswith("by-hand-")]


def begun(bench: Bench, phase: str, before: int) -> bool:
    """REBUILD begins with a look at what is possible; it is the mark that says that the data are being changed."""
    if phase == "CHANGE":
        return (bench.lab.root(bench.lab.host("a-db1")) / "var/lib/relevo/standby-build.json").exists()
    return any(entry["phase"] == phase for entry in bench.journal("a-db1")[before:])


@pytest.mark.parametrize("phase", ["FENCE", "SALVAGE", pytest.param("CHANGE", marks=pytest.mark.smoke), "REBUILD", "FOLLOW"])
def test_a_killed_failback_is_gone_on_with(bench, phase):
    lost = lose(bench)
    # Its own mark of the failover is older: only what comes now counts.
    before = len(bench.journal("a-db1"))
    process = bench.start("failback", **BACK)
    when(process, lambda: begun(bench, phase, before))
    kill_all(process.pid)
    process.communicate(timeout=30)
    assert not bench.writable("a-db1")
    first = bench.record("latest")
    assert first["verdict"] == "interrupted"
    run = bench.run("failback", **BACK)
    assert run.code == 0, run.output[-4000:]
    assert_serves(bench, "b")
    if phase in ("REBUILD", "CHANGE"):
        # What the dead run sealed is taken, not made again: by now the data may be no old primary's any more.
        kept = run.record["measures"]["salvage"]["a-db1"]
        assert kept["before"] is True
        assert kept["directory"] == f"{SALVAGE}/{first['run_id']}"
        assert bench.inside("a-db1", "sha256sum", f"{kept['directory']}/manifest.json").split()[0] == kept["digest"]
    for directory in bench.inside("a-db1", "sh", "-c", f"ls -d {SALVAGE}/*").split():
        bench.inside("a-db1", "sh", "-c", f"cd {directory} && if [ -e SHA256SUMS ]; then sha256sum --quiet -c SHA256SUMS; fi")
    assert unchanged(bench.run("failback", **BACK))
    references = set()
    for directory in bench.inside("a-db1", "sh", "-c", f"ls -d {SALVAGE}/*").split():
        references |= sealed_references(bench, directory)
    assert set(lost) <= {int(reference.rpartition("-")[2]) for reference in references}


def test_a_half_rewound_directory_is_not_started_and_another_way_is_taken(bench):
    """As a rewind leaves it that was ended half way: the mark says so."""
    lose(bench)
    mark = {"run_id": "dead", "data_directory": "/var/lib/postgresql/17/main", "at": "", "restored": False, "method": "rewind"}
    data = bench.inside("a-db1", "sh", "-c", "ls -d /var/lib/postgresql/*/main")
    mark["data_directory"] = data
    bench.inside("a-db1", "sh", "-c", "cat > /var/lib/relevo/standby-build.json", text=json.dumps(mark))
    run = bench.run("failback", **BACK)
    assert_back(bench, run)
    assert run.record["measures"]["rebuild"]["a-db1"]["method"] in ("delta", "full")
