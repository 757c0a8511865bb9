"""Escape packs that were made, and whether the newest would still be the right one. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from relevo import wording
from relevo.clock import parse_utc

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from relevo.entries import Entry
    from relevo.policy import EscapePack

KIND = "pack"
MADE = "made"


@dataclass(frozen=True)
class Now:
    """What a pack is held against: the cluster, its inventory and the project's commit as they are; null where nobody can tell."""

    at: datetime
    cluster: str
    commit: str | None
    inventory: str | None


@dataclass(frozen=True)
class Standing:
    """The newest pack of a cluster. wrong: why it is not the right one any more, none where it is; None where there is no pack."""

    pack_id: str | None
    made_at: str | None
    wrong: tuple[str, ...]

    @property
    def sentence(self) -> str:
        """For a person."""
        if self.pack_id is None:
            return "no pack was ever made from this controller"
        return f"{self.pack_id}, made {wording.moment(self.made_at)}{': ' if self.wrong else ''}{'; '.join(self.wrong)}"


def said(sha256: str, commit: str, inventory: str | None, clusters: Sequence[str], *, secrets: bool) -> dict[str, Any]:
    """What the entry keeps of a pack; where it lies is for people to know."""
    return {"sha256": sha256, "commit": commit, "inventory": inventory, "clusters": list(clusters), "secrets": secrets}


def stand(entries: Sequence[Entry], policy: EscapePack, now: Now, same_code: Callable[[str, str], bool | None]) -> Standing:
    """The newest pack of this cluster. same_code: whether two commits hold the same playbooks, None when nobody can tell."""
    own = [one for one in entries if one.event == MADE and now.cluster in one.said.get("clusters", ())]
    if not own:
        return Standing(None, None, ())
    newest = own[-1]
    wrong = []
    if policy.fresh_for.after(parse_utc(newest.at)) < now.at:
        wrong.append(f"older than {policy.fresh_for}")
    commit = str(newest.said.get("commit"))
    if now.commit is None or (commit != now.commit and not same_code(commit, now.commit)):
        wrong.append(f"of commit {commit[:12]}, and now it is {(now.commit or 'not known')[:12]}")
    if newest.said.get("inventory") != now.inventory:
        wrong.append("of another inventory than it is now")
    if not newest.said.get("secrets"):
        wrong.append("without the secrets")
    return Standing(newest.subject, newest.at, tuple(wrong))
