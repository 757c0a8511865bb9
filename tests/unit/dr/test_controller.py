"""A lock is taken from a process that is known to be dead, and from no other."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import asdict

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.host_files import Lock
from ansible_collections.relevo.dr.plugins.plugin_utils import controller

HERE = {
    "controller": socket.gethostname(),
    "controller_boot_id": clock.boot_id(),
    "controller_pid_namespace": controller.pid_namespace(),
}


def lock(**changes):
    known = {"run_id": "first", "owner": "ana", "since": clock.utc_now(), "lease_until_boottime": 0.0, "boot_id": clock.boot_id()}
    process = {"controller_pid": os.getpid(), "controller_pid_started": controller.process_started(os.getpid())}
    return asdict(Lock(**{**known, **HERE, **process, **changes}))


def test_a_living_owner_keeps_its_lock():
    assert controller.owner_alive(lock())
    assert not controller.owner_dead(lock())
    assert not controller.owner_dead(None)
    assert not controller.owner_alive(None)


def test_a_process_that_is_gone_or_another_one_by_now_is_dead():
    assert controller.owner_dead(lock(controller_pid_started="1"))
    assert controller.owner_dead(lock(controller_pid=2**22 + 1))
    assert not controller.owner_alive(lock(controller_pid=2**22 + 1))


@pytest.mark.parametrize(
    "elsewhere",
    [
        {"controller": "ops2"},
        {"controller_boot_id": "another"},
        {"controller_pid_namespace": "pid:[1]"},
        {"controller_pid_namespace": ""},
    ],
    ids=["another machine", "another boot", "another container", "a lock that does not say where"],
)
def test_of_a_process_that_cannot_be_seen_from_here_nothing_is_known(elsewhere):
    assert not controller.owner_dead(lock(controller_pid=2**22 + 1, **elsewhere))
    assert not controller.owner_alive(lock(**elsewhere))


def test_a_lock_of_an_earlier_version_is_read_and_left_to_its_lease():
    old = lock(controller_pid=2**22 + 1)
    del old["controller_pid_namespace"], old["began_at"]
    assert not controller.owner_dead(old)


def test_the_identity_fits_into_a_lock():
    identity = controller.identity()
    assert identity["controller_pid_namespace"] == os.readlink("/proc/self/ns/pid")
    assert not controller.owner_dead(lock(**identity))


SAYS_WHO_IT_IS = """
import json
from ansible_collections.relevo.dr.plugins.plugin_utils import controller
print(json.dumps(controller.identity()), flush=True)
input()
"""


def test_a_living_run_in_another_pid_namespace_is_not_taken_for_dead():
    """Two execution environments with the network and the name of their machine."""
    apart = ["unshare", *(["--user", "--map-root-user"] if os.geteuid() else []), "--pid", "--fork", "--mount-proc"]
    child = subprocess.Popen(
        [*apart, "sh", "-c", '"$@"; true', "sh", sys.executable, "-c", SAYS_WHO_IT_IS],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    try:
        theirs = json.loads(child.stdout.readline())
        assert (theirs["controller"], theirs["controller_boot_id"]) == (HERE["controller"], HERE["controller_boot_id"])
        assert theirs["controller_pid"] == 1
        assert not controller.owner_dead(lock(**theirs))
    finally:
        child.communicate("\n", timeout=10)
