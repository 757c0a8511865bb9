"""Reports of one run, and bundles of signed records."""

from __future__ import annotations

import json
from enum import StrEnum
from typing import TYPE_CHECKING

from relevo.errors import RelevoError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from relevo.record import Record
    from relevo.store import Stored


class Form(StrEnum):
    """The forms of a report."""

    HTML = "html"
    MARKDOWN = "markdown"
    JSON = "json"


def render(record: Record, form: Form) -> str:
    """The report of one run as text."""
    if form is Form.JSON:
        return json.dumps(record.document(), ensure_ascii=False, indent=2, sort_keys=True) + "\n"
    raise RelevoError("not built yet")


def export(records: Sequence[Stored], allowed_signers: Path, directory: Path) -> list[Path]:
    """Write each record's exact bytes and signature, and the keys to verify them. The paths, in the order of the records."""
    written = []
    try:
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "allowed_signers").write_bytes(allowed_signers.read_bytes())
        for stored in records:
            path = directory / f"{stored.run_id}.json"
            path.write_bytes(stored.document)
            path.with_name(f"{path.name}.sig").write_text(stored.signature, encoding="ascii")
            written.append(path)
    except OSError as error:
        message = f"The bundle cannot be written to {directory}: {error.strerror}."
        raise RelevoError(message) from error
    return written
