"""Room for inotify, counted as the kernel counts it: by user, over all hosts."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest
from ansible_collections.relevo.lab.plugins.module_utils import watches
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import LaboratoryError


@pytest.fixture
def limit(tmp_path: Path) -> Path:
    return tmp_path / "max_user_instances"


@pytest.fixture
def processes(tmp_path: Path) -> Path:
    """A /proc with nobody in it."""
    (tmp_path / "proc").mkdir()
    return tmp_path / "proc"


def process(processes: Path, pid: int, *targets: str) -> None:
    directory = processes / str(pid) / "fd"
    directory.mkdir(parents=True)
    for number, target in enumerate(targets):
        (directory / str(number)).symlink_to(target)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's are counted")
def test_what_root_holds_is_counted(processes: Path):
    process(processes, 7, "anon_inode:inotify", "anon_inode:[eventpoll]", "anon_inode:inotify", "/dev/null")
    process(processes, 8, "anon_inode:inotify")
    process(processes, 9)
    os.chown(processes / "8", 1000, 1000)
    (processes / "self").mkdir()
    assert watches.instances_of_root(processes) == 2


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's are counted")
def test_an_instance_of_our_own_is_seen_in_the_real_proc():
    descriptor = ctypes.CDLL(None, use_errno=True).inotify_init()
    assert descriptor >= 0
    try:
        assert watches.instances_of_root(Path("/proc")) >= 1
        assert watches._target(Path(f"/proc/self/fd/{descriptor}")) == "anon_inode:inotify"
    finally:
        os.close(descriptor)


def test_too_little_room_is_refused_with_the_value_that_is_enough(limit: Path, processes: Path):
    limit.write_text("54\n")
    watches.refuse_shortage(9, limit, processes)
    limit.write_text("53\n")
    with pytest.raises(LaboratoryError, match=r"is 53 and root has 0 of them; 9 more hosts need up to 54.*max_user_instances=64'"):
        watches.refuse_shortage(9, limit, processes)


def test_a_kernel_without_the_limit_is_no_reason_to_refuse(limit: Path, processes: Path):
    watches.refuse_shortage(1000, limit, processes)
