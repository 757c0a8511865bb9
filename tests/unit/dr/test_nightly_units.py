"""What the role dr_nightly writes for its jobs, rendered by a real ansible-playbook on this machine, and which units it takes for others' or for old."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.unit.dr.test_deadman import deadman

ROOT = Path(__file__).resolve().parents[3]
ROLE = ROOT / "roles/dr_nightly"
PLAYBOOK = """
- name: Render
  hosts: all
  gather_facts: false
  vars_files: [ROLE/defaults/main.yml, ROLE/vars/main.yml]
  tasks:
    - name: Write the units
      ansible.builtin.copy:
        dest: "{{ out }}/{{ item[1] }}-{{ item[0]['runbook'] }}"
        content: "{{ lookup('ansible.builtin.template', 'ROLE/templates/relevo-nightly.' ~ item[1] ~ '.j2', template_vars={'job': item[0]}) }}"
        mode: "0600"
      loop: "{{ dr_nightly_jobs | product(['service', 'timer']) }}"
    - name: Write the units of the report
      ansible.builtin.copy:
        dest: "{{ out }}/{{ item }}-readiness"
        content: "{{ lookup('ansible.builtin.template', 'ROLE/templates/relevo-readiness.' ~ item ~ '.j2') }}"
        mode: "0600"
      loop: [service, timer]
    - name: Write the settings
      ansible.builtin.copy:
        dest: "{{ out }}/deadman.json"
        content: "{{ lookup('ansible.builtin.template', 'ROLE/templates/deadman.json.j2') }}"
        mode: "0600"
    - name: Look for units of other jobs
      ansible.builtin.find:
        paths: ["{{ out }}/units"]
        patterns: ["{{ __dr_nightly_any_unit }}"]
        excludes: ["{{ __dr_nightly_wanted_unit }}"]
        use_regex: true
      register: others
    - name: Write what was found
      ansible.builtin.copy:
        dest: "{{ out }}/found.json"
        content: >-
          {{ {'others': others['files'] | map(attribute='path') | map('basename') | sort,
              'units': __dr_nightly_units, 'timers': __dr_nightly_timers} | to_json }}
        mode: "0600"
