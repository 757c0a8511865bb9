#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_reconcile
short_description: Outage, loss and overlap of a run, from the ledger, the database and the observers
description:
  - Runs on the witness, where the log is; all it needs from elsewhere is small. Computes, and changes nothing.
options:
  path: {description: The log., type: path, default: /var/lib/relevo-ledger/ledger.jsonl}
  since_at: {description: "Beginning of the run (UTC, ISO 8601): an outage that ended earlier is not this run's.", type: str, required: true}
  lookback_at: {description: Acknowledged entries since this time are compared with the database., type: str, required: true}
  asked: {description: "The numbers that were looked for, as [first, last] pairs.", type: list, elements: list, default: []}
  present: {description: "What M(relevo.dr.ledger_present) found; absent when no database was asked.", type: list, elements: list}
  observers: {description: "Results of M(relevo.dr.observer_info) with the key observer, the host's name.", type: list, elements: dict, default: []}
  failed_at: {description: "When the operator says it failed; used only without a ledger.", type: str, default: ''}
  last_position: {description: The old primary's last seen flush position., type: str, default: ''}
  promoted_at_position: {description: Where the standby was promoted., type: str, default: ''}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Account for every acknowledged transaction
  relevo.dr.ledger_reconcile:
    since_at: "2026-11-24T12:15:30.000000Z"
    lookback_at: "2026-11-23T12:15:30.000000Z"
    asked: [[1, 5400]]
    present: [[1, 5400]]
"""

RETURN = r"""
relevo:
  description: >-
    measures: outage_seconds, rto_seconds, t0_at, t0_source, first_write_at, rpo_seconds, ledger, writable_overlap_seconds, observers, loss_bytes.
  returned: always
  type: dict
"""

from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import ledger, observation, witness_log
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told


def reconcile(p: dict[str, Any]) -> dict[str, Any]:
    entries = ledger.parse(witness_log.since(p["path"], min(p["lookback_at"], p["since_at"])))
    present = None if p["present"] is None else ledger.expand(p["present"])
    measures = ledger.measures(entries, ledger.expand(p["asked"]), present, p["since_at"], p["failed_at"])
    measures["writable_overlap_seconds"] = observation.together(seen.get("overlap_seconds") for seen in p["observers"])
    measures["observers"] = [
        {key: seen.get(key) for key in ("observer", "overlap_seconds", "addresses")} for seen in p["observers"]
    ]
    measures["loss_bytes"] = ledger.lsn_loss_bytes(p["last_position"], p["promoted_at_position"])
    return measures


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/lib/relevo-ledger/ledger.jsonl"},
            "since_at": {"type": "str", "required": True},
            "lookback_at": {"type": "str", "required": True},
            "asked": {"type": "list", "elements": "list", "default": []},
            "present": {"type": "list", "elements": "list"},
            "observers": {"type": "list", "elements": "dict", "default": []},
            "failed_at": {"type": "str", "default": ""},
            "last_position": {"type": "str", "default": ""},
            "promoted_at_position": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    module.exit_json(changed=False, **told(measures=reconcile(module.params)))


if __name__ == "__main__":
    main()
