"""The second person's word: what a run asked to be approved, shown, and signed with that person's own key."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo import signature
from relevo.clock import utc
from relevo.errors import RelevoError, UsageError
from relevo.paths import make_private_directory

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from relevo.paths import Place

NAMESPACE = "relevo-approval"


@dataclass(frozen=True)
class Asked:
    """What a run asks a second person for. digest: SHA-256 of the subject, as the run made it."""

    subject: Mapping[str, Any]
    digest: str


def read(place: Place, request: str) -> Asked:
    """A run id of this controller, or the file of another one's run. UsageError when there is nothing to approve."""
    path = Path(request) if "/" in request else place.run_directory(request) / "control" / "approval.json"
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
        asked = Asked(dict(value["subject"]), str(value["digest"]))
    except FileNotFoundError as error:
        message = f"{request} asks for no approval: {path} does not exist."
        raise UsageError(message) from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        message = f"{path} cannot be read as a request for an approval."
        raise UsageError(message) from error
    if hashlib.sha256(_canonical(asked.subject)).hexdigest() != asked.digest:
        message = f"{path} was changed: what it shows is not what it asks to be signed."
        raise RelevoError(message)
    return asked


def sentences(asked: Asked) -> list[tuple[str, str]]:
    """The subject in words, what is empty left out."""
    return [(name.replace("_", " "), _shown(value)) for name, value in asked.subject.items() if value not in (None, "", [], ())]


def confirmation(asked: Asked) -> str:
    """What a person types who has read it."""
    return f"approve {asked.digest[:12]}"


def sign(asked: Asked, name: str, key: Path, directory: Path, now: datetime) -> Path:
    """Write the statement and its signature; the file. SignatureError with ssh-keygen's own words."""
    text = json.dumps({"approved_at": utc(now), "approver": name, "digest": asked.digest}, sort_keys=True, separators=(",", ":"))
    signed = signature.sign_as(key, NAMESPACE, text.encode())
    path = make_private_directory(directory) / f"{asked.digest[:12]}-{now:%Y%m%dT%H%M%SZ}.json"
    # The signature first: a statement without one is none.
    path.with_name(f"{path.name}.sig").write_text(signed, encoding="ascii")
    path.write_text(text, encoding="utf-8")
    return path


def _canonical(subject: Mapping[str, Any]) -> bytes:
    return json.dumps(subject, sort_keys=True, separators=(",", ":")).encode()


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
