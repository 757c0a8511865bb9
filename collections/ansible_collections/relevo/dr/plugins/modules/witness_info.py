#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: witness_info
short_description: What a witness or an observer last saw
description:
  - The newest acknowledgement of the ledger, and the newest accepted write on each database address. A log that is not there says nothing.
options:
  host: {description: Inventory name of this host., type: str, required: true}
  ledger_log: {description: The ledger's log., type: path, required: true}
  observer_log: {description: The observer's log., type: path, required: true}
  databases: {description: "The database hosts: host and name, the address that the observer knows.", type: list, elements: dict, required: true}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Ask the witness
  relevo.dr.witness_info:
    host: wit1
    ledger_log: /var/lib/relevo-ledger/ledger.jsonl
    observer_log: /var/lib/relevo-ledger/observer.jsonl
    databases: [{host: a-db1, name: a-db1.example.org}]
"""

RETURN = r"""
ledger: {description: "last_number, last_acknowledged_at, last_acknowledged_age_seconds; null when unknown.", returned: always, type: dict}
leases:
  description: "By database host: sent_age_seconds, accepted_age_seconds, self_fence_seconds, heard_by; what a lease is judged by."
  returned: always
  type: dict
last_accepted: {description: "By database host: observer, outcome, age_seconds, system_identifier, timeline, flush_lsn.", returned: always, type: dict}
host: {description: Clock and the like., returned: always, type: dict}
"""

import os
from datetime import datetime, timezone

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, lease, ledger, witness_log
from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc
from ansible_collections.relevo.dr.plugins.module_utils.cluster_facts import host_facts

# Enough for the last minutes also at the fast pace.
_TAIL_BYTES = 512 * 1024
# More than a day: a host may be silent for long before anybody asks whether its lease has ended.
_SEARCHED_BYTES = 64 * 1024 * 1024


def age_seconds(at: str) -> float:
    return max(0.0, (datetime.now(timezone.utc) - parse_utc(at)).total_seconds())


def last_acknowledgement(path: str) -> dict[str, object]:
    entries = ledger.parse(witness_log.tail(path, _TAIL_BYTES)) if os.path.exists(path) else []
    attempted = {"last_attempt_age_seconds": age_seconds(entries[-1].at) if entries else None}
    acknowledged = ledger.acknowledged(entries)
    if not acknowledged:
        return {**attempted, "last_number": None, "last_acknowledged_at": None, "last_acknowledged_age_seconds": None}
    last = acknowledged[-1]
    known = {"last_number": last.number, "last_acknowledged_at": last.at, "last_acknowledged_age_seconds": age_seconds(last.at)}
    return {**attempted, **known}


def last_accepted(path: str, observer: str, databases: list[dict[str, str]]) -> dict[str, dict[str, object]]:
    hosts = {database["name"]: database["host"] for database in databases}
    found = {}
    for event in witness_log.tail(path, _TAIL_BYTES) if os.path.exists(path) else []:
        host = hosts.get(str(event.get("address")))
        if host and event.get("outcome") == "accepted":
            kept = {name: event.get(name) for name in ("outcome", "at", "system_identifier", "timeline", "flush_lsn")}
            found[host] = {**kept, "observer": observer, "age_seconds": age_seconds(event["at"])}
    return found


def leases(path: str, databases: list[dict[str, str]]) -> dict[str, dict[str, object]]:
    if not os.path.exists(path):
        return {}
    tail = witness_log.tail(path, _TAIL_BYTES)
    found = {}
    for database in databases:
        about = ('"address":"%s"' % database["name"]).encode()
        wanted = (
            lambda line, about=about: about in line and b'"sent_mono":null' not in line,
            lambda line, about=about: (
                about in line and b'"outcome":"accepted"' in line and b'"self_fence_seconds":null' not in line
            ),
        )
        events = [witness_log.newest(path, one, _SEARCHED_BYTES) for one in wanted]
        events.append(next((event for event in tail if event.get("address") == database["name"]), None))
        found[database["host"]] = lease.facts_of_log(
            [event for event in events if event is not None], clock.boottime_seconds(), clock.boot_id()
        )
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "host": {"type": "str", "required": True},
            "ledger_log": {"type": "path", "required": True},
            "observer_log": {"type": "path", "required": True},
            "databases": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    p = module.params
    module.exit_json(
        changed=False,
        ledger=last_acknowledgement(p["ledger_log"]),
        last_accepted=last_accepted(p["observer_log"], p["host"], p["databases"]),
        leases=leases(p["observer_log"], p["databases"]),
        host=host_facts(),
    )


if __name__ == "__main__":
    main()
