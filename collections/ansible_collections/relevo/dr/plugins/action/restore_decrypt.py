# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Decrypt the application's columns of a restored copy with what was recovered, and compare with what production decrypted."""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import column_proof
from ansible_collections.relevo.dr.plugins.module_utils.escrow_items import KEY
from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, PASS, UNKNOWN, Gate
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_action import DECRYPTED, EscrowAction, kept_name
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import went_wrong


class ActionModule(EscrowAction):
    """Arguments: name (of the path), columns, memory_directory, and what the module ``restore_decrypt`` takes of the copy."""

    phase = "DECRYPT"

    def keep(self) -> dict[str, Any]:
        arguments = dict(self._task.args)
        name, memory = str(arguments.pop("name")), self.memory()
        arguments.pop("memory_directory")
        manifest = memory.read("manifest")
        milestone = Milestone("DECRYPT %s" % name, self.host)
        recovered = {entry["id"] for entry in manifest["items"] if entry["kind"] == KEY}
        arguments["keys"] = {item: base64.b64encode(_content(memory.path, item)).decode() for item in sorted(recovered)}
        expected = {str(column["name"]): column for column in manifest["columns"]}
        answer = self.ask("relevo.dr.restore_decrypt", arguments)
        wrong = went_wrong(answer)
        gates = (
            [self._failed(name, wrong)]
            if wrong
            else judged(name, self.host, expected, answer["columns"], answer["wrong"], recovered)
        )
        verdicts = {gate["verdict"] for gate in gates}
        kept: dict[str, Any] = {
            "name": name,
            "verdict": FAIL if FAIL in verdicts else UNKNOWN if UNKNOWN in verdicts or not gates else PASS,
        }
        kept["rows"] = 0 if wrong else sum(len(rows) for rows in answer["columns"].values())
        self.control.write("%s/%s" % (DECRYPTED, kept_name(name)), kept)
        phases = [milestone.ended("ok" if kept["verdict"] == PASS else "failed", "%d rows" % kept["rows"])]
        return {**self.judged(gates, "decrypted %d rows" % kept["rows"], phases=phases), "failed": False, "changed": True}

    def _failed(self, name: str, reason: str) -> dict[str, Any]:
        next_action = "mend that, then run the test again"
        return Gate(
            "KEYSDECRYPT", "Columns decrypt, by %s" % name, self.host, reason, "equal digests", FAIL, next_action, self.phase
        ).as_dict()


def judged(
    name: str,
    host: str,
    expected: Mapping[str, Mapping[str, Any]],
    found: Mapping[str, list[list[str]]],
    wrong: Mapping[str, str],
    recovered: set[str],
) -> list[dict[str, Any]]:
    """A gate for each column, and for each key that nothing was decrypted with. expected: of production, found: of the copy, wrong: why not."""
    gates, used = [], set()
    for column in sorted(set(expected) | set(found) | set(wrong)):
        title = "%s decrypts to what production had, by %s" % (column, name)
        want, verdict, following = "equal digests", PASS, ""
        if column in wrong:
            observed, verdict, following = wrong[column], FAIL, "look for the key of these rows in the generations before"
        elif column not in expected:
            observed, verdict, following = (
                "no digests of production",
                UNKNOWN,
                "run playbooks/escrow_keys.yml with -e dr_keys_renew=true",
            )
        elif column not in found:
            observed, verdict, following = "it was not read in the copy", FAIL, "declare it in dr_keys_columns"
        else:
            equal, other, missing = column_proof.compared(expected[column]["rows"], found[column])
            observed = "%d rows equal, %d other, %d missing" % (equal, other, missing)
            if other or missing or not equal:
                verdict = FAIL
                following = "see whether these rows were changed since %s; if not, key or copy are wrong" % expected[column].get(
                    "taken_at"
                )
            used.add("keys/%s/%s" % (expected[column]["key"], expected[column]["generation"]))
        gates.append(Gate("KEYSDECRYPT", title, host, observed, want, verdict, following, "DECRYPT").as_dict())
    asked = {"keys/%s/%s" % (entry["key"], entry["generation"]) for entry in expected.values()}
    unasked, following = sorted(recovered - used - asked), "declare a query for it in dr_keys_columns"
    gates += [_unasked(item, name, host, following) for item in unasked]
    return gates


def _unasked(item: str, name: str, host: str, following: str) -> dict[str, Any]:
    title, expected = "%s decrypts something, by %s" % (item, name), "rows of its generation"
    return Gate("KEYSDECRYPT", title, host, "no column is declared for it", expected, UNKNOWN, following, "DECRYPT").as_dict()


def _content(directory: str, item: str) -> bytes:
    with open(os.path.join(directory, "recovered", item), "rb") as source:
        return source.read()
