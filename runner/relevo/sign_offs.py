"""Sign-offs: a person's word about a run or a subject of the checklist, bound to what exactly they looked at. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from relevo.errors import UsageError
from relevo.policy import SignOffEvidence

if TYPE_CHECKING:
    from collections.abc import Iterable

    from relevo.entries import Entry
    from relevo.policy import Policy
    from relevo.store import Stored

KIND = "sign_off"
SIGNED = "signed"


@dataclass(frozen=True)
class SignOff:
    """One word. seen: SHA-256 of the record, or the commit of the pages; None where nobody could name it."""

    subject: str
    name: str
    statement: str
    seen: str | None
    at: str
    by: str

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        return asdict(self)


def subjects(policy: Policy) -> set[str]:
    """What the checklist wants a word about."""
    return {evidence.subject for line in policy.checklist for evidence in line.rests_on if isinstance(evidence, SignOffEvidence)}


def said(name: str, statement: str, seen: str | None) -> dict[str, Any]:
    """What the entry says. UsageError without a name or a statement."""
    if not (name.strip() and statement.strip()):
        message = "A sign-off needs the name of the person (--as) and what they say (--statement)."
        raise UsageError(message)
    return {"name": name.strip(), "statement": statement.strip(), "seen": seen}


def of_run(stored: Stored) -> str:
    """What is seen of a run: SHA-256 of the record's bytes, as `sha256sum` prints it."""
    return hashlib.sha256(stored.document).hexdigest()


def fold(entries: Iterable[Entry]) -> list[SignOff]:
    """Every sign-off, in the order in which they were given."""
    return [
        SignOff(
            entry.subject, str(entry.said.get("name")), str(entry.said.get("statement")), entry.said.get("seen"), entry.at, entry.by
        )
        for entry in entries
        if entry.event == SIGNED
    ]
