#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: observer_info
short_description: Which database addresses an observer saw accepting writes, and whether two did at once
description:
  - Reads the observer's log on its own host. Never changes anything.
options:
  path: {description: The log., type: path, default: /var/lib/relevo-ledger/observer.jsonl}
  since_at: {description: "Beginning of the time to judge (UTC, ISO 8601).", type: str, required: true}
  addresses: {description: The database addresses of the cluster., type: list, elements: str, required: true}
  proofs:
    description:
      - "Proofs that an address could not accept a write: address, class, and at (from then on) or until (up to then)."
      - Classes C(stopped), C(powered_off), C(isolated) and C(in_recovery) count; others prove nothing here.
    type: list
    elements: dict
    default: []
  clock_error_seconds: {description: How far this host's clock and those of the proofs may differ., type: float, default: 0}
  longest_gap_seconds: {description: Between two observations further apart nothing is known., type: float, default: 5}
  events: {description: Return every observation too., type: bool, default: false}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Read the observer
  relevo.dr.observer_info:
    since_at: "2026-11-24T12:15:30.000000Z"
    addresses: [a-db1, b-db1]
    proofs: [{address: a-db1, class: stopped, at: "2026-11-24T12:15:42.120000Z"}]
"""

RETURN = r"""
observer:
  description: >-
    overlap_seconds (0 only when it is certain, else null), watched_from and watched_until (UTC), addresses (observed, accepted, first_accepted_at,
    last_accepted_at, last_flush_lsn, last_timeline, system_identifiers), events.
  returned: always
  type: dict
"""

import datetime
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, observation, witness_log


def read(p: dict[str, Any]) -> dict[str, Any]:
    asked_from = clock.parse_utc(p["since_at"])
    # A little earlier, so that the beginning lies between two observations.
    earlier = clock.utc(asked_from - datetime.timedelta(seconds=2 * p["longest_gap_seconds"]))
    seen = observation.parse(witness_log.since(p["path"], earlier))
    now, now_mono = clock.parse_utc(clock.utc_now()), clock.boottime_seconds()
    begin = now_mono - (now - asked_from).total_seconds()
    proven = observation.proofs(p["proofs"], seen, p["clock_error_seconds"])
    watched_from, watched_until = observation.window(seen, p["addresses"], begin, now_mono, p["longest_gap_seconds"])
    inside = [one for one in seen if one.mono >= begin]

    def utc(mono: float) -> str:
        return clock.utc(now + datetime.timedelta(seconds=mono - now_mono))

    return {
        "overlap_seconds": observation.overlap_seconds(
            seen, p["addresses"], proven, watched_from, watched_until, p["longest_gap_seconds"]
        ),
        "watched_from": utc(watched_from),
        "watched_until": utc(watched_until),
        "addresses": {address: observation.accepts(inside, address) for address in p["addresses"]},
        "events": [[one.at, one.address, one.outcome, one.mono, one.end_mono, one.timeline] for one in inside]
        if p["events"]
        else [],
    }


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "default": "/var/lib/relevo-ledger/observer.jsonl"},
            "since_at": {"type": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "required": True},
            "proofs": {"type": "list", "elements": "dict", "default": []},
            "clock_error_seconds": {"type": "float", "default": 0.0},
            "longest_gap_seconds": {"type": "float", "default": 5.0},
            "events": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    try:
        module.exit_json(changed=False, observer=read(module.params))
    except ValueError as error:
        module.fail_json(msg="a time cannot be read: %s" % error)


if __name__ == "__main__":
    main()
