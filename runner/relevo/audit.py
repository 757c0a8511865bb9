"""Whether a store, or a bundle of it, still is what was written: every record and every entry of the chain is looked at."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from relevo import chain, clock, entries, head, keyring
from relevo.chain import Kind, What
from relevo.errors import ChainError, SignatureError, StoreError
from relevo.history import summarize
from relevo.record import parse
from relevo.signature import Checker

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from relevo.chain import Entry
    from relevo.entries import Signed
    from relevo.head import SignedHead
    from relevo.history import Summary
    from relevo.keyring import Signer
    from relevo.store import Store, Stored, StoredEntry


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written. about: a run id, the id of a statement, `entry 12`, `chain` or the place of a head."""

    about: str
    problem: str


@dataclass(frozen=True)
class Material:
    """What is judged.

    records, statements: all of them, or the chosen ones; remembered: what this controller wrote last; listed, summaries, filed: what
    stands beside the documents, None in a bundle; chosen: runs and statements.
    """

    entries: Sequence[StoredEntry]
    records: Iterable[Stored]
    statements: Sequence[Signed] = ()
    heads: Sequence[SignedHead] = ()
    remembered: Entry | None = None
    listed: Mapping[str, tuple[Any, ...]] | None = None
    summaries: Mapping[str, Summary] | None = None
    filed: Mapping[str, tuple[str, str]] | None = None
    chosen: tuple[str, ...] = ()


@dataclass(frozen=True)
class Vouched:
    """A document that the chain vouches for, and the number of the entry."""

    sha256: str
    entry: int


@dataclass
class Links:
    """A chain that was followed from its first entry to its last."""

    findings: list[Finding] = field(default_factory=list)
    entries: dict[int, Entry] = field(default_factory=dict)
    digests: dict[int, str] = field(default_factory=dict)
    members: dict[str, Vouched] = field(default_factory=dict)
    statements: dict[str, Vouched] = field(default_factory=dict)

    @property
    def store(self) -> str | None:
        """The store that the chain is of."""
        return next((entry.store for entry in self.entries.values()), None)

    @property
    def taken_over(self) -> int:
        """How many records are older than the chain."""
        return self._taken_over(What.RECORD)

    @property
    def statements_taken_over(self) -> int:
        """How many statements are older than statements in the chain."""
        return self._taken_over(What.STATEMENT)

    def vouched(self, what: What) -> dict[str, Vouched]:
        """By name, in the order of the chain."""
        return self.members if what is What.RECORD else self.statements

    def _taken_over(self, what: What) -> int:
        return sum(len(entry.of(what)) for entry in self.entries.values() if entry.kind is Kind.TAKEOVER)


@dataclass(frozen=True)
class Judgement:
    """What was found. records, statements: how many were looked at; believed: the keys that judged; newest: the head that reached farthest."""

    findings: tuple[Finding, ...]
    links: Links
    records: int
    statements: int
    believed: tuple[Signer, ...]
    newest: head.Head | None


def material(store: Store, heads: Sequence[SignedHead], chosen: tuple[str, ...] = ()) -> Material:
    """Everything that a store holds, or only some of its runs, and what was said about them, beside the whole chain."""
    # In this order, so that what comes meanwhile is never taken for something that was put in or removed.
    remembered, listed, filed = store.remembered(), store.listed(), store.filed()
    summaries = {summary.run_id: summary for summary in store.summaries()}
    linked = store.entries()
    records = [store.get(run) for run in chosen] if chosen else store.each()
    said = store.statements()
    if chosen:
        said = entries.about(said, chosen)
        chosen = (*chosen, *(signed.entry_id for signed in said))
    return Material(linked, records, said, heads, remembered, listed, summaries, filed, chosen)


def judge(given: Material, own: Sequence[Signer]) -> Judgement:
    """Judge it by the keys that are believed here, and by those that their holders vouch for in the chain."""
    links = follow(given.entries)
    believed = _vouched_for(given.entries, links, own)
    findings = list(links.findings)
    checker, known = Checker(believed), {signer.fingerprint for signer in believed}
    findings += filter(None, (_entry_signature(stored, links, checker, known) for stored in given.entries))
    seen: set[str] = set()
    due = None if given.listed is None else {*given.listed, *links.members}
    for stored in given.records:
        if due is None or stored.run_id in due:
            seen.add(stored.run_id)
            findings += _record(stored, given, links, checker)
    findings += _missing(given, links, seen)
    due = None if given.filed is None else {*given.filed, *links.statements}
    said = [signed for signed in given.statements if due is None or signed.entry_id in due]
    findings += [finding for signed in said for finding in _statement(signed, given, links, checker)]
    findings += _missing_statements(given, links, [signed.entry_id for signed in said])
    judged = [_head(found, links, checker) for found in given.heads]
    findings += [finding for _, found in judged for finding in found]
    if given.remembered:
        findings += [Finding("this controller's memory", sentence) for sentence in _against(_head_of(given.remembered), links)]
    newest = max((one for one, _ in judged if one), key=lambda one: (one.sequence, one.at), default=None)
    return Judgement(tuple(findings), links, len(seen), len(said), believed, newest)


