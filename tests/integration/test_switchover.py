"""A planned change of site: nothing is lost, the old primary follows, and what fails before the promotion opens the old side again."""

from __future__ import annotations

import json
import subprocess
import time

import pytest

from .conftest import Bench, Run, kill_all
from .test_failover import load

PHASES = {"PREFLIGHT", "LOCK", "QUIESCE", "FENCE", "DRAIN", "PROMOTE", "CUTOVER", "PROTECT", "FOLLOW"}
HOSTS = {
    "QUIESCE": "a-app1",
    "HANDOVER": "a-db1",
    "FENCE": "a-db1",
    "DRAIN": "b-db1",
    "PROMOTE": "b-db1",
    "CUTOVER": "b-app1",
    "PROTECT": "b-db1",
    "FOLLOW": "a-db1",
}
OTHER = {"a": "b", "b": "a"}


def to(site: str, **more: str) -> dict[str, str]:
    return {"dr_scope": "site", "dr_target_site": site, "dr_confirm": f"switchover minimarket to {site}", **more}


def assert_serves(bench: Bench, site: str) -> None:
    """One primary, the application on it, and the other host follows for good."""
    other = OTHER[site]
    assert [bench.writable(f"{name}-db1") for name in (site, other)] == [True, False]
    health = bench.health(f"{site}-app1")
    assert (health["server"], health["in_recovery"]) == (f"{site}-db1", False)
    assert bench.health(f"{other}-app1") == {}
    enabled = [bench.inside(f"{name}-app1", "systemctl", "is-enabled", "minimarket", check=False) for name in (site, other)]
    assert enabled == ["enabled", "disabled"]
    assert bench.sql(f"{site}-db1", "select count(*) from pg_stat_replication where state = 'streaming'") == "1"
    assert bench.inside(f"{other}-db1", "sh", "-c", "ls /var/lib/relevo/fence.json", check=False) == ""
    unit = bench.inside(f"{other}-db1", "sh", "-c", "systemctl is-active 'postgresql@*-main.service'")
    assert unit == "active"
    # WAL is kept for the one that follows, and for nobody on the one that does.
    slots = "select string_agg(slot_name || ' ' || active, ',') from pg_replication_slots"
    assert bench.sql(f"{site}-db1", slots) == f"relevo_{other}_db1 true"
    assert bench.sql(f"{other}-db1", slots) == ""
    assert [host for host in ("a-db1", "b-db1", "a-app1", "b-app1") if bench.lock_of(host)] == []


def assert_passed(run: Run) -> None:
    assert run.code == 0, run.output[-4000:]
    record = run.record
    assert record["verdict"] == "passed", record["verdict_reasons"]
    assert {phase["name"] for phase in record["phases"]} == PHASES
    measures = record["measures"]
    assert measures["ledger"]["acknowledged"] > 0
    assert measures["ledger"]["lost"] == 0
    assert measures["rpo_seconds"] == 0
    assert measures["writable_overlap_seconds"] == 0
    assert 0 < measures["time_to_reprotect_seconds"] < 120
    assert measures["handover"]["run_id"] == record["run_id"]
    assert record["fence"]["class"] == "stopped"


def unchanged(run: Run) -> bool:
    return not [line for line in run.output.splitlines() if " changed=" in line and "changed=0 " not in line]


def timeline(bench: Bench, host: str) -> int:
    return int(bench.sql(host, "select ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int"))


@pytest.mark.smoke
def test_there_and_back_under_load_loses_nothing(bench):
    load(bench, 100)
    for number, site in enumerate(("b", "a", "b"), 2):
        run = bench.run("switchover", **to(site))
        assert_passed(run)
        assert_serves(bench, site)
        assert timeline(bench, f"{site}-db1") == number
        again = bench.run("switchover", **to(site))
        assert again.code == 0, again.output[-4000:]
        assert "nothing to do" in again.output
        assert unchanged(again)
        load(bench, 20)


def assert_open_again(bench: Bench, run: Run) -> None:
    assert run.code != 0
    assert run.record["verdict"] == "failed", run.record["verdict_reasons"]
    assert "the old side serves again" in run.output
    assert {phase["host"] for phase in run.record["phases"] if phase["name"] == "REOPEN"} == {"a-db1", "a-app1"}
    bench.verb("heal-all")
    assert_serves(bench, "a")
    assert timeline(bench, "a-db1") == 1
    before = bench.acknowledged()
    bench.wait("writes are acknowledged again", lambda: bench.acknowledged() > before + 2)
    assert bench.inside("b-db1", "sh", "-c", "ls /var/lib/relevo/challenge.json", check=False) == ""


def when(process: subprocess.Popen[str], condition, seconds: float = 90) -> None:
    limit = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, (process.stdout.read() if process.stdout else "")[-3000:]
        assert time.monotonic() < limit, "the moment never came"
        time.sleep(0.005)


def stop_receiver(bench: Bench) -> None:
    bench.inside("b-db1", "bash", "-ec", "kill -STOP $(pgrep -f '[p]ostgres: .*walreceiver')")


