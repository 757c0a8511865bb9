#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: ledger_restored
short_description: Compare a restored copy with the ledger on the witness
description:
  - >-
    Every transaction that the application acknowledged to the witness up to the copy's point must be in the copy, and none that began after it. What happened
    within I(margin_seconds) of the point counts for neither side, for clocks differ. The result is the rung LEDGER of the newest of I(tests), and a gate.
  - Runs on the witness and only reads. A rung that does not hold fails no task; M(relevo.dr.restore_clean) fails at the end.
options:
  tests: {description: What M(relevo.dr.restore_prove) returned., type: list, elements: dict, required: true}
  present: {description: "The numbers that the copy holds, as [prefix, first, last].", type: list, elements: list, required: true}
  point: {description: "Time of the last commit in the copy (UTC); empty when the copy's proof did not come so far.", type: str, required: true}
  path: {description: The log., type: path, default: /var/lib/relevo-ledger/ledger.jsonl}
  margin_seconds: {description: How much clocks may differ., type: float, default: 3}
  lookback_seconds: {description: How far before the point entries are compared., type: float, default: 3600}
  host_name: {description: Name of the sandbox in the gate., type: str, required: true}
attributes:
  check_mode: {support: full, description: Only reads.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Compare the copy with the ledger
  relevo.dr.ledger_restored:
    tests: "{{ __dr_backup_proof['tests'] }}"
    present: [[relevo-5f3a90c1, 1, 5000], [relevo-5f3a90c1, 5003, 5400]]
    point: "2026-11-24T12:15:30.123456Z"
    host_name: b-scratch
  delegate_to: wit1
"""

RETURN = r"""
tests: {description: "I(tests), the newest one with its rung LEDGER.", returned: always, type: list, elements: dict}
"""

import datetime
from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import clock, ledger, witness_log
from ansible_collections.relevo.dr.plugins.module_utils.ledger_restored import compare
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.restore_ladder import (
    LEDGER,
    PROVE,
    Ladder,
    RungFailed,
    RungSkipped,
    verdict,
)

SHOWN = 10


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "tests": {"type": "list", "elements": "dict", "required": True},
            "present": {"type": "list", "elements": "list", "required": True},
            "point": {"type": "str", "required": True},
            "path": {"type": "path", "default": "/var/lib/relevo-ledger/ledger.jsonl"},
            "margin_seconds": {"type": "float", "default": 3},
            "lookback_seconds": {"type": "float", "default": 3600},
            "host_name": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    p = module.params
    if not p["tests"] or not p["point"]:
        module.exit_json(changed=False, tests=p["tests"])
    *before, test = p["tests"]
    # It waited for this comparison; what it said meanwhile is replaced.
    found = Ladder([rung for rung in test["rungs"] if rung["id"] != LEDGER])
    found.climb(LEDGER, lambda: judge(p))
    rungs = found.told()
    tests = [*before, {**test, "rungs": rungs, "verdict": verdict(found.rungs)}]
    number = int(test["number"])
    what = "%s in repository %s to %s" % (test["label"], test["repository"], test["target"])
    gates = [
        gate for gate in found.gates(p["host_name"], what, "" if number == 1 else " %d" % number, PROVE) if gate["id"] == LEDGER
    ]
    module.exit_json(changed=False, tests=tests, **told(gates=gates, measures={"restore_tests": tests}))


def judge(p: Mapping[str, Any]) -> str:
    """What proves it. Raises RungFailed or RungSkipped."""
    point = clock.parse_utc(p["point"])
    lines = witness_log.since(p["path"], clock.utc(point - datetime.timedelta(seconds=p["lookback_seconds"])))
    begun = {int(line["n"]): str(line["at"]) for line in lines if line.get("kind") == "intent"}
    present = [(str(prefix), int(first), int(last)) for prefix, first, last in p["present"]]
    result = compare(ledger.parse(lines), begun, present, point, p["margin_seconds"])
    if result.missing:
        raise RungFailed(
            "%d of %d transactions that were acknowledged before the point are missing: %s"
            % (len(result.missing), result.compared, _shown(result.missing)),
            "compare with the primary: they are lost there too, or this timeline, backup or archive is not the one that served",
        )
    if result.unexpected:
        raise RungFailed(
            "%d transactions are there that began after the point: %s" % (len(result.unexpected), _shown(result.unexpected)),
            "compare the clocks of witness and primary; the target was not kept",
        )
    if not result.compared:
        raise RungSkipped(
            "the witness saw no acknowledgement in the time before the point", "run the ledger (playbooks/protect.yml)"
        )
    return "all %d transactions that were acknowledged before %s are there, none that began later" % (result.compared, p["point"])


def _shown(numbers: tuple[int, ...]) -> str:
    pairs = ledger.ranges(numbers)
    text = ", ".join("%d-%d" % (first, last) if first != last else str(first) for first, last in pairs[:SHOWN])
    return text + (", ..." if len(pairs) > SHOWN else "")


if __name__ == "__main__":
    main()
