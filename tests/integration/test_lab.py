"""The laboratory, on a small one of its own beside the one that may be in use. Needs root; what is observed is seen by other means than the verbs' own."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest
from ansible_collections.relevo.lab.plugins.module_utils import container
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Laboratory

CHECKOUT = Path(__file__).parents[2]
INVENTORY = CHECKOUT / "tests/fixtures/second_laboratory"
LAB = Laboratory(Path("/var/lib/relevo-lab-test"))
ADDRESSES = {"x-db1": "198.51.100.195", "x-app1": "198.51.100.196", "y-db1": "198.51.100.227", "controller": "198.51.100.193"}


def playbook(*options: str) -> subprocess.CompletedProcess[str]:
    argv = [str(CHECKOUT / ".venv/bin/ansible-playbook"), "-i", str(INVENTORY), "playbooks/lab.yml", *options]
    return subprocess.run(argv, cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=1800)


def changes(run: subprocess.CompletedProcess[str]) -> int:
    assert run.returncode == 0, run.stdout[-3000:] + run.stderr[-2000:]
    return sum(int(number) for number in re.findall(r"changed=(\d+)", run.stdout))


def verb(*words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "RELEVO_LAB_STATE": str(LAB.state)}
    return subprocess.run(
        [str(CHECKOUT / "bin/lab"), *words], env=environment, capture_output=True, text=True, check=False, timeout=120
    )


def done(*words: str) -> str:
    result = verb(*words)
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


def inside(host: str, *argv: str, timeout: float = 20) -> subprocess.CompletedProcess[str]:
    """A command in the host, past the network."""
    enter = ["nsenter", "--all", "--target", str(container.leader(LAB, LAB.host(host)))]
    return subprocess.run([*enter, *argv], capture_output=True, text=True, check=False, timeout=timeout)


def connects(sender: str, receiver: str) -> bool:
    if sender == "controller":
        try:
            socket.create_connection((ADDRESSES[receiver], 22), timeout=1).close()
        except OSError:
            return False
        return True
    # The controller itself may have no sshd, so it is pinged.
    if receiver == "controller":
        return inside(sender, "ping", "-c1", "-W1", ADDRESSES[receiver]).returncode == 0
    return inside(sender, "timeout", "1", "bash", "-c", f"exec 3<>/dev/tcp/{ADDRESSES[receiver]}/22").returncode == 0


def postgresql_answers() -> bool:
    try:
        return inside("x-db1", "runuser", "-u", "postgres", "--", "psql", "-Atqc", "select 1", timeout=3).stdout.strip() == "1"
    except subprocess.TimeoutExpired:
        return False


def wait(condition: object, seconds: float = 20) -> bool:
    assert callable(condition)
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.1)
    return True


def traces() -> list[str]:
    """Whatever the machine still shows of the small laboratory."""
    found = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(LAB.state) in line]
    found += [name for _index, name in socket.if_nameindex() if name in ("rl-x", "rl-y") or name.startswith(("vb-x-", "vb-y-"))]
    tables = subprocess.run(["nft", "list", "tables"], capture_output=True, text=True, check=True).stdout
    found += [line for line in tables.splitlines() if line.endswith(" relevo_lab_test")]
    found += [str(path) for path in (LAB.state, *(root / LAB.name for root in container.group_roots())) if path.exists()]
    found += [f"process {pid}" for pid in container.stray_processes(LAB)]
    loops = Path("/sys/block").glob("loop*/loop/backing_file")
    return found + [str(path) for path in loops if str(LAB.state) in path.read_text()]


@pytest.fixture(scope="module", autouse=True)
def laboratory():
    changes(playbook("-e", "lab_state=absent"))
    assert changes(playbook()) > 0
    yield
    changes(playbook("-e", "lab_state=absent"))


@pytest.fixture(autouse=True)
def whole(request):
    request.getfixturevalue("laboratory")
    if not LAB.description.exists():
        changes(playbook())
    yield
    if LAB.description.exists():
        done("heal-all")
        for host in LAB.hosts():
            done("power-on", host.name)
            done("thaw-postgresql", host.name)
        done("unfill", "x-db1")


@pytest.mark.full
def test_a_second_run_changes_nothing_and_neither_does_a_check():
    assert changes(playbook()) == 0
    assert changes(playbook("--check")) == 0


@pytest.mark.full
def test_check_mode_removes_nothing():
    assert changes(playbook("--check", "-e", "lab_state=absent")) > 0
    assert done("power-status", "x-db1") == "on"


@pytest.mark.full
def test_hosts_take_the_pinned_key_and_only_the_right_sudo_password():
    argv = [str(CHECKOUT / ".venv/bin/ansible"), "-i", str(INVENTORY), "lab", "-m", "ansible.builtin.ping"]
    assert subprocess.run(argv, cwd=CHECKOUT, capture_output=True, check=False, timeout=120).returncode == 0
    wrong = subprocess.run(
        [*argv, "-e", "ansible_become_password=wrong"], cwd=CHECKOUT, capture_output=True, text=True, check=False, timeout=120
    )
    assert wrong.returncode != 0
    assert "password" in wrong.stdout


@pytest.mark.full
def test_the_first_primary_has_checksums_tls_and_scram():
    asked = "select current_setting('data_checksums'), current_setting('ssl'), current_setting('password_encryption'), current_setting('listen_addresses')"
    assert inside("x-db1", "runuser", "-u", "postgres", "--", "psql", "-Atqc", asked).stdout.strip() == "on|on|scram-sha-256|*"


@pytest.mark.full
@pytest.mark.parametrize(("one", "other"), [("x-db1", "x-app1"), ("x-db1", "y-db1"), ("controller", "y-db1")])
def test_a_cut_drops_both_directions_and_no_other(one: str, other: str):
    with socket.create_connection((ADDRESSES["y-db1"], 22), timeout=2) as opened_before:
        opened_before.recv(64)
        done("cut", one, other)
        assert not connects(one, other)
        assert not connects(other, one)
        others = {("x-db1", "x-app1"), ("x-db1", "y-db1"), ("controller", "y-db1"), ("x-app1", "y-db1")} - {(one, other)}
        assert all(connects(*pair) for pair in others)
        opened_before.settimeout(1)
        opened_before.sendall(b"anyone?\r\n")
        if one == "controller":
            with pytest.raises(TimeoutError):
                opened_before.recv(64)
    done("heal", one, other)
    assert connects(one, other)
    assert connects(other, one)


@pytest.mark.full
def test_a_site_that_is_cut_off_goes_on_by_itself():
    done("cut-site", "x")
    assert connects("x-db1", "x-app1")
    assert not any(
        connects(*pair) for pair in (("x-db1", "y-db1"), ("y-db1", "x-app1"), ("controller", "x-db1"), ("x-app1", "controller"))
    )
    assert connects("controller", "y-db1")
    done("heal-all")
    assert connects("x-db1", "y-db1")


@pytest.mark.full
def test_heal_all_heals_all():
    done("cut", "x-db1", "y-db1")
    done("cut", "x-app1", "y-db1")
    done("heal-all")
    assert connects("x-db1", "y-db1")
    assert connects("y-db1", "x-app1")


@pytest.mark.full
def test_a_frozen_postgresql_accepts_and_never_answers():
    done("freeze-postgresql", "x-db1")
    assert not postgresql_answers()
    socket.create_connection((ADDRESSES["x-db1"], 5432), timeout=1).close()
    done("thaw-postgresql", "x-db1")
    assert wait(postgresql_answers)


@pytest.mark.full
def test_freezing_nothing_is_an_error():
    result = verb("freeze-postgresql", "y-db1")
    assert result.returncode != 0
    assert "No PostgreSQL process runs in y-db1" in result.stderr


@pytest.mark.full
def test_a_full_volume_is_full_for_the_host_itself():
    path = "/var/lib/postgresql/17/main"
    done("fill", "x-db1", path)
    write = ("dd", "if=/dev/zero", "of=/var/lib/postgresql/trial", "bs=4096", "count=1")
    assert "No space left on device" in inside("x-db1", *write).stderr
    done("unfill", "x-db1")
    assert inside("x-db1", *write).returncode == 0


@pytest.mark.full
def test_only_a_volume_of_limited_size_is_filled():
    for words in (("fill", "x-db1", "/etc"), ("fill", "y-db1", "/srv"), ("fill", "x-db1", "/var/lib/postgresql/../../../etc")):
        assert verb(*words).returncode != 0


@pytest.mark.full
def test_power_off_says_no_goodbye_and_power_on_finds_the_disk_as_it_was():
    assert wait(postgresql_answers)
    inside(
        "x-db1",
        "runuser",
        "-u",
        "postgres",
        "--",
        "psql",
        "-qc",
        "create table if not exists kept (n int); insert into kept values (1)",
    )
    with socket.create_connection((ADDRESSES["x-db1"], 22), timeout=2) as connection:
        connection.recv(64)
        done("power-off", "x-db1")
        assert done("power-status", "x-db1") == "off"
        connection.settimeout(1)
        with pytest.raises((TimeoutError, OSError)):
            connection.recv(64)
    assert not connects("x-app1", "x-db1")
    done("power-off", "x-db1")
    for _ in range(2):  # a second cycle finds control groups that were killed before
        done("power-on", "x-db1")
        assert done("power-status", "x-db1") == "on"
        assert wait(postgresql_answers)
        assert int(inside("x-db1", "runuser", "-u", "postgres", "--", "psql", "-Atqc", "select count(*) from kept").stdout) >= 1
        done("power-off", "x-db1")


@pytest.mark.full
def test_power_status_is_quick_and_says_one_word():
    began = time.monotonic()
    assert verb("power-status", "x-db1").stdout == "on\n"
    assert time.monotonic() - began < 0.5


@pytest.mark.full
def test_unknown_hosts_are_refused_by_every_verb():
    for words in (
        ("power-off", "z"),
        ("power-status", "z"),
        ("power-on", "z"),
        ("cut", "z", "x-db1"),
        ("freeze-postgresql", "z"),
        ("fill", "z", "/"),
    ):
        result = verb(*words)
        assert result.returncode != 0
        assert "There is no host z" in result.stderr


@pytest.mark.full
@pytest.mark.parametrize("victims", ["supervisors", "everything"])
def test_a_laboratory_whose_processes_were_killed_is_made_whole(victims: str):
    if victims == "supervisors":
        for pid in container.stray_processes(LAB):
            os.kill(pid, signal.SIGKILL)
    else:
        (container.group(LAB) / "cgroup.kill").write_text("1")
        assert wait(lambda: done("power-status", "y-db1") == "off")
    assert changes(playbook()) > 0
    assert changes(playbook()) == 0
    assert len(container.stray_processes(LAB)) >= len(LAB.hosts())
    assert connects("controller", "y-db1")


@pytest.mark.full
def test_a_host_that_was_half_made_is_made_anew():
    (LAB.hosts_directory / "y-db1/ready").unlink()
    assert changes(playbook()) > 0
    assert connects("controller", "y-db1")


@pytest.mark.full
def test_a_network_that_belongs_to_something_else_is_refused_by_name():
    changes(playbook("-e", "lab_state=absent"))
    subprocess.run(["ip", "link", "add", "relevo-other", "type", "bridge"], check=True)
    try:
        subprocess.run(["ip", "address", "add", "198.51.100.200/32", "dev", "relevo-other"], check=True)
        refused = playbook()
        assert refused.returncode != 0
        assert "is not free: interface relevo-other has 198.51.100.200/32" in refused.stdout
    finally:
        subprocess.run(["ip", "link", "delete", "relevo-other"], check=True)
    assert traces() == []


@pytest.mark.full
def test_a_bridge_that_belongs_to_something_else_is_refused_and_left_alone():
    changes(playbook("-e", "lab_state=absent"))
    subprocess.run(["ip", "link", "add", "rl-y", "type", "bridge"], check=True)
    try:
        refused = playbook()
        assert refused.returncode != 0
        assert "rl-y exists that is not a bridge of the laboratory" in refused.stdout
        assert changes(playbook("-e", "lab_state=absent")) == 0
        assert "rl-y" in dict(map(reversed, socket.if_nameindex()))
    finally:
        subprocess.run(["ip", "link", "delete", "rl-y"], check=True)


@pytest.mark.full
def test_another_release_is_refused_while_a_laboratory_is_there():
    refused = playbook("-e", "lab_release=bookworm")
    assert refused.returncode != 0
    assert "was made with trixie, now bookworm is asked for" in refused.stdout


@pytest.mark.full
@pytest.mark.parametrize("state_directory", ["complete", "damaged"])
def test_down_leaves_no_trace(state_directory: str):
    changes(playbook())
    before = Path("/proc/sys/net/ipv4/ip_forward").read_text()
    if state_directory == "damaged":
        LAB.description.unlink()
        shutil.rmtree(LAB.state / "ssh")
    done_down = playbook("-e", "lab_state=absent")
    assert changes(done_down) > 0
    assert traces() == []
    assert Path("/proc/sys/net/ipv4/ip_forward").read_text() == before
    assert changes(playbook("-e", "lab_state=absent")) == 0
