"""Who reads the laboratory's mail."""

from __future__ import annotations

import email
from email import policy
from email.message import EmailMessage

from tests.integration.conftest import Bench


class Mailbox:
    """The maildir of operations@minimarket.local on the witness, from now on."""

    def __init__(self, bench: Bench) -> None:
        self._directory = bench.lab.root(bench.lab.host("wit1")) / "var/mail/minimarket.local/operations/new"
        self._bench = bench
        self._read = self._names()

    def _names(self) -> set[str]:
        return {path.name for path in self._directory.glob("*")}

    def new(self) -> list[EmailMessage]:
        """What came since the last look, in the order of arrival."""
        names = self._names() - self._read
        self._read |= names
        paths = sorted((self._directory / name for name in names), key=lambda path: path.stat().st_mtime)
        return [email.message_from_bytes(path.read_bytes(), _class=EmailMessage, policy=policy.default) for path in paths]

    def one(self, seconds: float = 10) -> EmailMessage:
        """The one message that comes within some seconds."""
        self._bench.wait("mail for operations", lambda: bool(self._names() - self._read), seconds)
        (message,) = self.new()
        return message