def test_a_standby_that_does_not_get_the_last_word_opens_the_old_side_again(bench):
    """The receiver hangs in the very moment; a promotion would lose what it kept back."""
    load(bench, 20)
    process = bench.start("switchover", **to("b"))
    when(process, lambda: bench.lock_of("a-app1") is not None)
    stop_receiver(bench)
    run = bench.finish(process)
    bench.inside("b-db1", "bash", "-ec", "kill -CONT $(pgrep -f '[p]ostgres: .*walreceiver') || true")
    bench.wait(
        "it streams again", lambda: bench.sql("a-db1", "select count(*) from pg_stat_replication where state = 'streaming'") == "1"
    )
    assert_open_again(bench, run)
    # And then it works.
    assert_passed(bench.run("switchover", **to("b")))


def test_a_database_that_cannot_be_stopped_cleanly_is_opened_again(bench):
    """The promotion is asked for only with a clean shutdown; after a kill there is none."""
    process = bench.start("switchover", **to("b"))
    when(process, lambda: bench.begun("a-db1", "HANDOVER"))
    bench.inside("a-db1", "bash", "-c", "kill -9 $(head -1 /var/lib/postgresql/*/main/postmaster.pid)", check=False)
    run = bench.finish(process)
    if run.code == 0:
        pytest.fail("the kill came too late: " + run.output[-2000:])
    assert_open_again(bench, run)


def test_an_archive_that_died_stops_it_before_anything_is_changed(bench):
    for store in ("a-store1", "b-store1"):
        bench.verb("cut", "a-db1", store)
    digest = bench.digest()
    run = bench.run("switchover", **to("b"))
    assert run.record["verdict"] == "refused", run.output[-3000:]
    bench.verb("heal-all")
    assert bench.digest() == digest
    assert_serves(bench, "a")


def test_long_and_prepared_transactions_are_shown_by_number_and_stop_it(bench):
    """Refused while they last; nothing was changed."""
    words = [
        "runuser",
        "-u",
        "postgres",
        "--",
        "psql",
        "-d",
        "minimarket",
        "-c",
        "begin; select txid_current(); select pg_sleep(90)",
    ]
    holder = subprocess.Popen(
        ["nsenter", "--target", str(bench.leader("a-db1")), "--mount", "--uts", "--ipc", "--net", "--pid", "--", *words],
        stdout=subprocess.DEVNULL,
    )
    try:
        time.sleep(32)
        run = bench.run("switchover", **to("b"))
        assert run.record["verdict"] == "refused", run.output[-3000:]
        gate = next(gate for gate in run.record["gates"] if gate["id"] == "G25" and gate["verdict"] == "fail")
        assert "the longest runs for 3" in gate["observed"]
        assert_serves(bench, "a")
    finally:
        holder.kill()
        holder.wait()


def test_what_only_a_disaster_may_accept_is_refused(bench):
    run = bench.run("switchover", **to("b", dr_accept_loss_seconds="5"))
    assert run.record["verdict"] == "refused"
    bench.verb("power-off", "a-db1")
    dead = bench.run("switchover", **to("b"))
    assert dead.record["verdict"] == "refused"
    assert "G24" in dead.output and "playbooks/failover.yml" in dead.output
    assert not bench.writable("b-db1")


@pytest.mark.parametrize(
    "phase", [pytest.param(phase, marks=pytest.mark.smoke) if phase == "HANDOVER" else phase for phase in sorted(HOSTS)]
)
def test_a_killed_controller_is_followed_by_a_run_that_converges(bench, phase):
    """Forwards where the dead run had its message; where it had not, the old side is opened again, and the run after that goes through."""
    load(bench, 20)
    process = bench.start("switchover", **to("b"))
    when(process, lambda: bench.begun(HOSTS[phase], phase))
    kill_all(process.pid)
    process.communicate(timeout=30)
    assert not (bench.writable("a-db1") and bench.writable("b-db1"))
    dead = bench.record("latest")
    assert dead["verdict"] == "interrupted"

    run = bench.run("switchover", **to("b"))
    if run.code != 0:
        assert_open_again(bench, run)
        run = bench.run("switchover", **to("b"))
    assert run.code == 0, run.output[-4000:]
    assert run.record["verdict"] == "passed", run.record["verdict_reasons"]
    assert run.record["measures"]["ledger"]["lost"] == 0
    assert_serves(bench, "b")
    once_more = bench.run("switchover", **to("b"))
    assert "nothing to do" in once_more.output
    assert unchanged(once_more)


def test_database_scope_goes_there_and_back(bench):
    """Database scope: the same application host, pointed at the other database, and back."""
    for site in ("b", "a"):
        run = bench.run("switchover", **{**to(site), "dr_scope": "database"})
        assert_passed(run)
        assert bench.health("a-app1")["server"] == f"{site}-db1"
        assert json.dumps(bench.health("b-app1")) == "{}"
