#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: witness_statement
short_description: What the witness knows once the old primary is fenced
description:
  - The newest acknowledged entries of the ledger, and one probe of every fenced host from here.
options:
  witness: {description: Inventory name of this host., type: str, required: true}
  ledger_log: {description: The ledger's log., type: path, required: true}
  tail_entries: {description: How many acknowledged entries to state., type: int, default: 2000}
  back_to:
    description:
      - A time (UTC, ISO 8601), such as of the last commit that the standby was seen to have; empty for none. Where O(tail_entries) do not reach back to a
        minute before it, there are more of them, up to 100 000, so that the loss of a primary that was cut off for long can be counted.
    type: str
    default: ''
  not_before: {description: "Nothing acknowledged before this time is stated (UTC, ISO 8601); empty for no such limit.", type: str, default: ''}
  attempt_seconds: {description: A ledger that did not try for so long was not at work., type: float, default: 60}
  run_id: {description: "The run, whose letter is waited for.", type: str, default: ''}
  targets: {description: "The fenced hosts: host, address, port.", type: list, elements: dict, required: true}
  letter: {description: "Wait for a letter of this name before anything is done; see C(module_utils/letter.py).", type: str, default: ''}
  letter_seconds: {description: How long to wait for it., type: float, default: 300}
  letter_silence_seconds: {description: How long the beat of the run may be missing meanwhile; 0 when there is none., type: float, default: 0}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Ask the witness
  relevo.dr.witness_statement:
    witness: wit1
    ledger_log: /var/lib/relevo-ledger/ledger.jsonl
    targets: [{host: a-db1, address: 192.0.2.11, port: 5432}]
"""

RETURN = r"""
ledger_tail:
  description: Acknowledged entries n, reference and at, oldest first; null when there are none or nobody tried of late.
  returned: always
  type: list
probes: {description: One probe of each target., returned: always, type: list, elements: dict}
"""

import datetime
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, ledger, ledger_tail, letter
from ansible_collections.relevo.dr.plugins.module_utils.probe import probe

# What is another with each look, and so comes by letter.
LATE = ("back_to",)
# What the last commit of a standby and the ledger's time of it may differ by, and how many entries a tail may have.
_MARGIN = datetime.timedelta(seconds=60)
_MOST_ENTRIES = 100_000


def stated(path: str, enough: int, not_before: str, attempt_seconds: float, back_to: str = "") -> Optional[list[dict[str, Any]]]:
    """The ledger's tail as the standby is compared with it, oldest first; None when there is none, or nobody tried of late.

    enough: how many acknowledged entries, unless more are needed to reach back to a minute before `back_to`.
    """
    entries = ledger_tail.newest(path, enough)
    if not ledger.tried_within(entries, clock.utc_now(), attempt_seconds):
        return None
    known = ledger.acknowledged(entries)[-enough:]
    begin = clock.utc(clock.parse_utc(back_to) - _MARGIN) if back_to else ""
    if begin and known and known[0].at > begin:
        more = ledger.acknowledged(ledger_tail.newest(path, _MOST_ENTRIES))[-_MOST_ENTRIES:]
        known = [entry for entry in more if entry.at >= begin]
    acknowledged = [entry for entry in known if entry.at >= not_before]
    # An empty tail says nothing about what is missing.
    return [{"n": entry.number, "reference": entry.reference, "at": entry.at} for entry in acknowledged] or None


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "witness": {"type": "str", "required": True},
            "ledger_log": {"type": "path", "required": True},
            "tail_entries": {"type": "int", "default": 2000},
            "back_to": {"type": "str", "default": ""},
            "not_before": {"type": "str", "default": ""},
            "attempt_seconds": {"type": "float", "default": 60},
            "targets": {"type": "list", "elements": "dict", "required": True},
            "run_id": {"type": "str", "default": ""},
            **letter.OPTIONS,
        },
        supports_check_mode=True,
    )
    try:
        p = letter.complete(module.params, module.params["run_id"], LATE)
    except letter.NoLetter as error:
        module.fail_json(msg="%s: %s" % (module.params["witness"], error))
    with ThreadPoolExecutor(max_workers=max(1, len(p["targets"]))) as pool:
        # A silent host costs a probe its whole time-out.
        asked = pool.map(lambda target: probe(p["witness"], target["host"], target["address"], int(target["port"])), p["targets"])
        tail = stated(p["ledger_log"], p["tail_entries"], p["not_before"], p["attempt_seconds"], p["back_to"])
        probes = list(asked)
    module.exit_json(changed=False, ledger_tail=tail, probes=probes)


if __name__ == "__main__":
    main()
