"""A store with a past, as a bundle that can be tampered with, and as a store again."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from relevo import bundle, chain, clock, entries, head, identity, keyring, signature
from relevo.chain import Entry
from relevo.errors import StoreError
from relevo.head import Head, SignedHead
from relevo.history import summarize
from relevo.paths import Place
from relevo.record import Record, canonical, parse
from relevo.store import Store, StoredEntry
from tests.unit.runner.streams import build, read

OLD_FORM = """
CREATE TABLE record (run_id VARCHAR(100) NOT NULL, runbook VARCHAR(64) NOT NULL, cluster VARCHAR(100), mode VARCHAR(20),
    verdict VARCHAR(20) NOT NULL, opened_at VARCHAR(27) NOT NULL, document BLOB NOT NULL, signature TEXT NOT NULL, PRIMARY KEY (run_id));
CREATE INDEX record_by_time ON record (opened_at, run_id);
"""


def place_at(path: Path) -> Place:
    return Place(path, f"sqlite:///{path}/relevo.db")


def record(number: int, **changes: object) -> Record:
    opening, events = read("failover_disaster")
    made = build(replace(opening, run_id=f"run{number}", opened_at=f"2026-11-24T12:15:3{number % 10}.000000Z"), events)
    return made.model_copy(update={"closed_at": clock.utc_now(), **changes})


def add(place: Place, number: int) -> None:
    key = signature.ready_key(place.keys)
    document = canonical(record(number).document())
    Store(place).add(parse(document), document, signature.sign(key, document))


def say(place: Place, kind: str, subject: str, event: str, **said: object) -> entries.Signed:
    speaker = entries.Speaker("ana", "ctl1", datetime.now(UTC))
    return entries.append(Store(place), entries.make(speaker, kind, subject, event, said), signature.ready_key(place.keys))


def insert(database: sqlite3.Connection, document: bytes, signed: str, name: str | None = None) -> None:
    """A row as an earlier Relevo wrote it, or a forger does."""
    tree = json.loads(document)
    row = [name or tree["run_id"], *(tree[key] for key in ("runbook", "cluster", "mode", "verdict", "opened_at"))]
    database.execute("INSERT INTO record VALUES (?, ?, ?, ?, ?, ?, ?, ?)", (*row, document, signed))


def old_store(place: Place, *numbers: int) -> None:
    """A store from before there was a chain."""
    place.state.mkdir(parents=True, exist_ok=True)
    key = signature.ready_key(place.keys)
    with sqlite3.connect(place.state / "relevo.db") as database:
        database.executescript(OLD_FORM)
        for number in numbers:
            document = canonical(record(number).document())
            insert(database, document, signature.sign(key, document))


@dataclass(frozen=True)
class Past:
    """A store with records from before the chain and after, its bundle, and the key that signed it."""

    place: Place
    directory: Path

    @property
    def key(self) -> signature.SigningKey:
        return signature.ready_key(self.place.keys)

    @property
    def believed(self) -> tuple[keyring.Signer, ...]:
        return signature.believed(self.place.keys)


def make(path: Path) -> Past:
    """run0 is older than the chain; entries: 1 begins, 2 takes over, 3 to 5 are of run1 to run3."""
    place = place_at(path / "state")
    old_store(place, 0)
    for number in (1, 2, 3):
        add(place, number)
    past = Past(place, path / "bundle")
    bundle.write(Store(place), past.directory, past.believed, signed_head(past.key))
    return past


def make_with_statements(path: Path) -> Past:
    """As make; entries 6 to 9 are of a finding that run1 showed, a sign-off of run2, what became of the finding, and another finding."""
    place = make(path).place
    say(place, "finding", "F-000001", "opened", run_id="run1", deficiency="it was slow")
    say(place, "sign_off", "run2", "signed", name="Ana", statement="I have seen it.")
    say(place, "finding", "F-000001", "closed", resolution="it is fast")
    say(place, "finding", "F-000002", "opened", run_id=None)
    past = Past(place, path / "whole")
    bundle.write(Store(place), past.directory, past.believed, signed_head(past.key))
    return past


def signed_head(key: signature.SigningKey) -> Callable[[StoredEntry, tuple[str, ...]], SignedHead]:
    def sign(last: StoredEntry, chosen: tuple[str, ...] = ()) -> SignedHead:
        entry = chain.parse(last.document)
        made = Head(
            entry.store,
            clock.utc_now(),
            last.sequence,
            entry.records,
            chain.digest(last.document),
            "here",
            key.fingerprint,
            chosen,
            entry.statements,
        )
        return SignedHead(made.document, signature.sign(key, made.document), "anchor")

    return sign


@dataclass(frozen=True)
class Forger:
    """Somebody who can write to the store. key: the forger's own, or a controller's."""

    directory: Path
    key: signature.SigningKey

    def record(self, run: str) -> Path:
        return self.directory / "records" / f"{run}.json"

    def statement(self, number: int) -> Path:
        """By the number of its entry."""
        return self.directory / "statements" / f"{self.read(number).members[0].name}.json"

    @property
    def length(self) -> int:
        return len(list((self.directory / "chain").glob("*.entry")))

    def entry(self, number: int) -> Path:
        return self.directory / "chain" / f"{number:010d}.entry"

    def read(self, number: int) -> Entry:
        return chain.parse(self.entry(number).read_bytes())

    def edit(self, path: Path, old: bytes, new: bytes) -> None:
        content = path.read_bytes()
        assert old in content
        path.write_bytes(content.replace(old, new))

    def sign(self, path: Path) -> None:
        path.with_name(f"{path.name}.sig").write_text(signature.sign(self.key, path.read_bytes()))

    def write(self, entry: Entry) -> None:
        self.entry(entry.sequence).write_bytes(entry.document)
        self.sign(self.entry(entry.sequence))

    def remove(self, *paths: Path) -> None:
        for path in paths:
            path.unlink()
            path.with_name(f"{path.name}.sig").unlink()

    def exchange(self, one: Path, other: Path) -> None:
        for suffix in ("", ".sig"):
            first, second = (path.with_name(path.name + suffix) for path in (one, other))
            content = first.read_bytes()
            first.write_bytes(second.read_bytes())
            second.write_bytes(content)

    def put_in(self, number: int) -> Path:
        path = self.record(f"run{number}")
        path.write_bytes(canonical(record(number).document()))
        self.sign(path)
        return path

    def append(self, number: int, **changes: object) -> None:
        """A record and an entry for it, as Relevo would write them."""
        path = self.put_in(number)
        self.link(chain.Kind.RECORD, chain.Member(chain.digest(path.read_bytes()), path.stem), **changes)

    def say(self) -> Path:
        """A statement, as Relevo would write it."""
        speaker = entries.Speaker("ana", "ctl1", datetime.now(UTC))
        signed = entries.sign(entries.make(speaker, "sign_off", "run1", "signed", {"name": "Bob", "statement": "Fine."}), self.key)
        path = self.directory / "statements" / f"{signed.entry_id}.json"
        path.write_bytes(signed.document)
        self.sign(path)
        return path

    def append_statement(self) -> None:
        path = self.say()
        member = chain.Member(chain.digest(path.read_bytes()), path.stem, chain.What.STATEMENT)
        self.link(chain.Kind.STATEMENT, member)

    def link(self, kind: chain.Kind, member: chain.Member, **changes: object) -> None:
        last = self.read(self.length)
        end = chain.End(self.length, last.document, last)
        line = keyring.Signer(signature.public(self.key.path)).line
        writer = chain.Writer(identity.controller(), self.key.fingerprint, (line,))
        self.write(replace(chain.following(end, clock.utc_now(), writer, kind, [member]), **changes))


def as_store(directory: Path, place: Place) -> Store:
    """The files of a bundle as the rows of a store, past every rule of ours."""
    old_store(place)
    store = Store(place)
    store.state_signers([])  # brings the tables
    shutil.rmtree(place.state / "heads")
    with sqlite3.connect(place.state / "relevo.db") as database:
        for table in ("record", "summary", "chain", "entry"):
            database.execute(f"DELETE FROM {table}")  # noqa: S608 - one of four names
        given = bundle.read(directory)
        for stored in given.records:
            insert(database, stored.document, stored.signature, stored.run_id)
            try:
                short = {**summarize(parse(stored.document))._asdict(), "run_id": stored.run_id}
            except StoreError:
                continue
            marks = ", ".join(f":{name}" for name in short)
            database.execute(f"INSERT INTO summary ({', '.join(short)}) VALUES ({marks})", short)  # noqa: S608 - names of columns
        for number, signed in enumerate(sorted(given.statements, key=lambda signed: _place(signed, given.entries))):
            try:
                said = entries.parse(signed.document)
            except StoreError:
                continue
            row = (number, signed.entry_id, said.kind, said.subject, signed.document, signed.signature)
            database.execute("INSERT INTO entry VALUES (?, ?, ?, ?, ?, ?)", row)
        for entry in given.entries:
            database.execute("INSERT INTO chain VALUES (?, ?, ?, ?)", (entry.sequence, "key", entry.document, entry.signature))
    return Store(place)


def _place(signed: entries.Signed, linked: Sequence[StoredEntry]) -> int:
    """Where the chain speaks of it; a bundle has no order of statements of its own."""
    named = (number for number, entry in enumerate(linked) if signed.entry_id.encode() in entry.document)
    return next(named, len(linked))


def head_of(directory: Path) -> SignedHead:
    return SignedHead.of_file((directory / "bundle.head").read_bytes(), "anchor")


__all__ = [
    "Forger",
    "Past",
    "add",
    "as_store",
    "head",
    "head_of",
    "make",
    "make_with_statements",
    "old_store",
    "place_at",
    "record",
    "say",
    "signed_head",
]
