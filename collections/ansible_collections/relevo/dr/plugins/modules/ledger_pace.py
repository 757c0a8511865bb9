#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_pace
short_description: How often the ledger and the observers on this host write
description:
  - The fast pace holds for a limited time by this host's clock and then expires by itself, whatever becomes of the run.
options:
  state: {description: The pace., type: str, choices: [fast, quiet], default: fast}
  ledger_interval_seconds: {description: Between two writes of the ledger., type: float, default: 0.05}
  observer_interval_seconds: {description: Between two observations of one address., type: float, default: 0.2}
  seconds: {description: How long the fast pace holds., type: float, default: 900}
  path: {description: The pace file., type: path, default: /run/relevo-ledger/pace.json}
attributes:
  check_mode: {support: full, description: Says what would change.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Write twenty times a second for the next ten minutes
  relevo.dr.ledger_pace:
    seconds: 600
"""

RETURN = r"""
at: {description: "This host's time, UTC; the beginning of the fast pace.", returned: always, type: str}
"""

import json
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import WantedFile, apply, observe


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["fast", "quiet"], "default": "fast"},
            "ledger_interval_seconds": {"type": "float", "default": 0.05},
            "observer_interval_seconds": {"type": "float", "default": 0.2},
            "seconds": {"type": "float", "default": 900.0},
            "path": {"type": "path", "default": "/run/relevo-ledger/pace.json"},
        },
        supports_check_mode=True,
    )
    p = module.params
    observed = observe(p["path"])
    at = clock.utc_now()
    if p["state"] == "quiet":
        if observed.content is not None and not module.check_mode:
            os.unlink(p["path"])
        module.exit_json(changed=observed.content is not None, at=at)
    if not module.check_mode:
        pace = {key: p[key] for key in ("ledger_interval_seconds", "observer_interval_seconds")}
        apply(WantedFile(p["path"], content=json.dumps({**pace, "until": time.time() + p["seconds"]}) + "\n"), observed)
    module.exit_json(changed=True, at=at)


if __name__ == "__main__":
    main()