def believed(linked: Sequence[StoredEntry], own: Sequence[Signer]) -> tuple[Signer, ...]:
    """Own keys, and those that their holders vouch for in the chain."""
    return _vouched_for(linked, follow(linked), own)


def introduced(linked: Sequence[StoredEntry]) -> tuple[Signer, ...]:
    """Every key that any entry speaks of, believed or not."""
    links = follow(linked)
    return keyring.merged(signer for stored in linked for signer in _stated(links, stored))


def follow(linked: Iterable[StoredEntry]) -> Links:
    """Follow the chain by its digests; signatures are another matter."""
    links = Links()
    expected, previous = 1, chain.NOTHING
    before: Entry | None = None
    for stored in linked:
        name, gap = f"entry {stored.sequence}", stored.sequence != expected
        if gap:
            last = stored.sequence - 1
            gone = f"entry {expected}" if last == expected else f"entries {expected} to {last}"
            links.findings.append(Finding(gone, "missing: removed from the chain."))
        expected = stored.sequence + 1
        links.digests[stored.sequence] = chain.digest(stored.document)
        try:
            entry = chain.parse(stored.document)
        except ChainError as error:
            links.findings.append(Finding(name, f"edited: {error}."))
            before = None
        else:
            links.entries[stored.sequence] = entry
            problems = _link(entry, stored.sequence, before, None if gap else previous)
            links.findings += [Finding(name, problem) for problem in problems]
            for member in entry.members:
                vouched = links.vouched(member.what)
                if member.name in vouched:
                    links.findings.append(Finding(name, f"vouches again for the {member.what} {member.name}: put in."))
                vouched.setdefault(member.name, Vouched(member.sha256, stored.sequence))
            before = entry
        previous = links.digests[stored.sequence]
    if not links.digests:
        links.findings.append(Finding("chain", "missing: this store has no entry at all."))
    return links


def _link(entry: Entry, sequence: int, before: Entry | None, previous: str | None) -> Iterator[str]:
    """What is wrong between an entry and its place. previous: the digest that it has to name; None where nobody knows."""
    if entry.sequence != sequence:
        yield f"reordered: it was written as entry {entry.sequence}."
    if previous is not None and entry.previous != previous:
        yield f"does not follow entry {sequence - 1}: one of the two was edited, put in or replaced."
    if (entry.kind is Kind.BEGIN) != (sequence == 1):
        yield f"is of the kind {entry.kind}: a chain begins once, with its entry 1."
    if before is None:
        return
    if entry.store != before.store:
        yield f"put in: it is of the store {entry.store}, this one is {before.store}."
    if entry.at < before.at:
        yield f"dated back: {entry.at} is before the entry before it, {before.at}."
    if entry.sequence != before.sequence + 1:
        return
    for what, counted, counted_before in (
        (What.RECORD, entry.records, before.records),
        (What.STATEMENT, entry.statements, before.statements),
    ):
        expected = counted_before + len(entry.of(what))
        if counted != expected:
            yield f"counts {counted} {what}s, expected {expected}."


def _vouched_for(linked: Sequence[StoredEntry], links: Links, own: Sequence[Signer]) -> tuple[Signer, ...]:
    """Own keys, and those that a believed key vouches for; again, until nobody new is vouched for."""
    believed, stating = keyring.merged(own), [stored for stored in linked if _stated(links, stored)]
    while stating:
        checker = Checker(believed)
        holding = [stored for stored in stating if not _holds(stored, links, checker)]
        if not holding:
            break
        stating = [stored for stored in stating if stored not in holding]
        believed = keyring.merged([*believed, *(signer for stored in holding for signer in _stated(links, stored))])
    return believed


def _stated(links: Links, stored: StoredEntry) -> list[Signer]:
    """What an entry says about keys; a line that is none says nothing."""
    entry = links.entries.get(stored.sequence)
    with suppress(SignatureError):
        return list(keyring.read("\n".join(entry.signers))) if entry else []
    return []


def _holds(stored: StoredEntry, links: Links, checker: Checker) -> str | None:
    return checker.problem(stored.document, stored.signature, clock.parse_utc(links.entries[stored.sequence].at))


