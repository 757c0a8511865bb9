#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: standby_follow
short_description: Let a fenced host follow the new primary, and lift its fence on the proof of it
description:
  - Starts the server read-only and aside of its masked unit, and waits until it streams from the new primary on the new primary's timeline and has caught up.
    Only then the fence mark is taken away, the unit unmasked and started.
  - Data that do not end before the new primary's timeline begins are refused; PostgreSQL would follow from them without a word.
  - Acts only while this host's lock is held by the run. What is done already is not done again.
options:
  system_identifier: {description: The new primary's system identifier., type: str, required: true}
  timeline: {description: The new primary's timeline., type: int, required: true}
  history: {description: "Its ancestors: timeline, lsn.", type: list, elements: dict, default: []}
  births: {description: "How its timelines began, by number, as far as it knows; see C(cluster_info).", type: dict, default: {}}
  run_id: {description: The run., type: str, required: true}
  host_name: {description: Inventory name of this host., type: str, required: true}
  cluster_version: {description: Major version., type: str, required: true}
  cluster_name: {description: Debian's name of the cluster., type: str, default: main}
  data_directory: {description: PGDATA., type: path, required: true}
  config_directory: {description: Directory of postgresql.conf., type: path, required: true}
  bin_directory: {description: Directory of psql and pg_ctl., type: path, required: true}
  unit: {description: The systemd unit., type: str, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  primary: {description: How the monitoring role connects to the new primary (libpq)., type: str, required: true}
  catchup_timeout: {description: Seconds until it must have caught up., type: int, default: 3600}
attributes:
  check_mode: {support: full, description: Says what would be done.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Follow the new primary
  relevo.dr.standby_follow:
    system_identifier: "7400000000000000001"
    timeline: 2
    history: [{timeline: 1, lsn: 0/5000000}]
    run_id: 20261124T121530Z-switchover-1f3a
    host_name: a-db1
    cluster_version: "17"
    data_directory: /var/lib/postgresql/17/main
    config_directory: /etc/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    unit: postgresql@17-main.service
    primary: host=b-db1 user=relevo_monitor dbname=postgres
"""

RETURN = r"""
steps: {description: What was done., returned: success, type: list, elements: str}
proof: {description: "streaming, timeline, replay_lsn, and at, by the new primary's clock.", returned: success, type: dict}
phase: {description: The milestone., returned: success, type: dict}
"""

import contextlib
import os
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import (
    follow_plan,
    handover_message,
    host_files,
    parting,
    rebuild_plan,
    server_start,
    server_stop,
)
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError, controldata
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal
from ansible_collections.relevo.dr.plugins.module_utils.server_start import StartError
from ansible_collections.relevo.dr.plugins.module_utils.standby_steps import OF_A_SERVER, BuildError, Steps, WalGone
from ansible_collections.relevo.dr.plugins.module_utils.wal_archive import DEFAULT_SEGMENT_BYTES


def observe(p: dict[str, Any], server: server_stop.Server, steps: Steps, theirs: parting.Line) -> follow_plan.Follower:
    site = steps.observe()
    control: dict[str, str] = {}
    with contextlib.suppress(PostgresqlError):
        control = controldata(server.bin_directory, server.data_directory, server.owner)
    runs = handover_message.chain(host_files.read_journal(1 << 20), p["run_id"])
    build = rebuild_plan.standing(site.build, runs, p["data_directory"], parting.followed(control, p["data_directory"]))
    segment_bytes = int(control.get("Bytes per WAL segment", DEFAULT_SEGMENT_BYTES))
    return follow_plan.Follower(
        running=site.running,
        in_recovery=site.in_recovery,
        streaming=site.streaming,
        signal=os.path.exists(server_start.signal_path(server)),
        fence=site.fence,
        masked=server_stop.masked(server.unit),
        unit_leads=server_start.unit_leads(server.unit),
        rebuilt=build is not None and bool(build.get("restored")),
        half=build is not None and not build.get("restored"),
        control=control,
        line=parting.of_host(p["data_directory"], follow_plan.newest(control), segment_bytes, theirs),
    )


def catch_up(server: server_stop.Server, steps: Steps) -> None:
    """Raises BuildError; where what is missing is nowhere any more, these data are marked, so that no run starts them again."""
    try:
        steps.wait()
    except WalGone as gone:
        if host_files.read_fence() is None:
            raise
        server_start.stop_aside(server, 60)
        steps.mark(restored=False, method=rebuild_plan.REWIND)
        raise BuildError(
            "%s. It is stopped and fenced. Next: start playbooks/failback.yml with -e dr_failback_method=full, which copies the primary and needs no archive"
            % gone
        ) from None


def take(p: dict[str, Any], server: server_stop.Server, steps: Steps, names: tuple[str, ...]) -> dict[str, Any]:
    proof: dict[str, Any] = {}
    for name in names:
        if name == follow_plan.START_ASIDE:
            server_start.start_aside(server, p["config_directory"])
        elif name == follow_plan.PROVE:
            catch_up(server, steps)
            proof = steps.proof(p["timeline"])
        elif name == follow_plan.STOP:
            server_start.stop_aside(server, 60)
        elif name == follow_plan.LIFT:
            # A mark that outlived the fence would speak for whatever these data become.
            host_files.drop_build()
            host_files.lift_fence()
        elif name == follow_plan.UNMASK:
            server_start.unmask(server.unit)
        else:
            server_start.start_unit(server.unit)
    return proof


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "system_identifier": {"type": "str", "required": True},
            "timeline": {"type": "int", "required": True},
            "history": {"type": "list", "elements": "dict", "default": []},
            "births": {"type": "dict", "default": {}},
            "run_id": {"type": "str", "required": True},
            **OF_A_SERVER,
            "primary": {"type": "str", "required": True},
            "catchup_timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    p = module.params
    server = server_stop.Server(p["unit"], p["data_directory"], p["bin_directory"], p["port"], p["owner"])
    lineage = follow_plan.Lineage(p["system_identifier"], parting.line(p["timeline"], p["history"], p["births"]))
    steps, phase = Steps(p), Milestone("FOLLOW", p["host_name"])
    try:
        names = follow_plan.plan(observe(p, server, steps, lineage.line), lineage, p["host_name"])
        proof: dict[str, Any] = {}
        if names and not module.check_mode:
            with host_files.acting(p["run_id"]):
                host_files.extend_lock(p["run_id"], p["catchup_timeout"] + 120)
                host_files.write_journal(p["run_id"], "FOLLOW", "intent")
                proof = take(p, server, steps, names)
                host_files.write_journal(p["run_id"], "FOLLOW", "result", outcome="ok", proof=proof)
        elif not module.check_mode:
            proof = steps.proof(p["timeline"])
    except (Refusal, BuildError, StartError, PostgresqlError, subprocess.TimeoutExpired, host_files.LockError) as error:
        said = str(error)
        module.fail_json(msg="FOLLOW on %s: %s" % (p["host_name"], said), phase=phase.ended("failed", said))
    detail = "streams on timeline %s" % proof.get("timeline")
    module.exit_json(
        changed=bool(set(names) - {follow_plan.PROVE}), steps=list(names), proof=proof, phase=phase.ended(detail=detail)
    )


if __name__ == "__main__":
    main()
