# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""A generation on its way to a place and back: sealed where the place is no seal, read back at once, opened, and every item compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import escrow_bundle, escrow_choice, escrow_manifest
from ansible_collections.relevo.dr.plugins.module_utils.escrow_fault import CORRUPT, NO_IDENTITY, EscrowFault
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_pack, escrow_shares
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_places import Place


@dataclass(frozen=True)
class Seals:
    """recipients: of people. shares: what is public of an identity that was cut; None without one."""

    recipients: tuple[str, ...]
    shares: Optional[Mapping[str, Any]] = None

    def everybody(self) -> list[str]:
        """For whom a pack is sealed. Raises EscrowFault when one loss could lose everything."""
        escrow_choice.check_seals(self.recipients, self.shares)
        return [*self.recipients, *([str(self.shares["recipient"])] if self.shares else [])]


@dataclass(frozen=True)
class Opener:
    """What a person brings: identities, or shares and what was wrong with those that could not be read."""

    identities: tuple[escrow_pack.Identity, ...] = ()
    shares: tuple[escrow_shares.Share, ...] = ()
    faults: tuple[EscrowFault, ...] = ()


@dataclass(frozen=True)
class Recovered:
    """faults: items that are not what the manifest says. used, bad: numbers of shares."""

    manifest: Mapping[str, Any]
    contents: Mapping[str, bytes]
    faults: tuple[EscrowFault, ...]
    bytes: int
    used: tuple[int, ...] = ()
    bad: tuple[int, ...] = ()


def store(place: Place, manifest: Mapping[str, Any], contents: Mapping[str, bytes], page: str, seals: Seals) -> int:
    """Put a generation and read it back; its size as it lies there. Raises EscrowFault."""
    data = escrow_bundle.built(manifest, contents, page)
    generation = str(manifest["generation"])
    if place.sealed:
        recipients = seals.everybody()
        payload = escrow_pack.seal(data, recipients)
        label = escrow_bundle.label(manifest, payload, recipients=recipients, shares=seals.shares)
    else:
        escrow_bundle.cut(data, {name: len(content) for name, content in contents.items()}, place.name)
        payload, label = data, escrow_bundle.label(manifest, data)
    place.put(generation, label, payload)
    _, back = place.get(generation)
    if back != payload:
        raise EscrowFault(
            CORRUPT, place.name, "other bytes than were put a moment ago", "the same", "see what the store does; use another path"
        )
    return len(payload)


def recover(place: Place, cluster: str, generation: str, opener: Opener, older: Sequence[Mapping[str, Any]] = ()) -> Recovered:
    """A generation from a place, opened, with every item compared. Raises EscrowFault when nothing can be had of it."""
    where = "%s, generation %s" % (place.name, generation)
    label, payload = place.get(generation)
    used: tuple[int, ...] = ()
    bad: tuple[int, ...] = ()
    data = payload
    if place.sealed:
        identities: Sequence[escrow_pack.Identity] = opener.identities
        if not identities:
            made = _from_shares(label, opener, where)
            identities, used, bad = (made.identity,), made.used, made.bad
        data = escrow_pack.open_sealed(payload, identities, where, label.get("recipients") or [])
    manifest, contents = escrow_bundle.opened(data, where, cluster, generation)
    faults = escrow_manifest.require_items(manifest, contents, where, older)
    return Recovered(manifest, contents, tuple(faults), len(payload), used, bad)


def _from_shares(label: Mapping[str, Any], opener: Opener, where: str) -> escrow_shares.Made:
    public = label.get("shares")
    if not public:
        raise EscrowFault(
            NO_IDENTITY,
            where,
            "a pack that no shares open",
            "the identity of one of its recipients",
            "give the identity file of one of them",
        )
    return escrow_shares.combine(opener.shares, public, where, opener.faults)
