"""Where word goes: a private file of apprise URLs, one a line. The only module that knows apprise."""

from __future__ import annotations

import hashlib
import logging
import re
import stat
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

import apprise
from apprise.attachment.memory import AttachMemory

from relevo.errors import UsageError
from relevo.redact import Redactor

if TYPE_CHECKING:
    from pathlib import Path

    from relevo.notice import Attachment, Notice

# Longer than apprise's own limits for a connection, an answer and a proxy together.
_LIMIT_SECONDS = 60
_SHORTEST_SECRET = 6
_MOODS = {"good": apprise.NotifyType.SUCCESS, "doubt": apprise.NotifyType.WARNING, "bad": apprise.NotifyType.FAILURE}


@dataclass(frozen=True)
class Target:
    """One line of the file. name: what may be shown of it, which is never a part of the URL but its kind."""

    name: str
    url: str

    @property
    def digest(self) -> str:
        """Recognises the same target later, without keeping it."""
        return hashlib.sha256(self.url.encode()).hexdigest()[:16]

    def send(self, notice: Notice, attachment: Attachment | None = None) -> str | None:
        """Send, with the attachment where the target takes one; the reason when it was not taken. Never raises, and always comes back."""
        answer: list[str | None] = []
        work = threading.Thread(target=lambda: answer.append(self._send(notice, attachment)), daemon=True)
        work.start()
        work.join(_LIMIT_SECONDS)
        return answer[0] if answer else f"{self.name}: no answer within {_LIMIT_SECONDS} s"

    def _send(self, notice: Notice, attachment: Attachment | None) -> str | None:
        """What a target does not take with its attachment, as too large a mail, it hears without: the words matter more."""
        if attachment is not None and self._try(notice, attachment) is None:
            return None
        return self._try(notice, None)

    def _try(self, notice: Notice, attachment: Attachment | None) -> str | None:
        with apprise.LogCapture(level=logging.DEBUG, fmt="%(levelname)s %(message)s") as said:  # type: ignore[no-untyped-call]
            try:
                service = _service(self.url)
                page = service.resolve_format() == apprise.NotifyFormat.HTML
                taken = service.notify(
                    title=notice.title,
                    body=notice.page if page else notice.text,
                    body_format=apprise.NotifyFormat.HTML if page else apprise.NotifyFormat.TEXT,
                    notify_type=_MOODS[notice.mood],
                    attach=_attached(attachment) if attachment and service.attachment_support else None,
                )
            except Exception as error:  # noqa: BLE001 - a hundred services, and none may end the run that has something to tell
                return f"{self.name}: {self._redactor().text(f'{type(error).__name__}: {error}')}"
            reason = _reason(said.getvalue())
        return None if taken else f"{self.name}: {self._redactor().text(reason)}"

    def _redactor(self) -> Redactor:
        """Whatever stands in the URL behind its host may be a key; what stands before the host is one."""
        parts = urlsplit(self.url)
        words = re.split(r"[/&;=,?]", f"{parts.path}&{parts.query}&{parts.fragment}")
        said = {self.url, parts.password or "", *(word for word in words if len(word) >= _SHORTEST_SECRET)}
        return Redactor(frozenset(said | {unquote(word) for word in said}))


def read(path: Path) -> list[Target]:
    """The targets in a file that only its owner reads. UsageError with the line, and never with its content."""
    try:
        mode = path.stat().st_mode
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeError) as error:
        message = f"The file {path} of those to notify cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}."
        raise UsageError(message) from error
    if stat.S_IMODE(mode) & 0o077:
        message = f"The file {path} holds secrets and others may read it (mode {stat.S_IMODE(mode):04o}): chmod 600 {path}"
        raise UsageError(message)
    found = []
    for number, line in enumerate(map(str.strip, lines), 1):
        if not line or line.startswith("#"):
            continue
        kind = line.partition("://")[0] if "://" in line else "no URL"
        target = Target(f"line {number} of {path.name} ({kind if kind.isalnum() else 'no URL'})", line)
        try:
            _service(line)
        except ValueError:
            message = f"{path}, line {number}: apprise does not understand it; expected one URL, as https://appriseit.com/services lists them."
            raise UsageError(message) from None
        found.append(target)
    if not found:
        message = (
            f"The file {path} names nobody to notify: one apprise URL a line, such as mailtos://mail.example.org?from=...&to=..."
        )
        raise UsageError(message)
    return found


def _service(url: str) -> apprise.NotifyBase:
    service = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if not isinstance(service, apprise.NotifyBase):
        message = "no service of apprise's"
        raise ValueError(message)  # noqa: TRY004 - it is the text that is wrong
    return service


def _attached(attachment: Attachment) -> apprise.AppriseAttachment:
    file = AttachMemory(content=attachment.contents, name=attachment.name, mimetype="application/pdf")  # type: ignore[no-untyped-call]
    return apprise.AppriseAttachment(file)


def _reason(said: str) -> str:
    """What apprise warned of, and the exception behind it, which it tells only as a detail."""
    told = []
    for line in said.splitlines():
        level, _, text = line.partition(" ")
        if level in {"WARNING", "ERROR", "CRITICAL"} or "Exception" in text:
            told.append(text.strip().rstrip("."))
    return "; ".join(dict.fromkeys(told)) or "it was not taken, and no reason given"
