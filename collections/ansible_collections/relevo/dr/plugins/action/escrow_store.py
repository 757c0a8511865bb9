# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Make another generation where one is due, put it on every path, and read it back; what the hosts read is forgotten afterwards."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import clock, escrow_choice, escrow_items, escrow_manifest
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import SILENT, EscrowFault
from ansible_collections.relevo.dr.plugins.module_utils.gates import FAIL, PASS
from ansible_collections.relevo.dr.plugins.module_utils.milestone import Milestone
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_vault
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_action import CONTROLLER, EscrowAction, faulty, passed, required
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_places import Place

TITLE = "The newest generation is on this path"


class ActionModule(EscrowAction):
    """Arguments: items, cluster, paths, recipients, shares, page, beside, sites, refresh_seconds, renew, keep, and directories of secrets, state, memory."""

    _requires_connection = False

    def keep(self) -> dict[str, Any]:
        memory, args = self.memory(), self._task.args
        milestone = Milestone("ESCROW", CONTROLLER)
        try:
            declared = escrow_items.items(args["items"])
            reads, unread = escrow_manifest.gathered(declared, memory.read_all("read"))
            columns = [memory_entry for _, memory_entry in sorted(memory.read_all("columns").items())]
        finally:
            memory.remove()
        state = self.state()
        before, now = state.newest(), clock.utc_now()
        places, gates = self._reached()
        seals = escrow_vault.Seals(tuple(args.get("recipients") or []), args.get("shares") or None)
        if any(place.sealed for place, _ in places):
            seals.everybody()
        reasons = escrow_manifest.due(before, reads, now, float(args["refresh_seconds"]), unread)
        if args.get("renew"):
            reasons.append("it was asked for")
        if before and not reasons:
            reasons = [
                "%s lacks generation %s" % (place.name, before["generation"])
                for place, seen in places
                if before["generation"] not in seen
            ]
        gates += [*self._unread(unread), *self._sites()]
        if not reasons or self._task.check_mode:
            observed = str(before["generation"]) if before else "no generation"
            gates += [passed("KEYSPATH", TITLE, place.name, observed, observed, self.phase) for place, _ in places if not reasons]
            return self._told(before, gates, reasons, milestone, changed=bool(reasons))
        # Where nobody could be asked, what production decrypted before still is what it was.
        columns = columns or (list(before["columns"]) if before else [])
        manifest = escrow_manifest.made(str(args["cluster"]), now, reads, before, columns, unread)
        contents = {read.item.id: read.content for read in reads}
        stored = self._stored([place for place, _ in places], manifest, contents, seals)
        gates += stored
        if any(gate["verdict"] == PASS for gate in stored):
            state.keep(manifest)
            gates += self._forgotten(places, manifest)
        else:
            gates.append(
                required(
                    "KEYSPATH",
                    "At least one path took it",
                    CONTROLLER,
                    "none of them did",
                    "one",
                    "see what each path says above",
                    self.phase,
                )
            )
        return self._told(manifest, gates, reasons, milestone, changed=any(gate["verdict"] == PASS for gate in stored))

    def _reached(self) -> tuple[list[tuple[Place, list[str]]], list[dict[str, Any]]]:
        """Every path that answers with its generations, and gates of those that do not."""
        found, gates = [], []
        for declared in self._task.args["paths"]:
            try:
                place = self.place(declared, str(self._task.args["secrets_directory"]))
                found.append((place, place.generations()))
            except EscrowFault as fault:
                gates.append(faulty("KEYSPATH", TITLE, fault, self.phase))
        return found, gates

    def _stored(
        self, places: Sequence[Place], manifest: Mapping[str, Any], contents: Mapping[str, bytes], seals: escrow_vault.Seals
    ) -> list[dict[str, Any]]:
        gates = []
        beside = {name: str(content).encode() for name, content in (self._task.args.get("beside") or {}).items()}
        for place in places:
            try:
                size = escrow_vault.store(place, manifest, contents, str(self._task.args["page"]), seals)
                place.beside(beside)
                observed = "%s, %d bytes, read back" % (manifest["generation"], size)
                gates.append(passed("KEYSPATH", TITLE, place.name, observed, str(manifest["generation"]), self.phase))
            except EscrowFault as fault:
                gates.append(faulty("KEYSPATH", TITLE, fault, self.phase))
        return gates

    def _forgotten(self, places: Sequence[tuple[Place, list[str]]], manifest: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Generations beyond those that are kept, but none that alone has an item."""
        keep, gates = int(self._task.args.get("keep") or 0), []
        needed = {entry.get("last_in") for entry in manifest["absent"]}
        for place, seen in places if keep else []:
            for generation in sorted(seen)[: max(0, len(seen) + 1 - keep)]:
                try:
                    if generation not in needed:
                        place.forget(generation)
                except EscrowFault as fault:
                    # A credential that may not delete is as it should be.
                    gates.append(faulty("KEYSKEPT", "Old generations are removed", EscrowFault(SILENT, *_parts(fault)), self.phase))
                    break
        return gates

    def _unread(self, unread: Mapping[str, str]) -> list[dict[str, Any]]:
        next_action = "bring the host back or correct dr_keys_items; the generation before still has it"
        return [
            required("KEYSREAD", "%s could be read" % name, CONTROLLER, reason, "its bytes", next_action, self.phase)
            for name, reason in unread.items()
        ]

    def _sites(self) -> list[dict[str, Any]]:
        lost = escrow_choice.sites_without(self._task.args["paths"], self._task.args.get("sites") or [])
        title, expected = "No site takes every path with it", "a path in another site for each"
        if lost:
            return [
                required(
                    "KEYSSITES",
                    title,
                    CONTROLLER,
                    "all paths are in site %s" % ", ".join(lost),
                    expected,
                    "add a path elsewhere",
                    self.phase,
                )
            ]
        return [passed("KEYSSITES", title, CONTROLLER, "%d paths" % len(self._task.args["paths"]), expected, self.phase)]

    def _told(
        self,
        manifest: Optional[Mapping[str, Any]],
        gates: list[dict[str, Any]],
        reasons: Sequence[str],
        milestone: Milestone,
        *,
        changed: bool,
    ) -> dict[str, Any]:
        failed = any(gate["verdict"] == FAIL for gate in gates)
        detail = "; ".join(reasons) or "nothing changed"
        phases = [milestone.ended("failed" if failed else "skipped" if self._task.check_mode else "ok", detail)]
        keys = (
            {"generation": manifest["generation"], "made_at": manifest["made_at"], "items": len(manifest["items"])}
            if manifest
            else {}
        )
        versions = {"keys": escrow_manifest.keys_version(manifest)} if manifest else {}
        result = self.judged(gates, detail, measures={"keys": {"escrow": keys}}, versions=versions, phases=phases)
        return {**result, "changed": changed, "reasons": list(reasons), "generation": keys.get("generation")}


def _parts(fault: EscrowFault) -> tuple[str, str, str, str]:
    return fault.where, fault.observed, fault.expected, fault.next_action
