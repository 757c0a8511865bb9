"""A runbook as a job of AWX: without a place for its record it is refused, before anything is asked of a host."""

from __future__ import annotations

from pathlib import Path

from tests.awx_job import Job

HOSTS = {"a-db1": "a", "b-db1": "b", "a-app1": "a", "b-app1": "b", "wit1": "w"}
INVENTORY = {
    "all": {
        "children": ["dr_database", "dr_application", "dr_witness", "dr_observer"],
        # Nobody listens there: whoever asks a host is noticed.
        "vars": {"dr_cluster": "minimarket", "ansible_host": "127.0.0.1", "ansible_port": 1, "dr_secrets_directory": "/nowhere"},
    },
    "dr_database": {"hosts": ["a-db1", "b-db1"]},
    "dr_application": {"hosts": ["a-app1", "b-app1"]},
    "dr_witness": {"hosts": ["wit1"]},
    "dr_observer": {"hosts": ["wit1", "b-app1"]},
    "_meta": {
        "hostvars": {host: {"dr_site": site, "remote_tower_enabled": "true", "remote_tower_id": 1} for host, site in HOSTS.items()}
    },
}
ANSWERS = {
    "dr_mode": "drill",
    "dr_scope": "site",
    "dr_target_site": "b",
    "dr_confirm": "drill production minimarket to b",
    "dr_accept_loss_seconds": "",
    "dr_reason": "",
}


def test_a_job_without_a_database_for_its_record_is_refused_before_anything_happens(tmp_path: Path) -> None:
    ended = Job(tmp_path, "playbooks/failover.yml", INVENTORY, ANSWERS).run()
    assert ended.code != 0
    assert "G22 on controller" in ended.kept
    assert "RELEVO_STORE must be the URL of a PostgreSQL database" in ended.kept
    assert "UNREACHABLE" not in ended.kept
    assert not list(tmp_path.rglob("*.db"))
    assert ended.wrote == set(), "a checkout is read, never written"
