#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: standby_build
short_description: A streaming standby from the backup repository
description:
  - >-
    Where nothing is: makes Debian's cluster configuration, restores the newest backup as a standby, starts it, and waits until it streams and has replayed
    what the primary had written when the wait began. A standby of this cluster that is there is adopted.
  - >-
    A directory that is not empty is never restored into, unless F(/var/lib/relevo/standby-build.json) says that it is this build, unfinished; then the build
    goes on. Another cluster, a second primary or a former primary are refused.
  - With I(state=prepared) it stops before the first start, so that access rules and parameters can be managed in between.
options:
  state: {description: How far to go., type: str, choices: [prepared, streaming], default: streaming}
  system_identifier: {description: The primary's., type: str, required: true}
  host_name: {description: Name of this host in sentences., type: str, required: true}
  cluster_version: {description: Major version., type: str, required: true}
  cluster_name: {description: Debian's name of the cluster., type: str, default: main}
  data_directory: {description: PGDATA., type: path, required: true}
  config_directory: {description: Directory of postgresql.conf., type: path, required: true}
  bin_directory: {description: Directory of psql and pg_controldata., type: path, required: true}
  unit: {description: The systemd unit of the cluster., type: str, required: true}
  port: {description: Port of the server., type: int, default: 5432}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  config: {description: pgBackRest's configuration file., type: path, required: true}
  stanza: {description: The stanza., type: str, required: true}
  run_id: {description: The run; kept in the mark., type: str, default: ""}
  primary: {description: Connection string of the primary for a monitoring role., type: str, required: true}
  timeline: {description: The primary's; needed where there may be something to restore., type: int}
  history: {description: "The primary's ancestors: timeline, lsn.", type: list, elements: dict, default: []}
  restore_timeout: {description: Seconds that the restore may take., type: int, default: 86400}
  catchup_timeout: {description: Seconds until the standby must stream and have caught up., type: int, default: 3600}
attributes:
  check_mode: {support: full, description: Stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Build the standby
  relevo.dr.standby_build:
    system_identifier: "7480000000000000000"
    host_name: b-db1
    cluster_version: "17"
    data_directory: /var/lib/postgresql/17/main
    config_directory: /etc/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    unit: postgresql@17-main.service
    config: /etc/pgbackrest/pgbackrest.conf
    stanza: minimarket
    primary: host=a-db1 user=relevo_monitor dbname=postgres passfile=/etc/relevo/pgpass sslmode=verify-full sslrootcert=/etc/ssl/ca.pem
    timeline: 2
    history: [{timeline: 1, lsn: 0/7000110}]
"""

RETURN = r"""
changes: {description: "What differed (item, current, wanted).", returned: always, type: list, elements: dict}
steps: {description: What was done., returned: always, type: list, elements: str}
restored_bytes: {description: Size of the data directory after a restore., returned: always, type: int}
restore_seconds: {description: How long the restore took; null when there was none., returned: always, type: float}
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import host_files, standby_build
from ansible_collections.relevo.dr.plugins.module_utils.change import shown
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.pgbackrest import PgbackrestError
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import PostgresqlError
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal, sentence
from ansible_collections.relevo.dr.plugins.module_utils.standby_build import CLEAN, CONTINUE, CREATE, RESTORE, START, WAIT
from ansible_collections.relevo.dr.plugins.module_utils.standby_steps import OF_A_SERVER, BuildError, Steps, WalGone


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["prepared", "streaming"], "default": "streaming"},
            "system_identifier": {"type": "str", "required": True},
            **OF_A_SERVER,
            "config": {"type": "path", "required": True},
            "stanza": {"type": "str", "required": True},
            "run_id": {"type": "str", "default": ""},
            "primary": {"type": "str", "required": True},
            "timeline": {"type": "int"},
            "history": {"type": "list", "elements": "dict", "default": []},
            "restore_timeout": {"type": "int", "default": 86400},
            "catchup_timeout": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    host = module.params["host_name"]
    try:
        manage(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))
    except (BuildError, PgbackrestError, PostgresqlError, subprocess.TimeoutExpired) as error:
        next_action = getattr(error, "next_action", "mend that, then run playbooks/protect.yml again: it goes on with this build")
        module.fail_json(msg=sentence("STANDBY", host, str(error), "a streaming standby", next_action))


def manage(module: AnsibleModule) -> None:
    steps = Steps(module.params)
    plan = standby_build.plan(
        steps.observe(), module.params["system_identifier"], module.params["host_name"], module.params["data_directory"]
    )
    if plan.steps and not module.check_mode:
        take(steps, plan.steps, prepare_only=module.params["state"] == "prepared")
    module.exit_json(
        changed=bool(plan.steps),
        changes=shown(plan.changes),
        steps=list(plan.steps),
        restored_bytes=steps.restored_bytes,
        restore_seconds=steps.restore_seconds,
    )


def take(steps: Steps, names: tuple[str, ...], *, prepare_only: bool) -> None:
    if RESTORE in names or CONTINUE in names:
        steps.mark(restored=False)
        if CREATE in names:
            steps.create()
        if CLEAN in names:
            steps.clean()
        steps.restore(resume=CONTINUE in names)
        steps.mark(restored=True)
    if prepare_only:
        return
    if START in names:
        steps.start()
    if WAIT in names:
        try:
            steps.wait()
        except WalGone:
            steps.give_up()
            raise
    host_files.drop_build()


if __name__ == "__main__":
    main()
