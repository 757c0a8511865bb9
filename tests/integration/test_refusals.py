"""Whatever is wrong is said before anything is changed: a sentence that helps, a record `refused`, and every host as it was."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .conftest import BIN, DRILL, INVENTORY, ROOT, Bench, stop_all


def refused(bench: Bench, says: str, *options: str, **variables: str) -> dict:
    """Run the failover, which must refuse, and compare every host before and after."""
    before = bench.digest()
    run = bench.run("failover", *options, **variables)
    assert run.code != 0, run.output[-3000:]
    assert re.search(says, run.output), f"{says!r} is not in:\n{run.output[-3000:]}"
    assert "Traceback" not in run.output
    assert "Next:" in run.output
    assert run.record["verdict"] == "refused", run.record
    assert bench.digest() == before
    return run.record


def smoke(*values):
    """One of each kind: every case costs a run of the whole command."""
    return pytest.param(*values, marks=pytest.mark.smoke)


@pytest.mark.full
@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"dr_confirm": ""}, "dr_confirm"),
        smoke({"dr_confirm": "failover minimarket to b"}, "drill production minimarket to b"),
        ({"dr_confirm": None}, "no dr_confirm"),
        smoke({"dr_mode": None}, "dr_mode is missing"),
        ({"dr_mode": "planned"}, "dr_mode"),
        ({"dr_scope": None}, "dr_scope is missing"),
        ({"dr_scope": "everything"}, "dr_scope"),
        ({"dr_target_site": "c", "dr_confirm": "drill production minimarket to c"}, "one of a, b"),
        smoke({"dr_reason": "{{ lookup('pipe', 'touch /tmp/relevo-injected') }}"}, "holds a template"),
        smoke({"ansible_host": "203.0.113.99"}, "-e ansible_host"),
        ({"relevo_token": "{}"}, "-e relevo_token"),
        ({"__dr_standby_proof": "stopped"}, "-e __dr_standby_proof"),
    ],
)
def test_words_that_are_missing_wrong_or_not_the_operators_to_say(healthy, changed, says):
    variables = {name: value for name, value in {**DRILL, **changed}.items() if value is not None}
    refused(healthy, says, **variables)
    assert not Path("/tmp/relevo-injected").exists()


@pytest.mark.full
@pytest.mark.parametrize(
    ("options", "says"),
    [
        (("--limit", "site_b"), "--limit site_b"),
        smoke(("--limit", "b-db1"), "--limit b-db1"),
        smoke(("--tags", "promote"), "--tags promote"),
        (("--skip-tags", "fence"), "--skip-tags fence"),
        (("--forks", "2"), "forks 2"),
    ],
)
def test_options_that_hide_hosts_or_tasks(healthy, options, says):
    refused(healthy, says, *options, **DRILL)


@pytest.mark.smoke
def test_a_start_in_the_middle_finds_no_opened_run(healthy):
    before = healthy.digest()
    run = healthy.run("failover", "--start-at-task", "promote | Quiesce, fence, drain, promote and cut over", **DRILL)
    said = " ".join(run.output.split())
    assert "an earlier step of the runbook did not run. Next: start the whole runbook again" in said, run.output[-3000:]
    assert healthy.digest() == before
    assert healthy.writable("a-db1")
    assert run.record["verdict"] == "refused"


def inventory_with(tmp_path, old: str, new: str, name: str = "hosts.yml"):
    """A copy of the laboratory's inventory with one text replaced in one file."""
    copy = tmp_path / "lab"
    shutil.copytree(INVENTORY, copy)
    path = copy / name
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new).replace("{{ inventory_dir }}/../..", str(ROOT)))
    return copy


@pytest.mark.parametrize("group", ["dr_database", "dr_application", "dr_witness", "dr_observer"])
def test_a_misspelt_group_is_an_error_and_not_a_host_less(healthy, tmp_path, group):
    copy = inventory_with(tmp_path, f"    {group}:", f"    {group}x:")
    refused(healthy.with_inventory(copy), group, **DRILL)


def approvers_of(place: Path, *names: str) -> list[dict[str, str]]:
    """A key for each person, in a directory of its own."""
    for name in names:
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", place / name], check=True)
    return [{"name": name, "key": (place / f"{name}.pub").read_text().strip()} for name in names]


