#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: run_lock
short_description: Take, or give back, this host's part of the lock of a run
description:
  - The lock is a file that appears whole or not at all, and only where there is none. It names the run, its owner and controller, and carries a lease on this
    host's own CLOCK_BOOTTIME.
  - A lock of another run is taken over only when its controller process is known to be dead, or its lease has expired here and nothing shows that it lives;
    and when no task of it is at work here.
  - With O(checkpoint=true) a running primary writes a checkpoint, so that the stop on the outage clock is short.
options:
  state: {description: What is wanted., type: str, required: true, choices: [held, free]}
  run_id: {description: The run., type: str, required: true}
  owner: {description: Who runs it., type: str, default: ''}
  controller: {description: Host name of the controller., type: str, default: ''}
  controller_boot_id: {description: Boot id of the controller., type: str, default: ''}
  controller_pid: {description: Process id of the run on the controller., type: int, default: 0}
  controller_pid_started: {description: Start time of that process., type: str, default: ''}
  controller_pid_namespace: {description: The pid namespace in which that process has this id., type: str, default: ''}
  dead_run_id: {description: A run whose process on this same controller is known to be dead., type: str, default: ''}
  living_run_id: {description: A run that lives although its lease may have expired here., type: str, default: ''}
  sign_of_life: {description: "What shows that O(living_run_id) lives, for the refusal.", type: str, default: ''}
  lease_seconds: {description: Length of the lease., type: float, default: 120}
  orphan_wait_seconds: {description: How long to wait for a task that a dead run left at work here., type: float, default: 30}
  checkpoint: {description: Ask a running primary for a checkpoint., type: bool, default: false}
  bin_directory: {description: Directory of psql., type: path, default: /usr/bin}
  port: {description: Port of the server., type: int, default: 5432}
  letter: {description: Name of the letter that says when; empty when it is now., type: str, default: ''}
  letter_seconds: {description: How long to wait for it., type: float, default: 300}
  letter_silence_seconds: {description: How long the beat of the run may be missing meanwhile; 0 when there is none., type: float, default: 0}
attributes:
  check_mode: {support: full, description: Says who holds the lock and takes nothing.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Take the lock on this host
  relevo.dr.run_lock:
    state: held
    run_id: 20261124T121530Z-failover-1f3a
    owner: sre
"""

RETURN = r"""
before: {description: The lock that was there., returned: always, type: dict}
taken_over: {description: The run whose lock was taken over., returned: when it was, type: str}
"""

from dataclasses import asdict, replace
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, host_files, letter
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, Psql


def hold(module: AnsibleModule) -> dict[str, object]:
    parameters = module.params
    left = of_a_dead_run(parameters)
    if left is not None:
        # First of all: a task of it that waits for a word of its own run would be waited for in vain.
        letter.remove_boxes(left.run_id)
    wanted = host_files.Lock(
        run_id=parameters["run_id"],
        owner=parameters["owner"],
        controller=parameters["controller"],
        controller_boot_id=parameters["controller_boot_id"],
        controller_pid=parameters["controller_pid"],
        controller_pid_started=parameters["controller_pid_started"],
        controller_pid_namespace=parameters["controller_pid_namespace"],
        since=clock.utc_now(),
        lease_until_boottime=clock.boottime_seconds() + parameters["lease_seconds"],
        boot_id=clock.boot_id(),
    )
    taken_over = None
    # The flock also waits for a task that a killed run left at work; what it does must be over before anything is observed.
    with host_files.acting(parameters["run_id"], parameters["orphan_wait_seconds"]):
        before, left = host_files.read_lock(), of_a_dead_run(parameters)
        if left is not None:
            taken_over = left.run_id
            # The outage that the dead run began is this run's to answer for.
            wanted = replace(wanted, began_at=left.began_at or left.since)
            host_files.remove_lock(left.run_id)
        host_files.acquire_lock(wanted)
        if taken_over:
            host_files.write_journal(parameters["run_id"], "LOCK", "result", outcome="ok", taken_over=taken_over)
        # Modules that a dead run left waiting, or an armed one, go away.
        letter.remove_boxes(but=parameters["run_id"])
        if parameters["checkpoint"]:
            checkpoint(parameters["bin_directory"], parameters["port"])
    return {"before": asdict(before) if before else None, "taken_over": taken_over}


def of_a_dead_run(parameters: dict[str, Any]) -> Optional[host_files.Lock]:
    """The lock that is to be taken over, if there is one. Raises LockError when its run may live."""
    held = host_files.read_lock()
    if held is None or held.run_id == parameters["run_id"]:
        return None
    if held.run_id != parameters["dead_run_id"]:
        refuse_living(held, parameters["living_run_id"], parameters["sign_of_life"])
    return held


def refuse_living(held: host_files.Lock, living_run_id: str, sign_of_life: str) -> None:
    """Raises LockError, unless its lease is over and nothing shows that it lives."""
    now = clock.boottime_seconds()
    if not held.expired(now, clock.boot_id()):
        raise host_files.LockError(
            "%s; its lease ends in %.0f s. Next: wait for that run, or, if it is dead, start again then"
            % (host_files.describe(held), held.lease_until_boottime - now)
        )
    if held.run_id == living_run_id:
        raise host_files.LockError(
            "%s; its lease has ended here, but %s. Next: wait for that run; one that hangs has to be ended where it was started"
            % (host_files.describe(held), sign_of_life)
        )


def checkpoint(bin_directory: str, port: int) -> None:
    """Best effort: a primary that cannot do it is about to be stopped anyway."""
    try:
        with Psql(bin_directory, port, timeout_seconds=30) as session:
            if session.execute("select pg_is_in_recovery()") == "f":
                session.execute("checkpoint")
    except PostgresqlError:
        return


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "required": True, "choices": ["held", "free"]},
            "run_id": {"type": "str", "required": True},
            "owner": {"type": "str", "default": ""},
            "controller": {"type": "str", "default": ""},
            "controller_boot_id": {"type": "str", "default": ""},
            "controller_pid": {"type": "int", "default": 0},
            "controller_pid_started": {"type": "str", "default": ""},
            "controller_pid_namespace": {"type": "str", "default": ""},
            "dead_run_id": {"type": "str", "default": ""},
            "living_run_id": {"type": "str", "default": ""},
            "sign_of_life": {"type": "str", "default": ""},
            "lease_seconds": {"type": "float", "default": 120},
            "orphan_wait_seconds": {"type": "float", "default": 30},
            "checkpoint": {"type": "bool", "default": False},
            "bin_directory": {"type": "path", "default": "/usr/bin"},
            "port": {"type": "int", "default": 5432},
            **letter.OPTIONS,
        },
        supports_check_mode=True,
    )
    before = host_files.read_lock()
    if module.check_mode:
        module.exit_json(changed=False, before=asdict(before) if before else None)
    if module.params["state"] == "free":
        if before is not None and before.run_id == module.params["run_id"]:
            host_files.write_journal(module.params["run_id"], "UNLOCK", "result", outcome="ok")
        host_files.remove_lock(module.params["run_id"])
        letter.remove_boxes(module.params["run_id"])
        module.exit_json(changed=False, before=asdict(before) if before else None)
    try:
        letter.complete(module.params, module.params["run_id"])
        before = host_files.read_lock()
        # A lock is the run's own breath, not a change of the system: taking it is not reported as one.
        module.exit_json(changed=False, **hold(module))
    except (host_files.LockError, letter.NoLetter) as error:
        module.fail_json(msg=str(error), lock=asdict(before) if before else None)


if __name__ == "__main__":
    main()
