# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Recover the newest generation from one path alone, into files in memory, and compare every item with its fingerprint.

A path that cannot be recovered from ends nothing: it is kept for the judgement, and the next path is tried.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock, escrow_choice, escrow_manifest
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import MISSING, EscrowFault
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_pack, escrow_shares, escrow_vault
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_action import (
    CONTROLLER,
    RECOVERED,
    EscrowAction,
    faulty,
    kept_name,
    passed,
)
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_vault import Opener, Recovered


class ActionModule(EscrowAction):
    """Arguments: path, paths, lost_site, opener, cluster, generation, access_directory, state_directory, memory_directory.

    opener: {name, identity_files, share_files}; access_directory: what the operator brought, keys to the paths among it; lost_site: not asked.
    """

    _requires_connection = False
    phase = "RECOVER"

    def keep(self) -> dict[str, Any]:
        args = self._task.args
        opener = args.get("opener") or {}
        name = str(args["path"]["name"]) + (" by %s" % opener["name"] if opener.get("name") else "")
        milestone = Milestone("RECOVER %s" % name, CONTROLLER)
        memory = self.memory()
        memory.remove()
        memory.open()
        gates: list[dict[str, Any]] = []
        kept: dict[str, Any] = {"name": name, "recovered": False, "intact": False}
        try:
            back = self._recovered(self._opener(opener))
        except EscrowFault as fault:
            gates.append(faulty("KEYSPATH", "Keys are recovered by %s" % name, fault, self.phase))
            memory.remove()
            kept["fault"] = fault.kind
        else:
            gates += self._gates(name, back)
            kept.update(recovered=True, intact=not back.faults, items=len(back.contents), generation=back.manifest["generation"])
            kept.update(
                shares_used=list(back.used), shares_bad=list(back.bad), keys_version=escrow_manifest.keys_version(back.manifest)
            )
            self._lay(back)
            if back.used:
                kept["shares_proven"] = {
                    str(number): at for number, at in self.state().prove_shares(back.used, clock.utc_now()).items()
                }
        kept["seconds"] = milestone.ended()["duration_seconds"]
        self.control.write("%s/%s" % (RECOVERED, kept_name(name)), kept)
        ok = kept["recovered"] and kept["intact"]
        phases = [milestone.ended("ok" if ok else "failed", kept.get("fault") or "")]
        versions = {"keys": kept["keys_version"]} if ok else {}
        # What is wrong is said at the end, when every path was tried.
        result = self.judged(gates, "recovered by %s" % name, phases=phases, versions=versions)
        return {
            **result,
            "failed": False,
            "recovered": ok,
            "name": name,
            "secrets_directory": os.path.join(memory.path, "recovered/secrets"),
        }

    def _opener(self, given: Mapping[str, Any]) -> Opener:
        identities: list[escrow_pack.Identity] = []
        for path in given.get("identity_files") or []:
            identities += escrow_pack.identities(_text(path), path)
        shares, faults = [], []
        for path in given.get("share_files") or []:
            try:
                shares.append(escrow_shares.read(_text(path), path))
            except EscrowFault as fault:
                faults.append(fault)
        proven, _ = self.shares_proven()
        order = escrow_choice.longest_unproven({share.number for share in shares}, proven)
        shares.sort(key=lambda share: order.index(share.number))
        return Opener(tuple(identities), tuple(shares), tuple(faults))

    def _recovered(self, opener: Opener) -> Recovered:
        args = self._task.args
        place = self.place(args["path"], str(args["access_directory"]))
        wanted = str(args.get("generation") or "")
        generation = escrow_choice.newest(place.generations(), place.name, self._known(), wanted)
        return escrow_vault.recover(place, str(args["cluster"]), generation, opener, self.state().manifests())

    def _known(self) -> Optional[str]:
        """The newest generation that this controller, or any other path that answers, knows of."""
        found = [manifest["generation"] for manifest in self.state().manifests()]
        lost_site = str(self._task.args.get("lost_site") or "")
        for declared in self._task.args.get("paths") or []:
            if lost_site and declared.get("site") == lost_site:
                continue
            try:
                found += self.place(declared, str(self._task.args["access_directory"])).generations()
            except EscrowFault:
                continue
        return max(found, default=None)

    def _gates(self, name: str, back: Recovered) -> list[dict[str, Any]]:
        generation = str(back.manifest["generation"])
        observed = "%s, %d bytes, %d items" % (generation, back.bytes, len(back.contents))
        gates = [passed("KEYSPATH", "Keys are recovered by %s" % name, name, observed, "the newest generation", self.phase)]
        title = "Fingerprints are equal, by %s" % name
        gates += [faulty("KEYSEQUAL", title, fault, self.phase) for fault in back.faults]
        if not back.faults:
            gates.append(
                passed("KEYSEQUAL", title, name, "%d of %d" % (len(back.contents), len(back.contents)), "all of them", self.phase)
            )
        if back.bad:
            fault = escrow_shares.bad("shares %s" % ", ".join(map(str, back.bad)), "not what was dealt to their holders")
            gates.append(faulty("KEYSSHARES", "Every share that was given is good", fault, self.phase))
        absent = [str(entry["id"]) for entry in back.manifest.get("absent", [])]
        if absent:
            last = ", ".join("%s (last in %s)" % (entry["id"], entry.get("last_in")) for entry in back.manifest["absent"])
            fault = EscrowFault(
                MISSING, name, "no %s" % last, "every declared item", "recover these from the generation that has them"
            )
            gates.append(faulty("KEYSREAD", "Every declared item is in the generation", fault, self.phase))
        return gates

    def _lay(self, back: Recovered) -> None:
        memory = self.memory()
        for item, content in back.contents.items():
            memory.lay("recovered/%s" % item, content)
        memory.write("manifest", dict(back.manifest))


def _text(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            return source.read()
    except OSError as error:
        raise EscrowFault(MISSING, path, str(error.strerror), "a file of the operator", "put it there, mode 0600") from None