def test_two_persons(bench, tmp_path):
    """Who runs it cannot agree with themselves, and a word is of one plan: with another loss it is asked for again."""
    operator = getpass.getuser()
    people = approvers_of(tmp_path, operator, "mira")
    words = f"dr_approval: dual\ndr_approvers: {json.dumps(people)}\ndr_cluster:"
    two = bench.with_inventory(inventory_with(tmp_path, "dr_cluster:", words, "group_vars/all.yml"))
    request = refused(two, "APPROVAL on controller.*no approval of plan.*relevo approve", **DRILL)["run_id"]

    def approve(name: str) -> None:
        shown = two.relevo("approve", request, "--as", name, "--key", str(tmp_path / name), "--confirm", "?")
        assert shown.returncode == 4, shown.stderr
        [digest] = re.findall(r"approve [0-9a-f]{12}", shown.stderr)
        assert "b-db1" in shown.stdout
        done = two.relevo("approve", request, "--as", name, "--key", str(tmp_path / name), "--confirm", digest)
        assert done.returncode == 0, done.stderr

    approve(operator)
    refused(two, f"{operator} asked for it and approved it", **DRILL)
    approve("mira")
    refused(two, "no approval of plan", **DRILL, dr_accept_loss_seconds="60")
    run = two.run("failover", **DRILL)
    assert run.code == 0, run.output[-3000:]
    [gate] = [gate for gate in run.record["gates"] if gate["id"] == "APPROVAL"]
    assert (gate["verdict"], "mira" in gate["observed"]) == ("pass", True)


def test_a_running_ha_manager(bench):
    bench.inside("b-db1", "systemd-run", "--unit=repmgrd", "--quiet", "bash", "-c", "exec -a repmgrd sleep 600")
    bench.wait("the manager runs", lambda: "repmgrd" in bench.inside("b-db1", "ps", "-eo", "args"))
    refused(bench, "repmgrd", **DRILL)


def test_a_standby_of_another_cluster(bench):
    version = bench.inside("b-db1", "sh", "-c", "ls /usr/lib/postgresql")
    programs, data, unit = f"/usr/lib/postgresql/{version}/bin", f"/var/lib/postgresql/{version}/main", f"postgresql@{version}-main"

    def as_owner(*argv: str, text: str = "") -> None:
        bench.inside("b-db1", "runuser", "-u", "postgres", "--", *argv, text=text)

    bench.inside("b-db1", "systemctl", "stop", unit)
    as_owner("mv", data, f"{data}.kept")
    as_owner(f"{programs}/initdb", "-D", data, "--no-sync")
    # Recovery does not begin with settings lower than those that the data directory knows: let it learn this host's.
    configuration = f"config_file=/etc/postgresql/{version}/main/postgresql.conf"
    single = (f"{programs}/postgres", "--single", "-D", data, "-c", configuration, "-c", "archive_mode=off", "postgres")
    as_owner(*single, text="create database minimarket\n")
    as_owner("touch", f"{data}/standby.signal")
    bench.inside("b-db1", "systemctl", "start", unit)
    refused(bench, "G01 on a-db1", **DRILL)


def test_a_standby_that_no_longer_follows(bench):
    bench.verb("cut", "a-db1", "b-db1")
    receiver = "select status from pg_stat_wal_receiver"
    ended = "select count(pg_terminate_backend(pid)) from pg_stat_wal_receiver"
    bench.wait("the receiver has ended", lambda: bench.sql("b-db1", ended) == "0" and bench.sql("b-db1", receiver) == "")
    refused(bench, "G08 on b-db1.*not streaming", **DRILL)


def test_a_standby_whose_link_is_dead_but_that_says_streaming(bench):
    """Its receiver believes in the link until wal_receiver_timeout."""
    bench.verb("cut", "a-db1", "b-db1")
    silent = "select status || ' ' || (clock_timestamp() - last_msg_receipt_time > interval '16 seconds') from pg_stat_wal_receiver"
    bench.wait("the link has been silent", lambda: bench.sql("b-db1", silent) == "streaming true")
    refused(bench, "G08 on b-db1.*has heard nothing for", **DRILL)


def test_a_ledger_that_is_not_at_work(bench):
    """It would acknowledge nothing that could be missing."""
    bench.inside("wit1", "systemctl", "stop", "relevo-ledger")
    time.sleep(31)
    refused(bench, "LOSS on wit1", **DRILL)
    assert bench.writable("a-db1")


def test_a_primary_that_only_the_controller_cannot_see(bench):
    """The witness still writes on it: it is alive, and cutting its power would be an outage of our own making."""
    bench.verb("cut", "controller", "a-db1")
    refused(bench, "wit1|b-app1 accepted a write", **DRILL)
    assert bench.writable("a-db1")


