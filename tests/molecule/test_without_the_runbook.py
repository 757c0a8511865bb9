"""Each scenario's verify fails where its runbook does nothing, for a reason that is the runbook's: on the laboratory that `make molecule` leaves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCENARIOS = ROOT / "tests/molecule"
# What is missed first where the runbook did nothing, and then where it opened its record and did nothing more.
# None: it leaves no record.
MISSED: dict[str, tuple[str, str | None]] = {
    "backup": (r"Incremental backups are in these repositories: \[\]",) * 2,
    "beat": ("wit1 has heard of no check", None),
    "check": ("No run of check is on record", "no pass for .*G08"),
    "escrow_keys": ("store1 holds 0 packs",) * 2,
    "failback": ("Nobody streams from b-db1",) * 2,
    "failover": ("b-db1 takes no write: .*read-only",) * 2,
    "lab": ("Off are: .*a-app1", None),
    "nightly": ("The dead-man's switch is inactive",) * 2,
    "own_application": ("b-db1 takes no write: .*read-only",) * 2,
    "protect": ("its timer is inactive",) * 2,
    "recover_keys": ("No run of recover_keys is on record", r"; \{\}"),
    "rehearse": ("No run of rehearse is on record", "no rung of LEDGER, R1"),
    "restore_files": ("/var/restored does not hold the file",) * 2,
    "restore_test": ("No run of restore_test is on record", "no rung of LEDGER, R1"),
    "switchover": ("b-db1 takes no write: .*read-only",) * 2,
    "verify_backup": ("No run of verify_backup is on record", "no pass for .*WAL"),
    "refuses_cut_off_standby": ("No run of failover is on record", "does not say that the run was refused for G08"),
    "refuses_limit": ("No run of failover is on record", "does not say that the run was refused for"),
    "refuses_primary_in_sight": ("No run of failover is on record", "does not say that the run was refused for G07"),
    "refuses_silent_witness": ("No run of failover is on record", "does not say that the run was refused for REACH"),
    "refuses_stale_backup": ("No run of failover is on record", "does not say that the run was refused for G05"),
    "refuses_unfenced_primary": ("No run of failover is on record", "does not say that the run was refused for G07"),
    "refuses_wrong_confirmation": ("No run of failover is on record", "does not say that the run was refused for"),
}
NOTHING = """---
- name: Do nothing
  hosts: all
  gather_facts: false
  tasks: []
"""
OPENED = """---
- name: Open the record and do nothing more
  hosts: all
  gather_facts: false
  tasks:
    - name: Open
      ansible.builtin.include_role: {name: dr_run, tasks_from: open}
      run_once: true
      vars: {dr_run_runbook: RUNBOOK}
"""
CONFIG = """---
ansible: {playbooks: {converge: PLAYBOOK}}
scenario: {converge_sequence: [SEQUENCE]}
provisioner: {options: {extra-vars: WORDS}}
"""
# One that is to be refused types what is refused in its converge; here it goes on as if it were allowed.
WORDS = "dr_mode=drill dr_scope=site dr_target_site=b dr_confirm='drill production minimarket to b'"
pytestmark = pytest.mark.full


def misses(what: str, name: str, playbook: Path, *before: str) -> None:
    """With this playbook for its runbook the scenario goes wrong in its verification alone: an assertion does not hold, and says what is missed."""
    config = playbook.with_name("config.yml")
    filled = {
        "PLAYBOOK": str(playbook),
        "SEQUENCE": ", ".join([*before, "converge", "verify"]),
        "WORDS": json.dumps(name.startswith("refuses_") and WORDS),
    }
    config.write_text(re.sub("|".join(filled), lambda word: filled[word[0]], CONFIG))
    bases = [word for base in (SCENARIOS / "config.yml", config) for word in ("--base-config", str(base))]
    done = subprocess.run(
        [Path(sys.executable).parent / "molecule", *bases, "converge", "--no-command-borders", "--scenario-name", name],
        cwd=ROOT,
        env={
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "MOLECULE_GLOB": "tests/molecule/*/molecule.yml",
            "RELEVO_STORE": os.environ.get("RELEVO_STORE") or str(ROOT / ".relevo"),
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=900,
        stdin=subprocess.DEVNULL,
    )
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout)
    assert f"{name} ➜ converge: Executed: Successful" in said, f"it went wrong before the verification:\n{said[-4000:]}"
    assert f"{name} ➜ verify: Executed: Failed" in said, f"it is verified without its runbook:\n{said[-4000:]}"
    # What Molecule says and what Ansible says are not always in one order.
    assert "evaluated_to: false" in said, f"no assertion failed:\n{said[-4000:]}"
    assert "UNREACHABLE!" not in said, said[-4000:]
    assert re.search(what, " ".join(said.split())), f"{what!r} is not why:\n{said[-4000:]}"


@pytest.mark.parametrize("name", sorted(MISSED))
def test_verify_fails_where_the_runbook_does_nothing(name: str, tmp_path: Path, record_property: pytest.RecordProperty) -> None:
    began = time.monotonic()
    without, opened = MISSED[name]
    playbook = tmp_path / "converge.yml"
    playbook.write_text(NOTHING)
    fault = ["side_effect"] if (SCENARIOS / name / "side_effect.yml").exists() else []
    misses(without, name, playbook, "cleanup", *fault)
    if opened:
        playbook.write_text(OPENED.replace("RUNBOOK", name if (ROOT / f"playbooks/{name}.yml").exists() else "failover"))
        misses(opened, name, playbook)
    record_property("seconds", round(time.monotonic() - began))
