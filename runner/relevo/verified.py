"""When all records were last verified, and what came of it: kept as an entry, so that a report need not verify a long history again.

The chain binds everything before an entry by its digest. So while the entry that was the last one then is still there as it was, all that was
verified is, as far as the chain reaches, what was verified; what came since was not. Decision 0032.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import sqlalchemy as sql

from relevo import audit, chain, tables
from relevo.clock import parse_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from relevo.entries import Entry
    from relevo.keyring import Signer
    from relevo.store import Store


KIND = "verification"
DONE = "verified"
# More in one entry would be read by nobody; relevo results verify names all.
_KEPT = 20


@dataclass(frozen=True)
class Verification:
    """One full look. last: the number of the chain's last entry then, and its digest; problems: how many, and the first of them in words."""

    at: str
    by: str
    records: int
    last: int
    digest: str
    problems: int
    sentences: tuple[str, ...]


@dataclass(frozen=True)
class Standing:
    """The newest verification as it stands now. since: records that came after it; holds: whether the chain still has that entry as it was."""

    newest: Verification | None = None
    since: int = 0
    holds: bool = True

    def document(self) -> dict[str, Any]:
        """As a JSON tree."""
        return {"newest": asdict(self.newest) if self.newest else None, "records_since": self.since, "chain_holds": self.holds}


def verify(store: Store, own: Sequence[Signer]) -> dict[str, Any]:
    """Look at every record and every entry now; what the entry about it says. StoreError when the store is away."""
    judgement = audit.judge(audit.material(store, ()), own)
    last = max(judgement.links.digests, default=0)
    return {
        "records": judgement.records,
        "last": last,
        "digest": judgement.links.digests.get(last, chain.NOTHING),
        "problems": len(judgement.findings),
        "sentences": [f"{finding.about}: {finding.problem}" for finding in judgement.findings[:_KEPT]],
    }


def fold(entries: Iterable[Entry], now: datetime) -> Verification | None:
    """The newest one that was done by then."""
    done = [entry for entry in entries if entry.event == DONE and parse_utc(entry.at) <= now]
    if not done:
        return None
    entry, said = done[-1], done[-1].said
    sentences = tuple(str(sentence) for sentence in said.get("sentences") or ())
    return Verification(
        entry.at, entry.by, int(said["records"]), int(said["last"]), str(said["digest"]), int(said["problems"]), sentences
    )


def stand(store: Store, entries: Iterable[Entry], now: datetime) -> Standing:
    """The newest verification against the store as it is."""
    newest = fold(entries, now)
    if newest is None:
        return Standing()
    query = sql.select(tables.chain.c.document).where(tables.chain.c.sequence == newest.last)
    with store.read() as connection:
        known = sql.inspect(connection).has_table(tables.chain.name)
        found = connection.execute(query).scalar() if known else None
    holds = newest.last == 0 or (found is not None and chain.digest(bytes(found)) == newest.digest)
    return Standing(newest, max(0, store.count() - newest.records), holds)
