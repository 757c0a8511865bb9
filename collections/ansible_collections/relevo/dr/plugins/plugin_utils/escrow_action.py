# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every step of an escrow has in common: its paths, its faults as gates, and what this controller knows of past generations."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable, Mapping
from typing import Any, Optional

from ansible import constants
from ansible.errors import AnsibleActionFail
from ansible_collections.relevo.dr.plugins.module_utils import escrow_choice
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import DECLARATION, DENIED, SILENT, EscrowFault
from ansible_collections.relevo.dr.plugins.module_utils.escrow_manifest import is_generation, parsed
from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, PASS, UNKNOWN, Gate
from ansible_collections.relevo.dr.plugins.module_utils.host_files import write_atomically
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_places
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_memory import Memory
from ansible_collections.relevo.dr.plugins.plugin_utils.run_action import RunAction
from ansible_collections.relevo.dr.plugins.plugin_utils.secret_files import read_secrets

CONTROLLER = "controller"
# Below these in the run's directory is what came of each way to the keys.
RECOVERED, DECRYPTED = "keys_recovered", "keys_decrypted"
_PROVEN = "shares_proven.json"
_HISTORY = "ansible_collections.relevo.dr.plugins.plugin_utils.history"


class EscrowAction(RunAction):
    """An action plugin of the role dr_keys; a subclass writes :meth:`keep`. What it cannot go on with is a gate and a sentence."""

    phase = "ESCROW"

    def act(self) -> dict[str, Any]:
        try:
            self._refuse_to_be_overheard()
            return self.keep()
        except EscrowFault as fault:
            return {"failed": True, "msg": str(fault), **told(gates=[faulty("KEYSPATH", "Keys in escrow", fault, self.phase)])}

    def _refuse_to_be_overheard(self) -> None:
        if constants.DEFAULT_DEBUG:
            expected = "a run whose log holds no output of hosts"
            raise EscrowFault(DECLARATION, self.host, "ANSIBLE_DEBUG", expected, "unset ANSIBLE_DEBUG; -vvv does no harm")

    def keep(self) -> dict[str, Any]:
        """The step itself; see :meth:`RunAction.act`."""
        raise NotImplementedError

    def memory(self) -> Memory:
        """Files in memory of this run."""
        return Memory(str(self._task.args["memory_directory"]), self.control.run_id)

    def state(self) -> State:
        """What this controller knows."""
        return State(str(self._task.args["state_directory"]), str(self._task.args["cluster"]))

    def place(self, declared: Mapping[str, Any], directory: str) -> escrow_places.Place:
        """One path. directory: where the keys to the path itself are. Raises EscrowFault, also where they are not: another path may do."""
        try:
            secrets = read_secrets(directory, escrow_places.secret_names(declared), check_mode=False)
        except AnsibleActionFail as error:
            name, expected = str(declared.get("name") or "dr_keys_paths"), "the key pair of this path"
            raise EscrowFault(DENIED, name, str(error), expected, "bring it, or use another path") from None
        return escrow_places.place(declared, str(self._task.args["cluster"]), secrets)

    def shares_proven(self) -> tuple[dict[int, str], str]:
        """When each share was proven last, here or by a run whose record came here; and why the records cannot be read, else empty."""
        here, history = self.state().shares_proven(), importlib.import_module(_HISTORY)
        try:
            return escrow_choice.latest([here, history.shares_proven(str(self._task.args["cluster"]))]), ""
        except history.RelevoError as error:
            return here, str(error).rstrip(".")

    def judged(self, gates: list[dict[str, Any]], summary: str, **relevo: Any) -> dict[str, Any]:
        """The task's result: failed, with a sentence for each gate that is, or the summary."""
        sentences = [
            "%(id)s on %(host)s: %(title)s. Observed: %(observed)s; expected: %(expected)s. Next: %(next_action)s" % gate
            for gate in gates
            if gate["verdict"] == FAIL
        ]
        said = told(gates=gates, **relevo)
        return {"failed": True, "msg": "\n".join(sentences), **said} if sentences else {"msg": summary, **said}


class State:
    """Manifests of a cluster's generations, and when each share was proven; fingerprints, and no key."""

    def __init__(self, directory: str, cluster: str) -> None:
        self._base = os.path.join(directory, cluster)

    def manifests(self) -> list[dict[str, Any]]:
        """Oldest first."""
        names = sorted(os.listdir(self._base)) if os.path.isdir(self._base) else []
        found = []
        for name in names:
            if name.endswith(".json") and is_generation(name[: -len(".json")]):
                with open(os.path.join(self._base, name), "rb") as source:
                    found.append(parsed(source.read(), os.path.join(self._base, name)))
        return found

    def newest(self) -> Optional[dict[str, Any]]:
        """The newest that was made here."""
        manifests = self.manifests()
        return manifests[-1] if manifests else None

    def keep(self, manifest: Mapping[str, Any]) -> None:
        """Know a generation."""
        write_atomically(os.path.join(self._base, "%s.json" % manifest["generation"]), json.dumps(manifest))

    def shares_proven(self) -> dict[int, str]:
        """When each share was proven last."""
        try:
            with open(os.path.join(self._base, _PROVEN), encoding="utf-8") as source:
                return {int(number): str(at) for number, at in json.load(source).items()}
        except FileNotFoundError:
            return {}

    def prove_shares(self, numbers: Iterable[int], at: str) -> dict[int, str]:
        """These were used, and opened a pack."""
        proven = {**self.shares_proven(), **dict.fromkeys(numbers, at)}
        write_atomically(os.path.join(self._base, _PROVEN), json.dumps(proven))
        return proven


def kept_name(name: str) -> str:
    """A way to the keys as the name of a file."""
    return "".join(letter if letter.isalnum() or letter in "-_." else "-" for letter in name)


def passed(check: str, title: str, host: str, observed: str, expected: str, phase: str) -> dict[str, Any]:
    """A gate that holds."""
    return Gate(check, title, host, observed, expected, PASS, "", phase).as_dict()


def faulty(check: str, title: str, fault: EscrowFault, phase: str) -> dict[str, Any]:
    """A gate that does not; a path that is silent proves nothing either way."""
    verdict = UNKNOWN if fault.kind == SILENT else FAIL
    observed = "%s: %s" % (fault.kind, fault.observed)
    return Gate(check, title, fault.where, observed, fault.expected, verdict, fault.next_action, phase).as_dict()


def required(check: str, title: str, host: str, observed: str, expected: str, next_action: str, phase: str) -> dict[str, Any]:
    """A gate that fails."""
    return Gate(check, title, host, observed, expected, FAIL, next_action, phase).as_dict()
