"""The chain of a store: one signed entry per change, each naming the digest of the one before. Pure.

An entry is text and not JSON, so that an auditor reads it with `cat` and checks it with `sha256sum -c` and `ssh-keygen -Y verify`.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from relevo.errors import ChainError

if TYPE_CHECKING:
    from collections.abc import Sequence

FORM: Final = "relevo-chain/1"
NOTHING: Final = "0" * 64
# A run id is also the name of a file: nothing else may come out of a store into a path.
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_MEMBER = re.compile(rf"({_DIGEST.pattern})  ([a-z]+)s/({NAME.pattern})\.json")
_AT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_HEAD = ("store", "sequence", "previous", "at", "controller", "key", "kind", "records")


class Kind(StrEnum):
    """What an entry is about: a new chain, what lay there before it, a record, what a person said, or keys."""

    BEGIN = "begin"
    TAKEOVER = "takeover"
    RECORD = "record"
    STATEMENT = "statement"
    SIGNER = "signer"


class What(StrEnum):
    """What a chain vouches for."""

    RECORD = "record"
    STATEMENT = "statement"


@dataclass(frozen=True)
class Member:
    """A document that an entry vouches for: the SHA-256 of its exact bytes. name: a run id, or the id of a statement."""

    sha256: str
    name: str
    what: What = What.RECORD

    @property
    def line(self) -> str:
        """As `sha256sum` prints it of the file in a bundle, behind a word."""
        return f"{self.what} {self.sha256}  {self.what}s/{self.name}.json"


@dataclass(frozen=True)
class Writer:
    """Who writes an entry: the machine, its key's fingerprint, and what it says about keys where it has to introduce itself."""

    controller: str
    key: str
    signers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Entry:
    """One entry. records, statements: how many the chain vouches for up to here; signers: lines of allowed_signers that its writer believes."""

    store: str
    sequence: int
    previous: str
    at: str
    controller: str
    key: str
    kind: Kind
    records: int
    members: tuple[Member, ...] = ()
    signers: tuple[str, ...] = ()
    statements: int = 0

    def of(self, what: What) -> list[Member]:
        """The records, or the statements, that it vouches for."""
        return [member for member in self.members if member.what is what]

    @property
    def document(self) -> bytes:
        """The exact bytes that are stored, signed and named by the next entry."""
        lines = [FORM, *(f"{name} {getattr(self, name)}" for name in _HEAD)]
        # Chains are older than statements in them: what was written before has no such line.
        lines += [f"statements {self.statements}"] if self.statements else []
        lines += [member.line for member in self.members]
        lines += [f"signer {line}" for line in self.signers]
        return "".join(f"{line}\n" for line in lines).encode()


def digest(document: bytes) -> str:
    """As `sha256sum` prints it."""
    return hashlib.sha256(document).hexdigest()


def first(store: str, at: str, writer: Writer) -> Entry:
    """The entry with which the chain of a store begins; it introduces its writer."""
    return Entry(store, 1, NOTHING, at, _word(writer.controller), writer.key, Kind.BEGIN, 0, signers=writer.signers)


@dataclass(frozen=True)
class End:
    """Where a chain goes on: the last bytes and their number, and the last entry that can be read (the same, unless somebody broke it)."""

    sequence: int
    document: bytes
    readable: Entry


def following(end: End, at: str, writer: Writer, kind: Kind, members: Sequence[Member] = ()) -> Entry:
    """The next entry. Its time is never before the last one's: an entry that is dated back is found by that.

    A broken last entry keeps nobody from recording: what follows names it as it is, and verify names what is wrong with it.
    """
    for member in members:
        if not NAME.fullmatch(member.name):
            message = f"A {member.what} cannot be named {member.name!r}: expected letters, digits, and _ . - between them."
            raise ChainError(message)
    before = end.readable
    counts = Counter(member.what for member in members)
    return Entry(
        store=before.store,
        sequence=end.sequence + 1,
        previous=digest(end.document),
        at=max(at, before.at),
        controller=_word(writer.controller),
        key=writer.key,
        kind=kind,
        records=before.records + counts[What.RECORD],
        members=tuple(members),
        signers=writer.signers,
        statements=before.statements + counts[What.STATEMENT],
    )


def parse(document: bytes) -> Entry:
    """The stored bytes of an entry. ChainError when no Relevo has written them."""
    try:
        lines = document.decode().removesuffix("\n").split("\n")
        head = dict(line.split(" ", 1) for line in lines[1 : len(_HEAD) + 1])
        rest = [line.split(" ", 1) for line in lines[len(_HEAD) + 1 :]]
        found = [(word, _MEMBER.fullmatch(value)) for word, value in rest if word in {*What}]
        entry = Entry(
            store=head["store"],
            sequence=int(head["sequence"]),
            previous=head["previous"],
            at=head["at"],
            controller=head["controller"],
            key=head["key"],
            kind=Kind(head["kind"]),
            records=int(head["records"]),
            members=tuple(Member(match[1], match[3], What(word)) for word, match in found if match),
            signers=tuple(value for word, value in rest if word == "signer"),
            statements=int(dict(rest).get("statements", 0)),
        )
    except (ValueError, KeyError) as error:
        message = f"it is no entry of the form {FORM}"
        raise ChainError(message) from error
    if entry.document != document or not _AT.fullmatch(entry.at):
        message = f"it is not written as {FORM} demands"
        raise ChainError(message)
    return entry


def _word(name: str) -> str:
    return re.sub(r"[^\x21-\x7e]", "_", name) or "unnamed"
