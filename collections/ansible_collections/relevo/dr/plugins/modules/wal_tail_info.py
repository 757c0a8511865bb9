#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: wal_tail_info
short_description: What the WAL of a stopped server holds behind a position
description:
  - Counts the commits between a position that a standby has replayed and the server's own shutdown, with C(pg_waldump).
  - A standby that lacks only the shutdown checkpoint has lost nothing; one that lacks commits has.
options:
  data_directory: {description: PGDATA of the stopped server., type: path, required: true}
  bin_directory: {description: Directory of pg_waldump., type: path, required: true}
  start_lsn: {description: The position., type: str, required: true}
  timeline: {description: The server's timeline., type: int, required: true}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  timeout: {description: Seconds for all of it., type: float, default: 30}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Count what the standby does not have
  relevo.dr.wal_tail_info:
    data_directory: /var/lib/postgresql/17/main
    bin_directory: /usr/lib/postgresql/17/bin
    start_lsn: 0/5000000
    timeline: 1
"""

RETURN = r"""
commits: {description: How many transactions committed behind the position; null when the WAL cannot be read up to a shutdown., returned: always, type: int}
said: {description: Why it is null., returned: always, type: str}
"""

import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import waldump
from ansible_collections.relevo.dr.plugins.module_utils.wal_tail import count


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "data_directory": {"type": "path", "required": True},
            "bin_directory": {"type": "path", "required": True},
            "start_lsn": {"type": "str", "required": True},
            "timeline": {"type": "int", "required": True},
            "owner": {"type": "str", "default": "postgres"},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    p = module.params
    try:
        done = waldump.behind(p, p["timeline"], p["start_lsn"], p["timeout"])
    except (OSError, subprocess.TimeoutExpired) as error:
        module.exit_json(changed=False, commits=None, said="pg_waldump: %s" % error)
    # Whether the end of what can be read is the end of the WAL is told by the shutdown before it.
    commits = count(done.stdout)
    module.exit_json(changed=False, commits=commits, said="" if commits is not None else done.stderr.strip()[:300])


if __name__ == "__main__":
    main()
