"""Who is to hear of a run, as it is kept in the run's own directory. It knows no apprise: Ansible's process must not wait for that."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

REQUEST = "notify.json"
REPORT_VARIABLE = "RELEVO_NOTIFY_REPORT"


class When(StrEnum):
    """Which runs are told of."""

    NOT_PASSED = "not-passed"
    ALWAYS = "always"


@dataclass(frozen=True)
class Request:
    """Whom to tell (a file of apprise URLs), when, who has heard already (digests of targets), and whether the report goes with it."""

    file: str
    when: When = When.NOT_PASSED
    told: list[str] = field(default_factory=list)
    report: bool = False


def wants_report(environment: Mapping[str, str]) -> bool:
    """Whether the environment asks for the report, where no command line can."""
    return environment.get(REPORT_VARIABLE, "").strip().lower() in {"1", "true", "yes", "on"}


def ask(directory: Path, request: Request) -> None:
    """Keep the request in the run's directory, before its first change. OSError when it cannot be kept."""
    draft = directory / f".{REQUEST}.{os.getpid()}"
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as target:
        json.dump(asdict(request), target)
        target.flush()
        os.fsync(target.fileno())
    draft.rename(directory / REQUEST)


def contacts(run: Path) -> Path | None:
    """The file that the inventory names for a run, as its opening task has kept it; None before that, or when there is none."""
    try:
        kept = json.loads((run / "control" / "contacts.json").read_text(encoding="utf-8"))["file"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Path(kept) if kept else None