""".replace("ROLE", str(ROLE))
# Of this cluster and wanted, of this cluster and not, and of others.
WANTED = {"relevo-nightly-verify_backup@shop.timer", "relevo-nightly-restore_test@shop.service"}
OLD = ["relevo-nightly-check@shop.timer", "relevo-nightly@shop.service", "relevo-nightly@shop.timer"]
OF_OTHERS = {
    "relevo-nightly@shop-eu.timer",
    "relevo-nightly-check@shop-eu.timer",
    "relevo-nightly@eu@shop.timer",
    "relevo-notify@shop.timer",
    "relevo-nightly@shopXeu.timer",
    "relevo-nightly@shop.timer.bak",
}


@pytest.fixture
def rendered(tmp_path: Path):
    """Everything that the role would write, in one directory."""
    (tmp_path / "units").mkdir()
    for name in [*WANTED, *OLD, *OF_OTHERS]:
        (tmp_path / "units" / name).touch()
    (tmp_path / "run/control").mkdir(parents=True)
    (tmp_path / "run/journal.jsonl").write_text(json.dumps({"event": "opened", "run_id": "r1"}) + "\n")
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "hosts").write_text(
        f"c1 ansible_connection=local ansible_python_interpreter={sys.executable}\n[dr_controller]\nc1\n[dr_witness]\n"
    )

    def render(**variables: object) -> Path:
        given = {"out": str(tmp_path), "dr_cluster": "shop", "dr_secrets_directory": "/etc/secrets", **variables}
        environment = {
            **os.environ,
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "RELEVO_FEED": "runner",
            "RELEVO_RUN_ID": "r1",
            "RELEVO_RUN_DIR": str(tmp_path / "run"),
        }
        program = Path(sys.executable).with_name("ansible-playbook")
        words = [program, "-i", tmp_path / "hosts", tmp_path / "play.yml", "-e", json.dumps(given)]
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, env=environment, cwd=ROOT)
        assert done.returncode == 0, done.stdout + done.stderr
        return tmp_path

    return render


def test_a_nightly_verification_and_a_monthly_restore_test_by_default(rendered):
    out = rendered()
    assert json.loads((out / "found.json").read_text()) == {
        "others": OLD,
        "units": ["relevo-nightly-verify_backup@shop", "relevo-nightly-restore_test@shop"],
        "timers": [
            "relevo-nightly-verify_backup@shop",
            "relevo-nightly-restore_test@shop",
            "relevo-notify@shop",
            "relevo-readiness@shop",
        ],
    }
    calendars = {
        job: re.search("^OnCalendar=(.*)$", (out / f"timer-{job}").read_text(), re.MULTILINE)[1]
        for job in ("verify_backup", "restore_test")
    }
    assert calendars == {"verify_backup": "*-*-* 03:00:00 UTC", "restore_test": "*-*-01 05:00:00 UTC"}
    service = (out / "service-restore_test").read_text()
    assert "/relevo run restore_test -i " in service
    assert "playbooks/beat.yml -e dr_nightly_runbook=restore_test\n" in service
    assert "TimeoutStartSec=86400\n" in service
    assert "TimeoutStartSec=21600\n" in (out / "service-verify_backup").read_text()
    # The program on the witness reads what the role writes, and watches each by its own limits.
    jobs = deadman.read_settings(out / "deadman.json")
    assert [(job.runbook, job.silence_seconds, job.unproven_seconds) for job in jobs] == [
        ("verify_backup", 93600, 180000),
        ("restore_test", 2851200, 3024000),
    ]
    assert [job.beat for job in jobs] == [f"/var/lib/relevo-beat/{job.runbook}@shop.json" for job in jobs]
    assert "systemctl start relevo-nightly-restore_test@shop.service" in jobs[1].action


def test_keys_that_are_kept_in_escrow_are_looked_after_every_hour(rendered):
    out = rendered(dr_keys_paths=[{"name": "safe", "kind": "directory", "path": "/srv/escrow"}])
    assert re.search("^OnCalendar=(.*)$", (out / "timer-escrow_keys").read_text(), re.MULTILINE)[1] == "*-*-* *:15:00 UTC"
    jobs = {job.runbook: job for job in deadman.read_settings(out / "deadman.json")}
    assert set(jobs) == {"verify_backup", "restore_test", "escrow_keys"}
    assert (jobs["escrow_keys"].silence_seconds, jobs["escrow_keys"].unproven_seconds) == (9000, 14400)


def test_what_a_job_is_given_reaches_the_run_as_it_is(rendered):
    job = {"runbook": "restore_test", "calendar": "monthly", "silence_seconds": 1, "unproven_seconds": 1}
    words = {"dr_reason": '100 % of "$HOME"', "dr_restore_set": "all"}
    out = rendered(dr_nightly_jobs=[{**job, "variables": words}], dr_nightly_scheduler="external")
    service = (out / "service-restore_test").read_text()
    assert '    -e "dr_reason=100 %% of \\"$$HOME\\"" \\\n    -e "dr_restore_set=all" \\\n    --notify ' in service
    assert deadman.read_settings(out / "deadman.json")[0].action.startswith("look at the schedule that starts restore_test")
    assert json.loads((out / "found.json").read_text())["others"] == sorted([*OLD, "relevo-nightly-verify_backup@shop.timer"])


def test_the_readiness_report_goes_out_each_week_or_never(rendered):
    out = rendered()
    service = (out / "service-readiness").read_text()
    assert re.search(r"/relevo readiness --cluster shop -i \S+ --verify --notify /etc/secrets$", service, re.MULTILINE)
    assert "OnCalendar=Mon *-*-* 07:00:00 UTC\n" in (out / "timer-readiness").read_text()
    never = rendered(dr_nightly_readiness_calendar="")
    assert "relevo-readiness@shop" not in json.loads((never / "found.json").read_text())["timers"]
