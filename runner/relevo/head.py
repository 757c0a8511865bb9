"""The signed head of a chain: how long it was at a time. Kept elsewhere, as an anchor, it shows that a tail was cut off. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from relevo.chain import NAME
from relevo.errors import ChainError

FORM: Final = "relevo-head/1"
_FIELDS = ("store", "at", "sequence", "records", "entry", "controller", "key")


@dataclass(frozen=True)
class Head:
    """sequence, records, statements: how many entries, records and statements there were; entry: SHA-256 of the last entry.

    chosen: of a bundle of some runs, which, and the statements about them.
    """

    store: str
    at: str
    sequence: int
    records: int
    entry: str
    controller: str
    key: str
    chosen: tuple[str, ...] = ()
    statements: int = 0

    @property
    def counted(self) -> str:
        """How long the chain was, in words."""
        return f"{self.sequence} entries, {self.records} records and {self.statements} statements"

    @property
    def document(self) -> bytes:
        """The exact bytes that are signed."""
        lines = [FORM, *(f"{name} {getattr(self, name)}" for name in _FIELDS)]
        # As in the chain: heads that were kept elsewhere before there were statements hold.
        lines += [f"statements {self.statements}"] if self.statements else []
        lines += [f"chosen {name}" for name in self.chosen]
        return "".join(f"{line}\n" for line in lines).encode()


@dataclass(frozen=True)
class SignedHead:
    """A head as it was found, and where."""

    document: bytes
    signature: str
    place: str

    @property
    def file(self) -> bytes:
        """Both in one file, as an anchor keeps them: what is written whole is never half of it."""
        return self.document + self.signature.encode()

    @classmethod
    def of_file(cls, content: bytes, place: str) -> Self:
        """The two parts of such a file; what is no head is found when it is judged."""
        document, mark, rest = content.partition(b"-----BEGIN SSH SIGNATURE-----")
        return cls(document, (mark + rest).decode(errors="replace"), place)


def parse(document: bytes) -> Head:
    """ChainError when these bytes are no head."""
    try:
        lines = document.decode().removesuffix("\n").split("\n")
        fields = dict(line.split(" ", 1) for line in lines[1 : len(_FIELDS) + 1])
        rest = lines[len(_FIELDS) + 1 :]
        statements = int(rest.pop(0).split(" ", 1)[1]) if rest and rest[0].startswith("statements ") else 0
        chosen = tuple(re.fullmatch(rf"chosen ({NAME.pattern})", line)[1] for line in rest)  # type: ignore[index]
        head = Head(
            store=fields["store"],
            at=fields["at"],
            sequence=int(fields["sequence"]),
            records=int(fields["records"]),
            entry=fields["entry"],
            controller=fields["controller"],
            key=fields["key"],
            chosen=chosen,
            statements=statements,
        )
    except (ValueError, KeyError, TypeError) as error:
        message = f"it is no head of the form {FORM}"
        raise ChainError(message) from error
    if head.document != document:
        message = f"it is not written as {FORM} demands"
        raise ChainError(message)
    return head
