#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_info
short_description: What the ledger on the witness knows
description:
  - Reads the log from its end, so that a log of any size costs the same. Never changes anything.
options:
  path: {description: The log., type: path, default: /var/lib/relevo-ledger/ledger.jsonl}
  observer_path: {description: "Log of an observer on the same host: the primary's last position.", type: path, default: /var/lib/relevo-ledger/observer.jsonl}
  tail: {description: How many of the newest acknowledged entries to return., type: int, default: 20}
  count: {description: Also count every number written since I(lookback_seconds) before I(since_at)., type: bool, default: false}
  since_at: {description: "Beginning of a run (UTC, ISO 8601); empty for I(window_seconds) ago by this host's clock.", type: str, default: ''}
  window_seconds: {description: See I(since_at)., type: float, default: 900}
  lookback_seconds: {description: How far before the run entries are counted., type: float, default: 86400}
  not_before: {description: "Nothing before this time is counted (UTC, ISO 8601); empty for no such limit.", type: str, default: ''}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Read the newest acknowledged references
  relevo.dr.ledger_info:
    tail: 100
  register: __dr_ledger_info
"""

RETURN = r"""
ledger:
  description: >-
    prefix (references are prefix-number), last_number, acknowledged_age_seconds (by this host's clock),
    tail (newest acknowledged entries, oldest first; n, reference, at), last_position (address, at, flush_lsn, timeline, system_identifier of the last
    accepted observation), and with I(count) also since_at, lookback_at, numbers (ranges of those whose outcome is known for good), acknowledged and failed and
    indeterminate (counts), oldest (number of the oldest acknowledged one; null when there is none).
  returned: always
  type: dict
"""

import datetime
from collections import Counter
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, ledger, ledger_tail, witness_log


def last_position(path: str) -> Optional[dict[str, Any]]:
    for event in witness_log.backwards(path, b'"accepted"'):
        if event.get("outcome") == "accepted" and event.get("flush_lsn"):
            return {key: event.get(key) for key in ("address", "at", "flush_lsn", "timeline", "system_identifier")}
    return None


def read(p: dict[str, Any]) -> dict[str, Any]:
    entries = ledger_tail.newest(p["path"], p["tail"])
    chain = ledger.acknowledged(entries)
    wall = clock.parse_utc(clock.utc_now())
    found: dict[str, Any] = {
        "prefix": entries[-1].reference.rpartition("-")[0] if entries else None,
        "last_number": entries[-1].number if entries else None,
        "acknowledged_age_seconds": round((wall - clock.parse_utc(chain[-1].at)).total_seconds(), 3) if chain else None,
        "tail": [{"n": entry.number, "reference": entry.reference, "at": entry.at} for entry in chain[-p["tail"] :]]
        if p["tail"]
        else [],
        "last_position": last_position(p["observer_path"]),
    }
    if p["count"]:
        since = clock.parse_utc(p["since_at"]) if p["since_at"] else wall - datetime.timedelta(seconds=p["window_seconds"])
        lookback_at = max(clock.utc(since - datetime.timedelta(seconds=p["lookback_seconds"])), p["not_before"])
        found.update(since_at=clock.utc(since), lookback_at=lookback_at)
        counted = ledger.parse(witness_log.since(p["path"], lookback_at))
        settled = ledger.settled(counted, clock.boottime_seconds())
        outcomes = Counter(entry.outcome for entry in settled)
        # As the account is made: in the order of the acknowledgements.
        found["oldest"] = next((entry.number for entry in ledger.acknowledged(settled)), None)
        found["numbers"] = ledger.ranges(entry.number for entry in settled)
        found.update({outcome: outcomes[outcome] for outcome in (ledger.ACKNOWLEDGED, ledger.FAILED, ledger.INDETERMINATE)})
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/lib/relevo-ledger/ledger.jsonl"},
            "observer_path": {"type": "path", "default": "/var/lib/relevo-ledger/observer.jsonl"},
            "tail": {"type": "int", "default": 20},
            "count": {"type": "bool", "default": False},
            "since_at": {"type": "str", "default": ""},
            "window_seconds": {"type": "float", "default": 900.0},
            "lookback_seconds": {"type": "float", "default": 86400.0},
            "not_before": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, ledger=read(module.params))
    except ValueError as error:
        module.fail_json(msg="since_at cannot be read: %s" % error)


if __name__ == "__main__":
    main()
