"""What single hosts find ends no run; it is kept, and said at the end. By real runs of ansible-playbook on this machine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
PLAYBOOK = """
- name: Findings
  hosts: all
  gather_facts: false
  tasks:
    - name: Ask
      relevo.dr.timer_info:
        timers: [relevo-nobody-has-this.timer, relevo-nobody-has-that.timer]
        host: "{{ inventory_hostname }}"
        gate: DEADMAN
        title: The dead-man's switch is armed
        next_action: install it
        installed: "{{ installed }}"
      register: __asked
    - name: Show
      ansible.builtin.debug:
        msg: "{{ inventory_hostname }} {{ __asked['gates'][0]['verdict'] }}"
    - name: Say
      relevo.dr.refuse:
      run_once: true
"""
# Nothing listens there.
SILENT = "silent ansible_connection=ssh ansible_host=127.0.0.1 ansible_port=1"
# A systemctl that fails as on a machine without systemd would differ from one that does not know the unit.
SYSTEMCTL = "#!/bin/sh\necho LoadState=not-found\necho ActiveState=inactive\n"


@pytest.fixture
def run(tmp_path: Path):
    """Runs the playbook within an opened run whose judgement is good so far."""
    (tmp_path / "run/control").mkdir(parents=True)
    (tmp_path / "run/journal.jsonl").write_text(json.dumps({"event": "opened", "run_id": "r1"}) + "\n")
    (tmp_path / "run/control/judgement.json").write_text(json.dumps({"sentences": [], "summary": "all is well", "enforce": False}))
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/systemctl").write_text(SYSTEMCTL)
    (tmp_path / "bin/systemctl").chmod(0o755)
    (tmp_path / "play.yml").write_text(PLAYBOOK)
    (tmp_path / "hosts").write_text(f"here ansible_connection=local ansible_python_interpreter={sys.executable}\n{SILENT}\n")

    def playbook(*, installed: bool) -> subprocess.CompletedProcess[str]:
        environment = {
            **os.environ,
            "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_NOCOLOR": "1",
            "RELEVO_FEED": "runner",
            "RELEVO_RUN_ID": "r1",
            "RELEVO_RUN_DIR": str(tmp_path / "run"),
        }
        program = Path(sys.executable).with_name("ansible-playbook")
        words = [program, "-i", tmp_path / "hosts", tmp_path / "play.yml", "-e", json.dumps({"installed": installed})]
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=120, env=environment, cwd=ROOT)

    return playbook


def test_a_gate_that_fails_and_a_host_that_is_silent_are_said_at_the_end_and_end_nothing_before(run):
    done = run(installed=True)
    assert "here fail" in done.stdout, done.stdout + done.stderr
    # Nobody could ask it: unknown, and neither is it gone from the run nor does it fail it.
    assert "silent unknown" in done.stdout
    assert done.returncode == 2
    for timer in ("this", "that"):
        said = f"DEADMAN on here: observed it is not installed; expected relevo-nobody-has-{timer}.timer waits"
        assert said in " ".join(done.stdout.split())
    assert "DEADMAN on silent" not in done.stdout


def test_what_need_not_be_installed_is_told_and_spoils_nothing(run):
    done = run(installed=False)
    assert "here not_applicable" in done.stdout, done.stdout + done.stderr
    assert "all is well" in done.stdout
    assert done.returncode == 0
