"""What the kernel lets a server have, in both hierarchies of control groups."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from ansible_collections.relevo.dr.plugins.module_utils.server_limits import server_limits

LIMITS = """\
Limit                     Soft Limit           Hard Limit           Units
Max open files            {soft:<20} 524288               files
"""


@pytest.fixture
def kernel(tmp_path):
    """A kernel that says what a test wants."""

    def kernel(cgroup, soft="1024", files=None):
        (tmp_path / "proc/7").mkdir(parents=True)
        (tmp_path / "proc/meminfo").write_text("MemTotal:        8000000 kB\nMemFree:  1 kB\n")
        (tmp_path / "proc/7/cgroup").write_text(cgroup)
        (tmp_path / "proc/7/limits").write_text(LIMITS.format(soft=soft))
        for name, value in (files or {}).items():
            path = tmp_path / "groups" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{value}\n")
        return server_limits(7, str(tmp_path / "proc"), str(tmp_path / "groups"))

    return kernel


def test_the_tightest_group_above_the_server_counts(kernel):
    found = kernel(
        "0::/system.slice/db.service\n",
        files={
            "system.slice/db.service/memory.max": "max",
            "system.slice/memory.max": 1 << 30,
            "memory.max": 2 << 30,
            "system.slice/db.service/pids.max": 4915,
            "system.slice/pids.max": "max",
        },
    )
    assert found == {"memory_bytes": 1 << 30, "memory_from": "its control group", "tasks": 4915, "open_files": 1024}


def test_the_old_hierarchy_has_a_tree_for_each_controller(kernel):
    found = kernel(
        "9:memory:/lab/db\n8:pids:/lab/db\n1:name=systemd:/lab/db\n",
        files={
            "memory/lab/db/memory.limit_in_bytes": 9223372036854771712,
            "memory/lab/memory.limit_in_bytes": 3 << 29,
            "pids/lab/pids.max": 200,
        },
    )
    assert (found["memory_bytes"], found["memory_from"], found["tasks"]) == (3 << 29, "its control group", 200)


def test_without_a_group_the_host_is_the_limit(kernel):
    found = kernel("0::/\n", soft="unlimited")
    assert found == {"memory_bytes": 8000000 * 1024, "memory_from": "the host", "tasks": None, "open_files": None}


def test_a_path_of_another_namespace_leads_nowhere_else(kernel, tmp_path):
    (tmp_path / "memory.max").write_text("1\n")
    assert kernel("0::/../../..\n")["memory_bytes"] == 8000000 * 1024


def test_a_process_that_is_gone_says_only_what_the_host_says(tmp_path):
    assert server_limits(7, str(tmp_path), str(tmp_path)) == {
        "memory_bytes": None,
        "memory_from": None,
        "tasks": None,
        "open_files": None,
    }


def test_this_machine_answers():
    found = server_limits(os.getpid())
    total = int(Path("/proc/meminfo").read_text().split()[1]) * 1024
    assert 0 < found["memory_bytes"] <= total
    assert found["open_files"] is None or found["open_files"] > 0
