"""A drill that harms nobody, and one that moves production and comes home."""

from __future__ import annotations

import json
from pathlib import Path

from .conftest import DRILL, INVENTORY, Bench
from .mailbox import Mailbox
from .test_failback import moment_of
from .test_restore import leaked


def drill(bench: Bench, *words: str) -> tuple[int, str, str]:
    authority = str(bench.lab.state / "tls/ca.pem")
    done = bench.relevo("drill", "-i", str(INVENTORY), *words, seconds=1200, SSL_CERT_FILE=authority)
    return done.returncode, done.stdout, done.stderr


def timelines(bench: Bench) -> str:
    return bench.sql("a-db1", "select timeline_id from pg_control_checkpoint()")


def test_a_rehearsal_measures_a_recovery_and_touches_nothing(healthy: Bench):
    # Work behind the backup, all of it archived.
    moment_of(healthy, "a-db1")
    before, packets, timeline = healthy.digest(), leaked(healthy)[0], timelines(healthy)
    acknowledged = healthy.acknowledged()
    code, output, errors = drill(healthy, "--json")
    assert code == 0, errors[-3000:]
    record = json.loads(output)
    measured = record["measures"]
    [test] = measured["restore_tests"]
    assert (record["runbook"], record["mode"], record["verdict"]) == ("rehearse", "drill", "passed")
    assert {rung["id"]: rung["verdict"] for rung in test["rungs"]}["R8"] == "pass"
    # The run is longer than what a user waits for, by the proofs at least.
    assert 0 < measured["rto_seconds"] <= record["duration_seconds"] - measured["proofs_seconds"]
    assert measured["rto_seconds"] > test["restore_seconds"]
    assert measured["rpo_seconds"] >= 0
    assert record["objectives_met"] is True
    # Production went on: nothing reached it, it was not promoted, and it served all the time.
    after = healthy.digest()
    assert {place: held for place, held in after.items() if not place.startswith("b-scratch ")} == {
        place: held for place, held in before.items() if not place.startswith("b-scratch ")
    }
    assert (leaked(healthy)[0], timelines(healthy)) == (packets, timeline)
    assert healthy.acknowledged() > acknowledged
    assert healthy.inside("b-scratch", "sh", "-c", "ls -A /var/lib/postgresql/relevo-restore 2>/dev/null || true") == ""


def test_a_drill_on_production_comes_home_and_people_hear_of_each_step(bench: Bench, tmp_path: Path):
    urls, mailbox = tmp_path / "urls", Mailbox(bench)
    urls.write_text((bench.lab.state / "secrets/notify_urls").read_text())
    urls.chmod(0o600)
    words = {name: value for name, value in DRILL.items() if name != "dr_mode"}
    extra = [word for name, value in words.items() for word in ("-e", f"{name}={value}")]
    code, output, errors = drill(bench, "--production", "--json", *extra, "-e", "dr_after=return", "--notify", str(urls))
    assert code == 0, errors[-3000:]
    records = json.loads(output)
    assert [record["runbook"] for record in records] == ["failover", "failback", "switchover"]
    assert {record["verdict"] for record in records} == {"passed"}
    for record in (records[0], records[2]):
        assert record["measures"]["ledger"]["lost"] == 0
        assert record["measures"]["writable_overlap_seconds"] == 0
    bench.wait_until_serving()
    assert bench.writable("a-db1")
    assert not bench.writable("b-db1")
    assert bench.sql("b-db1", "select status from pg_stat_wal_receiver") == "streaming"
    heard = [str(message["Subject"]).partition(" of ")[0] for message in mailbox.new()]
    # A failback promotes nobody: its point of no return is the service's no business.
    expected = {"failover": ["BEGUN", "NO WAY BACK", "PASSED"], "failback": ["BEGUN", "PASSED"]}
    expected["switchover"] = expected["failover"]
    assert sorted(heard) == sorted(f"{word}: {runbook}" for runbook, said in expected.items() for word in said)


def test_from_a_disaster_nobody_comes_home_at_once(healthy: Bench):
    words = ["-e", "dr_mode=disaster", "-e", "dr_scope=site", "-e", "dr_target_site=b", "-e", "dr_after=return"]
    done = healthy.relevo("run", "failover", "-i", str(INVENTORY), *words)
    assert done.returncode == 2, done.stderr
    assert healthy.record("latest")["verdict"] == "refused"
    assert healthy.writable("a-db1")
