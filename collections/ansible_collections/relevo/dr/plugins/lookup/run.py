# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a playbook may know of the present run, from the run's own directory."""

from __future__ import annotations

DOCUMENTATION = """
name: run
author: The Relevo maintainers (@relevo)
short_description: The plan of the present run, or what the accounting of its hand-over needs to know
description:
  - Reads the directory of the present run on the controller; needs an opened run.
options:
  _terms:
    description: V(plan) or V(account).
    required: true
"""

EXAMPLES = """
- name: Show which host serves now
  ansible.builtin.debug:
    msg: "{{ lookup('relevo.dr.run', 'account').present_host }}"
"""

RETURN = """
_raw:
  description: >-
    plan: promote, fence, quiesce, cutover, done, resume. account: present_host, opened_at, promoted_at, not_before,
    proofs, last_position, promoted_at_position.
  type: list
  elements: dict
"""

from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.relevo.dr.plugins.module_utils.server_stop import replay_target
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control, ControlError
from ansible_collections.relevo.dr.plugins.plugin_utils.lineage import promoted_at


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[dict[str, Any]]:
        """One dictionary for each term."""
        try:
            control = Control.of_this_run()
            return [account(control) if term == "account" else control.read("plan") for term in terms]
        except ControlError as error:
            raise AnsibleLookupError("run: %s" % error) from None


def account(control: Control) -> dict[str, Any]:
    """See RETURN. A proof's address is the name under which the observers know the host."""
    plan, opened = control.read("plan"), control.read("landscape")["began"]["at"]
    proofs = control.read_all("handover/proof")
    promotion = control.read("handover/promoted")
    # An outage that a killed run before this one began is still the same outage.
    opened_at = min(opened, plan["began_at"] or opened)
    known = {host: control.read("database/%s" % host) for host in [plan["promote"], *plan["fence"], *plan["follow"]]}
    names = {host: entry["settings"]["name"] for host, entry in known.items()}
    turns = {host: entry.get("facts", {}).get("host", {}).get("last_turn", {}) for host, entry in known.items()}
    told = [{"address": names[host], "class": proof["class"], "at": proof["at"]} for host, proof in proofs.items()]
    # What that run proved stands in the journals of the hosts, also where nothing is left to prove by now.
    told += [
        {"address": names[host], "class": "stopped", "at": turn["stopped_at"]}
        for host, turn in turns.items()
        if host not in (plan["promote"], *proofs) and turn.get("stopped_at")
    ]
    began = turns[plan["promote"]].get("promotion_began_at") if promotion["already"] else promotion["promotion_began_at"]
    if began:
        told.append({"address": names[plan["promote"]], "class": "in_recovery", "until": began})
    return {
        "present_host": plan["promote"],
        "opened_at": opened_at,
        "promoted_at": promotion["promoted_at"],
        "not_before": promoted_at(control, plan["follow"]) if plan["planned"] else "",
        "proofs": told,
        "last_position": replay_target(list(proofs.values())) or last_seen(control, plan["fence"]),
        "promoted_at_position": promotion["fork_lsn"] or "",
        "witnesses": [host for host, entry in control.read_all("witness").items() if entry["reachable"]],
        "observers_away": [host for host, entry in control.read_all("observer").items() if not entry["reachable"]],
        "clock_error_seconds": _clock_error_seconds(control),
        "failed_at": control.read("inputs")["failed_at"] or "",
    }


def _clock_error_seconds(control: Control) -> float:
    """How far a clock that a proof was written by is surely off, as it was measured in preflight."""
    offsets = [
        entry.get("clock_offset_seconds")
        for kind in ("database", "witness", "observer")
        for entry in control.read_all(kind).values()
    ]
    return max((abs(float(offset)) for offset in offsets if offset is not None), default=0.0)


def last_seen(control: Control, hosts: list[str]) -> str:
    """The position of the last write that an observer made on a host that was not stopped cleanly."""
    seen = [
        observer["facts"]["last_accepted"][host]
        for observer in control.read_all("observer").values()
        if observer["reachable"]
        for host in hosts
        if observer["facts"]["last_accepted"].get(host, {}).get("flush_lsn")
    ]
    return str(max(seen, key=lambda event: event["at"])["flush_lsn"]) if seen else ""
