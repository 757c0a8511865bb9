#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_lost
short_description: Which acknowledged transactions of the ledger the database does not have
description:
  - Compares the witness's log with what M(relevo.dr.ledger_present) found. Only reads.
options:
  path: {description: The log., type: path, default: /var/lib/relevo-ledger/ledger.jsonl}
  lookback_at: {description: From when on entries are compared (UTC)., type: str, required: true}
  asked: {description: "The numbers that were looked for, as [first, last] pairs.", type: list, elements: list, required: true}
  present: {description: "Those that were found, as [first, last] pairs.", type: list, elements: list, required: true}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Name what is missing
  relevo.dr.ledger_lost:
    lookback_at: 2026-11-24T12:00:00.000000Z
    asked: [[1, 900]]
    present: [[1, 890]]
"""

RETURN = r"""
lost:
  description: "Acknowledged and not there: n, reference, at, server (the database host that acknowledged it; null when nobody said)."
  returned: success
  type: list
  elements: dict
acknowledged: {description: How many were compared., returned: success, type: int}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import ledger, witness_log


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/lib/relevo-ledger/ledger.jsonl"},
            "lookback_at": {"type": "str", "required": True},
            "asked": {"type": "list", "elements": "list", "required": True},
            "present": {"type": "list", "elements": "list", "required": True},
        },
        supports_check_mode=True,
    )
    p = module.params
    asked, present = set(ledger.expand(p["asked"])), set(ledger.expand(p["present"]))
    chain = [
        entry
        for entry in ledger.acknowledged(ledger.parse(witness_log.since(p["path"], p["lookback_at"])))
        if entry.number in asked
    ]
    lost = [
        {"n": entry.number, "reference": entry.reference, "at": entry.at, "server": entry.server}
        for entry in chain
        if entry.number not in present
    ]
    module.exit_json(changed=False, lost=lost, acknowledged=len(chain))


if __name__ == "__main__":
    main()
