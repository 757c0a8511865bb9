# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Whether every path has the newest generation for the right people, each share was proven in time, and no site takes every path with it. Reads only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils import clock, escrow_choice, escrow_manifest
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import DIFFERENT, MISSING, EscrowFault
from ansible_collections.relevo.dr.plugins.module_utils.gates import UNKNOWN, Gate
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_vault
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_action import CONTROLLER, EscrowAction, faulty, passed, required
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_vault import Opener, Seals


class ActionModule(EscrowAction):
    """Arguments: cluster, paths, recipients, shares, secrets_directory, state_directory, memory_directory, shares_days, sites."""

    _requires_connection = False
    phase = "VERIFY"

    def keep(self) -> dict[str, Any]:
        state, args = self.state(), self._task.args
        manifest = state.newest()
        if manifest is None:
            raise EscrowFault(
                MISSING,
                CONTROLLER,
                "no generation that this controller made",
                "one",
                "run playbooks/escrow_keys.yml, on the controller that does so",
            )
        seals = Seals(tuple(args.get("recipients") or []), args.get("shares") or None)
        gates = []
        for declared in args["paths"]:
            try:
                gates.append(self._path(declared, manifest, seals))
            except EscrowFault as fault:
                gates.append(faulty("KEYSPATH", "The newest generation is on this path", fault, self.phase))
        gates += self._shares(seals.shares)
        lost = escrow_choice.sites_without(args["paths"], args.get("sites") or [])
        if lost:
            observed = "all paths are in site %s" % ", ".join(lost)
            gates.append(
                required(
                    "KEYSSITES", "No site takes every path with it", CONTROLLER, observed, "a path elsewhere", "add one", self.phase
                )
            )
        keys = {"generation": manifest["generation"], "made_at": manifest["made_at"], "items": len(manifest["items"])}
        versions = {"keys": escrow_manifest.keys_version(manifest)}
        return self.judged(
            gates, "every path has generation %s" % keys["generation"], measures={"keys": {"escrow": keys}}, versions=versions
        )

    def _path(self, declared: Mapping[str, Any], manifest: Mapping[str, Any], seals: Seals) -> dict[str, Any]:
        place = self.place(declared, str(self._task.args["secrets_directory"]))
        generation = escrow_choice.newest(place.generations(), place.name, str(manifest["generation"]))
        if place.sealed:
            label, _ = place.get(generation)
            if sorted(label.get("recipients") or []) != sorted(seals.everybody()):
                raise EscrowFault(
                    DIFFERENT,
                    place.name,
                    "a pack for other recipients than are declared",
                    "dr_keys_recipients and dr_keys_shares",
                    "run playbooks/escrow_keys.yml with -e dr_keys_renew=true; who was a recipient keeps what they could read",
                )
            observed = "%s, for %d recipients, whole" % (generation, len(label["recipients"]))
        else:
            back = escrow_vault.recover(place, str(self._task.args["cluster"]), generation, Opener())
            for fault in back.faults:
                raise fault
            observed = "%s, every item as it was put" % generation
        return passed("KEYSPATH", "The newest generation is on this path", place.name, observed, generation, self.phase)

    def _shares(self, public: Any) -> list[dict[str, Any]]:
        if not public:
            return []
        numbers = [int(entry["number"]) for entry in public["shares"]]
        days = float(self._task.args["shares_days"])
        proven, unreadable = self.shares_proven()
        late = escrow_choice.unproven(numbers, proven, str(public["dealt_at"]), clock.utc_now(), days)
        title, expected = "Every share was proven in time", "each within %d days" % days
        if late:
            observed = "shares %s were not" % ", ".join(map(str, late))
            following = "run playbooks/recover_keys.yml with the shares of these holders"
            if unreadable:
                # Another controller may have proven them.
                observed = "%s, as far as this controller knows; past results cannot be read: %s" % (observed, unreadable)
                gate = Gate("KEYSSHARES", title, CONTROLLER, observed, expected, UNKNOWN, "look at RELEVO_STORE", self.phase)
                return [gate.as_dict()]
            return [required("KEYSSHARES", title, CONTROLLER, observed, expected, following, self.phase)]
        return [passed("KEYSSHARES", title, CONTROLLER, "all %d" % len(numbers), expected, self.phase)]
