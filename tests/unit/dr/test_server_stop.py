"""A stopped server has no process left, whoever leads them and however they hang."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import host_files, postgresql, server_stop

# Calls itself as PostgreSQL's processes are called, and says when it does.
PRETEND = """
import signal, sys, time
open('/proc/self/comm', 'w').write(sys.argv[1])
# Said in so many words: what a background job starts ignores both.
for number in (signal.SIGINT, signal.SIGQUIT):
    signal.signal(number, (lambda *_: None) if 'deaf' in sys.argv else signal.SIG_DFL)
print(flush=True)
# Not signal.pause(): a signal that comes just before it would be heard only at the next one.
while True:
    time.sleep(0.01)
"""
CONTROL = {"Database cluster state": "in production", "Latest checkpoint's TimeLineID": "1"}


@pytest.fixture
def start():
    """Start a process called so, working there; all are ended afterwards."""
    started = []

    def one(name, directory, *, deaf=False):
        words = [sys.executable, "-c", PRETEND, name, "deaf" if deaf else ""]
        process = subprocess.Popen(words, cwd=directory, stdout=subprocess.PIPE)
        started.append(process)
        process.stdout.readline()
        return process

    yield one
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A server whose files are here; systemd is told nothing."""
    monkeypatch.setattr(host_files, "STATE_DIRECTORY", str(tmp_path / "state"))
    monkeypatch.setattr(server_stop, "_mask", lambda _unit: None)
    monkeypatch.setattr(server_stop, "masked", lambda _unit: True)
    monkeypatch.setattr(server_stop, "probe", lambda *_: {"result": "refused"})
    monkeypatch.setattr(server_stop, "controldata", lambda *_: CONTROL)
    (tmp_path / "data").mkdir()
    return server_stop.Server("u.service", str(tmp_path / "data"), "/nowhere", 1, pwd.getpwuid(os.getuid()).pw_name)


def freeze(process):
    process.send_signal(signal.SIGSTOP)
    while not postgresql.stopped(process.pid):
        time.sleep(0.001)


def lead(server, process):
    """Make it the postmaster."""
    with open(os.path.join(server.data_directory, "postmaster.pid"), "w", encoding="utf-8") as target:
        target.write(f"{process.pid}\n")


def stop(server):
    server_stop.stop_for_good(server, "run", fast_seconds=5, immediate_seconds=5)


def test_backends_that_are_stopped_do_not_outlive_their_killed_postmaster(server, start):
    backends = [start("postgres", server.data_directory) for _ in range(3)]
    for backend in backends:
        freeze(backend)
    stop(server)
    assert [backend.wait(0) for backend in backends] == [-signal.SIGKILL] * 3
    assert server_stop.fenced(server)
    assert server_stop.proof(server, "a-db1")["class"] == "stopped"


def test_a_frozen_server_is_ended_at_once_and_as_a_whole(server, start):
    postmaster, backend = start("postgres", server.data_directory), start("postgres", server.data_directory)
    lead(server, postmaster)
    for process in (postmaster, backend):
        freeze(process)
    began = time.monotonic()
    stop(server)
    assert time.monotonic() - began < 3, "it waited for signals that a stopped process never takes"
    assert (postmaster.wait(0), backend.wait(0)) == (-signal.SIGKILL, -signal.SIGKILL)


def test_a_postmaster_that_hears_nothing_is_ended_after_its_backends(server, start, monkeypatch):
    """One that saw a backend die would start the cluster anew."""
    postmaster, backend = start("postgres", server.data_directory, deaf=True), start("postgres", server.data_directory)
    lead(server, postmaster)
    sent = []
    send = server_stop._send
    monkeypatch.setattr(server_stop, "_send", lambda pid, number: (sent.append((pid, number)), send(pid, number)))
    server_stop.stop_for_good(server, "run", fast_seconds=0.1, immediate_seconds=0.1)
    assert sent == [
        (postmaster.pid, signal.SIGINT),
        (postmaster.pid, signal.SIGQUIT),
        (postmaster.pid, signal.SIGSTOP),
        (backend.pid, signal.SIGKILL),
        (postmaster.pid, signal.SIGKILL),
    ]
    assert server_stop.fenced(server)


def test_a_healthy_server_is_asked_before_it_is_killed(server, start):
    postmaster = start("postgres", server.data_directory)
    lead(server, postmaster)
    stop(server)
    # The stand-in ends of SIGINT as PostgreSQL does: by itself.
    assert postmaster.wait(0) != -signal.SIGKILL


def test_no_proof_is_given_while_a_backend_lives(server, start):
    stop(server)
    assert server_stop.fenced(server)
    backend = start("postgres", server.data_directory)
    assert not server_stop.fenced(server)
    with pytest.raises(server_stop.FenceError, match=f"{backend.pid}.*outlive"):
        server_stop.proof(server, "a-db1")


def test_others_are_left_alone(server, start, tmp_path):
    elsewhere = tmp_path / "other"
    elsewhere.mkdir()
    # The archive command works in the data directory too; what it pushes is still wanted.
    others = [start("postgres", elsewhere), start("pgbackrest", server.data_directory)]
    stop(server)
    assert [other.poll() for other in others] == [None, None]


def test_processes_that_cannot_be_seen_are_no_proof(server, start, monkeypatch):
    start("postgres", server.data_directory)
    monkeypatch.setattr(postgresql, "_works_in", lambda *_: None)
    assert not server_stop.fenced(server)
    with pytest.raises(server_stop.FenceError, match="cannot be read"):
        server_stop.proof(server, "a-db1")


def test_a_stale_number_in_postmaster_pid_is_not_another_clusters_postmaster(server, start, tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    lead(server, start("postgres", other))
    assert postgresql.postmaster_pid(server.data_directory) is None
    ours = start("postmaster", server.data_directory)
    lead(server, ours)
    assert postgresql.postmaster_pid(server.data_directory) == ours.pid


def test_a_data_directory_reached_by_a_link_is_the_same(server, start, tmp_path):
    (tmp_path / "link").symlink_to(server.data_directory)
    backend = start("postgres", server.data_directory)
    assert postgresql.cluster_processes(str(tmp_path / "link")) == [backend.pid]
    backend.kill()
    assert postgresql.cluster_processes(str(tmp_path / "link")) == []
    shutil.rmtree(server.data_directory)
    assert postgresql.cluster_processes(server.data_directory) == []