def test_a_host_that_does_not_let_us_in_is_not_dead(bench):
    bench.inside(
        "a-db1",
        "sh",
        "-c",
        "mv /home/sre/.ssh/authorized_keys /home/sre/.ssh/away || mv /etc/ssh/authorized_keys /etc/ssh/away",
        check=False,
    )
    for control in (bench.lab.state / "ssh/control").glob("*"):
        control.unlink()
    refused(bench, "REACH on a-db1", **DRILL)
    assert bench.writable("a-db1")


@contextlib.contextmanager
def standing_still(process: subprocess.Popen[str]) -> Iterator[None]:
    """Nothing of the run goes on on the controller meanwhile."""
    stopped = stop_all(process.pid)
    try:
        yield
    finally:
        for each in stopped:
            # One that was ending already is over by now.
            with contextlib.suppress(ProcessLookupError):
                os.kill(each, signal.SIGCONT)


def has_looked(bench: Bench, before: set[Path]) -> bool:
    """Whether the run that was started since has passed its gates."""
    return any((run / "control/plan.json").exists() for run in set((bench.store / "runs").glob("*-failover-*")) - before)


@pytest.mark.parametrize("looked", ["before the first came", "while the first held the lock"])
def test_of_two_operators_at_once_exactly_one_goes_on(bench, looked):
    """The second meets the first one's lock, however fast either of them is: at its gates, or, when they had passed already, when it takes the lock."""
    with contextlib.ExitStack() as waiting:
        if looked == "before the first came":
            before = set((bench.store / "runs").glob("*"))
            second = bench.start("failover", **DRILL)
            bench.wait("the second has passed its gates", lambda: has_looked(bench, before), pause=0.002)
            waiting.enter_context(standing_still(second))
            assert bench.lock_of("b-db1") is None
        first = bench.start("failover", **DRILL)
        bench.wait("the first holds the lock", lambda: bench.lock_of("b-db1") is not None, pause=0.002)
        with standing_still(first):
            held = bench.lock_of("b-db1")
            waiting.close()
            if looked != "before the first came":
                second = bench.start("failover", **DRILL)
            refused_run = bench.finish(second)
            assert bench.lock_of("b-db1") == held, "the second touched the lock of the first"
            assert bench.writable("a-db1"), "something was moved while the first one stood still"
    assert refused_run.code != 0
    assert refused_run.record["verdict"] == "refused"
    assert re.search(rf"G10 on b-db1: .*{held['run_id']}", refused_run.output), refused_run.output[-3000:]
    assert "Next:" in refused_run.output
    assert bench.finish(first).code == 0
    assert bench.record(held["run_id"])["verdict"] == "passed"
    assert bench.writable("b-db1")
    assert not bench.writable("a-db1")


def test_a_dead_primary_that_nobody_can_fence(bench, tmp_path):
    """No power command and nobody's word: silence is no proof, and the standby stays a standby."""
    copy = inventory_with(tmp_path, "dr_fence_providers: [service, command]", "dr_fence_providers: [service]", "group_vars/all.yml")
    bench.verb("power-off", "a-db1")
    time.sleep(16)  # until the observers' last accepted write is no sign of life any more
    refused(bench.with_inventory(copy), "G07 on a-db1.*dr_attest_dead", **DRILL)
    assert not bench.writable("b-db1")


def test_a_persons_word_for_a_dead_primary_makes_the_run_partial(bench, tmp_path):
    copy = inventory_with(tmp_path, "dr_fence_providers: [service, command]", "dr_fence_providers: [service]", "group_vars/all.yml")
    bench.verb("power-off", "a-db1")
    time.sleep(16)
    run = bench.with_inventory(copy).run(
        "failover", **DRILL, dr_accept_loss_seconds="5", dr_attest_dead="a-db1", dr_attested_by="Ana, who pulled the plug herself"
    )
    assert run.code == 0, run.output[-3000:]
    assert run.record["verdict"] == "partial"
    assert run.record["fence"]["class"] == "attested"
    assert bench.writable("b-db1")


@pytest.mark.smoke
def test_without_a_record_nothing_is_changed(healthy):
    before = healthy.digest()
    environment = {**healthy.environment, "ANSIBLE_CALLBACKS_ENABLED": "ansible.builtin.timer"}
    words = [word for name, value in DRILL.items() for word in ("-e", json.dumps({name: value}))]
    done = subprocess.run(
        [BIN / "ansible-playbook", "-i", INVENTORY, ROOT / "playbooks/failover.yml", *words],
        capture_output=True,
        text=True,
        check=False,
        env=environment,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        timeout=120,
    )
    assert done.returncode != 0
    assert "no recorder has opened a record" in done.stdout
    assert healthy.digest() == before
    assert healthy.writable("a-db1")
