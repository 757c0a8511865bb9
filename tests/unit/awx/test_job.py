"""A runbook as a job of AWX: without a place for its record it is refused, before anything is asked of a host."""

from __future__ import annotations

from pathlib import Path

import pytest

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
    made = Job(tmp_path, "playbooks/failover.yml", INVENTORY, ANSWERS)
    made.environment["PYTHONDONTWRITEBYTECODE"] = "1"  # root may, whatever the modes say
    ended = made.run()
    assert ended.code != 0
    assert "G22 on controller" in ended.kept
    assert "RELEVO_STORE must be the URL of a PostgreSQL database" in ended.kept
    assert "UNREACHABLE" not in ended.kept
    assert not list(tmp_path.rglob("*.db"))
    assert ended.wrote == set(), "a checkout is read, never written"


def test_what_a_job_has_done_to_its_checkout_is_seen(tmp_path: Path) -> None:
    """New, gone, changed without another length, with other rights: each is told."""
    made = Job(tmp_path, "playbooks/failover.yml", INVENTORY, ANSWERS)
    changes = """
        cd "$1/project"
        chmod -R u+w .
        touch playbooks/new.yml
        rm awx/plan.yml
        tr a b < ansible.cfg > /dev/shm/relevo-$$ && cat /dev/shm/relevo-$$ > ansible.cfg && rm /dev/shm/relevo-$$
        chmod -R a-w .
        chmod 755 playbooks/failover.yml
        """
    ended = made.run("sh", "-ec", changes, "sh", str(made.directory))
    assert ended.code == 0, ended.output
    assert ended.wrote == {"playbooks/new.yml", "awx/plan.yml", "ansible.cfg", "playbooks/failover.yml"}


def test_a_credential_has_the_fields_of_its_type(tmp_path: Path) -> None:
    kind = {
        "name": "Of a test",
        "inputs": {"fields": [{"id": "one"}, {"id": "two"}], "required": ["one"]},
        "injectors": {"file": {"template.one": "{{ one }}"}, "env": {"ONE": "{{ tower.filename.one }}"}},
    }
    made = Job(tmp_path, "playbooks/failover.yml", INVENTORY, ANSWERS)
    made.credential(kind, one="1")
    assert Path(made.environment["ONE"]).read_text() == "1"
    for wrong in ({"two": "2"}, {"one": "1", "three": "3"}):
        with pytest.raises(AssertionError, match="Of a test"):
            made.credential(kind, **wrong)
