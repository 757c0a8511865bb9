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
  databases:
    description: "The database hosts: host; name, the address that the observer knows; reachable, whether it answers the controller."
    type: list
    elements: dict
    required: true
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
    databases: [{host: a-db1, name: a-db1.example.org, reachable: false}]
"""

RETURN = r"""
ledger: {description: "last_number, last_acknowledged_at, last_acknowledged_age_seconds; null when unknown.", returned: always, type: dict}
leases:
  description: "By database host that does not answer: sent_age_seconds, accepted_age_seconds, self_fence_seconds, heard_by; what a lease is judged by."
  returned: always
  type: dict
last_accepted:
  description: >-
    By database host: observer, outcome, at, age_seconds of its newest accepted write; system_identifier, timeline and flush_lsn of the newest that says them,
    null when none does.
  returned: always
  type: dict
host: {description: Clock and the like., returned: always, type: dict}
"""

from collections.abc import Iterator
from datetime import datetime, timezone
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, lease, ledger, witness_log
from ansible_collections.relevo.dr.plugins.module_utils.clock import parse_utc
from ansible_collections.relevo.dr.plugins.module_utils.cluster_facts import host_facts

# How much of the observer's log is read behind the newest accepted write, for those on other hosts.
_EVENTS = 4096
_IDENTITY = ("system_identifier", "timeline", "flush_lsn")


def age_seconds(at: str) -> float:
    return max(0.0, (datetime.now(timezone.utc) - parse_utc(at)).total_seconds())


def last_acknowledgement(path: str) -> dict[str, object]:
    """However long ago it was: a site may have been gone for hours before somebody decides."""
    attempt = next(witness_log.backwards(path, b'"intent"'), None)
    found: dict[str, object] = {"last_attempt_age_seconds": age_seconds(attempt["at"]) if attempt else None}
    outcomes = witness_log.backwards(path, b'"%s"' % ledger.ACKNOWLEDGED.encode())
    last = next((entry for entry in outcomes if entry.get("outcome") == ledger.ACKNOWLEDGED), None)
    if last is None:
        return {**found, "last_number": None, "last_acknowledged_at": None, "last_acknowledged_age_seconds": None}
    return {
        **found,
        "last_number": last["n"],
        "last_acknowledged_at": last["at"],
        "last_acknowledged_age_seconds": age_seconds(last["at"]),
    }


def last_accepted(path: str, observer: str, databases: list[dict[str, Any]]) -> dict[str, dict[str, object]]:
    """Each database host's newest accepted write. Where one was, others are looked for only a little further back.

    The host may die between the write and the question who it is: then an older write says that.
    """
    hosts = {database["name"]: database["host"] for database in databases}
    found: dict[str, dict[str, object]] = {}
    left = _EVENTS
    for event in witness_log.backwards(path, b'"accepted"'):
        host = hosts.get(str(event.get("address")))
        if host and event.get("outcome") == "accepted":
            newest = found.setdefault(host, {**dict.fromkeys(_IDENTITY), **_seen(event, observer)})
            if newest["system_identifier"] is None:
                newest.update({name: event.get(name) for name in _IDENTITY})
        left -= bool(found)
        if not left or (len(found) == len(hosts) and all(newest["system_identifier"] for newest in found.values())):
            break
    return found


def _seen(event: dict[str, Any], observer: str) -> dict[str, object]:
    return {"outcome": event["outcome"], "at": event["at"], "observer": observer, "age_seconds": age_seconds(event["at"])}


def leases(path: str, databases: list[dict[str, Any]]) -> dict[str, dict[str, object]]:
    """What a lease is judged by: the last write that was sent, and the last that was accepted by an armed server, however long ago.

    Only of those that do not answer: the log of a standby that answers holds no accepted write, and would be read to its beginning.
    """
    found = {}
    for database in [one for one in databases if not one["reachable"]]:
        about = ('"address":"%s"' % database["name"]).encode()
        latest = next(witness_log.backwards(path, about), None)
        sent = _first(witness_log.backwards(path, about), "sent_mono")
        armed = _first(witness_log.backwards(path, about, b'"outcome":"accepted"'), "self_fence_seconds")
        events = [event for event in (sent, armed, latest) if event is not None]
        found[database["host"]] = lease.facts_of_log(events, clock.boottime_seconds(), clock.boot_id())
    return found


def _first(events: Iterator[dict[str, Any]], name: str) -> Optional[dict[str, Any]]:
    """The first that has a value of that name; one that lacks the name is of a version that knew it not."""
    return next((event for event in events if event.get(name, True) is not None), None)


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