def _entry_signature(stored: StoredEntry, links: Links, checker: Checker, known: set[str]) -> Finding | None:
    entry = links.entries.get(stored.sequence)
    problem = _holds(stored, links, checker) if entry else None
    if entry is None or problem is None:
        return None
    if entry.key not in known:
        problem = (
            f"signed with the key {entry.key} of {entry.controller}, which nobody believed here vouches for. "
            f"If that is a controller of yours, compare the key there and then: relevo keys trust {entry.key}"
        )
    return Finding(f"entry {stored.sequence}", f"forged or edited: {problem}")


def _record(stored: Stored, given: Material, links: Links, checker: Checker) -> list[Finding]:
    problems = [*_unlike(stored.document, links.members.get(stored.run_id))]
    try:
        record = parse(stored.document)
        signed_at = clock.parse_utc(record.closed_at)
    except (StoreError, ValueError) as error:
        return [Finding(stored.run_id, problem) for problem in (*problems, f"unreadable: {error}")]
    forged = checker.problem(stored.document, stored.signature, signed_at)
    if forged:
        problems.append(f"its signature does not hold: {forged}")
    if record.run_id != stored.run_id:
        problems.append(f"replaced: the document is of the run {record.run_id}.")
    if given.listed is not None and given.summaries is not None:
        row = (record.runbook, record.cluster, record.mode, record.verdict.value, record.opened_at)
        if given.listed.get(stored.run_id, row) != row or given.summaries.get(stored.run_id) != summarize(record):
            problems.append("the lists show other figures than its document: what stands beside the document was edited.")
    return [Finding(stored.run_id, problem) for problem in problems]


def _unlike(document: bytes, vouched: Vouched | None) -> Iterator[str]:
    if vouched is None:
        yield "put in: no entry of the chain vouches for it."
    elif chain.digest(document) != vouched.sha256:
        yield f"edited: its bytes are not those that entry {vouched.entry} vouches for."


def _statement(signed: Signed, given: Material, links: Links, checker: Checker) -> list[Finding]:
    found = [*_unlike(signed.document, links.statements.get(signed.entry_id)), *entries.problems(signed, checker)]
    with suppress(StoreError):
        said = entries.parse(signed.document)
        if given.filed is not None and given.filed.get(signed.entry_id, (said.kind, said.subject)) != (said.kind, said.subject):
            found.append(
                "it is filed under another kind or subject than its document says: what stands beside the document was edited."
            )
    return [Finding(signed.entry_id, problem) for problem in found]


def _missing_statements(given: Material, links: Links, seen: Sequence[str]) -> Iterator[Finding]:
    there = set(seen)
    expected = [name for name in links.statements if not given.chosen or name in given.chosen]
    for name in expected:
        if name not in there:
            yield Finding(name, f"missing: entry {links.statements[name].entry} vouches for it, and it was removed.")
    if given.filed is None:  # the files of a bundle have no order of their own
        return
    vouched = set(links.statements)
    for name, other in zip((name for name in seen if name in vouched), (name for name in expected if name in there), strict=True):
        if name != other:
            yield Finding(name, f"reordered: in its place the chain has {other}.")


def _missing(given: Material, links: Links, seen: set[str]) -> Iterator[Finding]:
    expected = [run for run in links.members if not given.chosen or run in given.chosen]
    for run in expected:
        if run not in seen:
            yield Finding(run, f"missing: entry {links.members[run].entry} vouches for it, and it was removed.")
    for run in (given.summaries or {}).keys() - seen if not given.chosen else ():
        yield Finding(run, "the lists show a run of which there is no record.")


def _head(found: SignedHead, links: Links, checker: Checker) -> tuple[head.Head | None, list[Finding]]:
    """A head against the chain; None where it is none of ours."""
    if not found.document:
        return None, [Finding(found.place, "missing: without it nobody can tell whether the end was cut off.")]
    try:
        said = head.parse(found.document)
        problem = checker.problem(found.document, found.signature, clock.parse_utc(said.at))
    except (ChainError, ValueError) as error:
        return None, [Finding(found.place, f"edited: {error}.")]
    if problem:
        return None, [Finding(found.place, f"forged: {problem}")]
    return said, [Finding(found.place, sentence) for sentence in _against(said, links)]


def _against(said: head.Head, links: Links) -> Iterator[str]:
    held = max(links.digests, default=0)
    if links.store is not None and said.store != links.store:
        yield f"it is of the store {said.store}, this chain is of {links.store}: the chain was replaced."
    elif said.sequence > held:
        yield f"cut off: at {said.at} the chain had {said.counted}; now it ends with entry {held}."
    elif links.digests.get(said.sequence) != said.entry:
        yield f"entry {said.sequence} is not the one that stood there at {said.at}: the chain was rewritten."


def _head_of(entry: Entry) -> head.Head:
    """The head of a chain that ends with an entry."""
    return head.Head(
        entry.store,
        entry.at,
        entry.sequence,
        entry.records,
        chain.digest(entry.document),
        entry.controller,
        entry.key,
        statements=entry.statements,
    )
