"""Words that leave Ansible's own process by another one: it forks all the time, and shares neither a thread nor a library with a mail server."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from relevo.notice import Notice

# For several targets, each with its own limit.
_LIMIT_SECONDS = 200.0
_LAST_WORDS_SECONDS = 15.0


@dataclass(frozen=True)
class Courier:
    """Takes a notice to everybody in a file of URLs. directory: of the run, where the notice lies meanwhile."""

    file: Path
    directory: Path

    def send(self, notice: Notice) -> str | None:
        """Send; the reasons of those who did not take it."""
        letter = self.directory / f"{notice.title.partition(':')[0].lower().replace(' ', '-')}.json"
        letter.write_text(json.dumps(asdict(notice)), encoding="utf-8")
        return _run([str(self.file), str(letter)], letter.with_suffix(".answer"), _LIMIT_SECONDS)


def deliver(directory: Path) -> str | None:
    """Deliver whatever waits, of this run and of others; why something still waits. What takes too long goes on without us."""
    return _run([], directory / "delivery.answer", _LAST_WORDS_SECONDS)


def _run(arguments: Sequence[str], answer: Path, seconds: float) -> str | None:
    """Not by pipes, whose other ends Ansible's workers would keep open, and in a session of its own: a run that is killed takes no word back."""
    try:
        with answer.open("wb") as said:
            process = subprocess.Popen(
                [sys.executable, "-m", "relevo.messenger", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=said,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        code = process.wait(seconds)
        words = answer.read_text(encoding="utf-8", errors="replace").strip()
    except subprocess.TimeoutExpired:
        return "it is still on its way"
    except OSError as error:
        return f"no process for it: {error.strerror or error}"
    return None if code == 0 else words[-2000:] or f"the process for it ended with {code}"
