"""What must never be written: secrets, by the name of their key, by their form, and by their known value."""

from __future__ import annotations

import re
from math import isfinite
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

REDACTED = "[redacted]"
SECRET_NAME = re.compile(r"password|passwd|passphrase|secret|token|private_?key|api_?key|credential", re.IGNORECASE)

_FORMS = (
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----.*?(?:-----END [A-Z ]*PRIVATE KEY-----|\Z)", re.DOTALL), REDACTED),
    (re.compile(r"AGE-SECRET-KEY-1[0-9A-Z]+"), REDACTED),
    (re.compile(r"(://[^\s/@:]*:)[^\s/@]+(?=@)"), rf"\1{REDACTED}"),
    (re.compile(r"\bAKIA[0-9A-Z]{16}\b"), REDACTED),
    (re.compile(r"(?i)((?:passw(?:or)?d|passphrase|secret|token|api_?key)[\"']?\s*=\s*[\"']?)[^\s\"',;]+"), rf"\1{REDACTED}"),
    (re.compile(r"(?i)((?:passw(?:or)?d|passphrase)[\"']?\s*:\s*[\"']?)[^\s\"',;]+"), rf"\1{REDACTED}"),
)
_LONGEST_FILE_BYTES = 8192
_SHORTEST_SECRET = 12
_SURELY_NO_WORD = 20


class Redactor:
    """Replaces secrets in text and in trees of JSON values; `known` are values that are secret wherever they appear."""

    def __init__(self, known: frozenset[str] = frozenset()) -> None:
        longest_first = sorted((value for value in known if value), key=len, reverse=True)
        self._known = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def text(self, value: str) -> str:
        """The text without secrets."""
        if self._known is not None:
            value = self._known.sub(REDACTED, value)
        for form, replacement in _FORMS:
            value = form.sub(replacement, value)
        return value

    def tree(self, value: Any) -> Any:
        """A copy without secrets that JSON can hold: keys are text, a key that names a secret loses its whole text.

        What is no number (nan, inf) is null, and what JSON does not know is text.
        """
        if isinstance(value, dict):
            return {
                self.text(str(key)): REDACTED
                if isinstance(item, str) and item and SECRET_NAME.search(str(key))
                else self.tree(item)
                for key, item in value.items()
            }
        if isinstance(value, (list, tuple)):
            return [self.tree(item) for item in value]
        if isinstance(value, float) and not isfinite(value):
            return None
        return value if value is None or isinstance(value, (bool, int, float)) else self.text(str(value))


def known_secrets(inventory: Sequence[str], environment: Mapping[str, str]) -> frozenset[str]:
    """Values to hide: files below a `secrets` directory of the inventory, and environment variables named like secrets."""
    found = {value for name, value in environment.items() if SECRET_NAME.search(name) and _looks_secret(value)}
    for source in inventory:
        root = Path(source) if Path(source).is_dir() else Path(source).parent
        for directory in (root / "secrets", root / "group_vars" / "secrets"):
            found.update(values_below(directory))
    return frozenset(found)


def values_below(directory: Path) -> set[str]:
    """What the files of a directory hold: each as a whole, each line, and the password at the end of a libpq line."""
    values: set[str] = set()
    try:
        files = [path for path in directory.rglob("*") if path.is_file() and path.stat().st_size <= _LONGEST_FILE_BYTES]
        for path in files:
            text = path.read_text(encoding="utf-8", errors="ignore").strip()
            lines = [line.strip() for line in text.splitlines()]
            candidates = (text, *lines, *(line.rpartition(":")[2] for line in lines))
            values.update(candidate for candidate in candidates if _looks_secret(candidate))
    except OSError:
        return values
    return values


def _looks_secret(value: str) -> bool:
    """Whether a text may be hidden everywhere: hiding a plain word such as a cluster's name would spoil the record."""
    if len(value) < _SHORTEST_SECRET or " " in value or value[:1] == "/":
        return False
    mixed = any(character.isdigit() for character in value) and any(character.isalpha() for character in value)
    return mixed or len(value) >= _SURELY_NO_WORD
