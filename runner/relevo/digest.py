"""Digests that tie a record to what it ran: inventory, commit and events."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from relevo import escape

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Secrets rotate without the inventory changing its meaning, and no trace of them belongs in a record.
_LEFT_OUT = ("secrets", "__pycache__")
# Beside the inventory; it judges runs and steers none. Deeper, a file of that name is the inventory's.
_POLICY = "policy.yml"
# What a run does; documents and tests may change beside it.
_CODE = ("playbooks", "roles", "collections", "ansible.cfg")
_COMMIT = re.compile(r"[0-9a-f]{7,64}")
_GIT_TIMEOUT_SECONDS = 20


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, as `sha256sum` prints it."""
    with path.open("rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def inventory_digest(sources: Sequence[str]) -> str | None:
    """SHA-256 over names and contents of all files of the inventory sources, secrets left out; None without sources."""
    if not sources:
        return None
    total = hashlib.sha256()
    for source in sources:
        path = Path(source)
        if not path.exists():  # a host list such as "localhost,"
            total.update(f"{source}\n".encode())
            continue
        for file in sorted(_files(path)):
            if file == path / _POLICY:
                continue
            name = file.relative_to(path) if path.is_dir() else Path(file.name)
            total.update(f"{file_digest(file)}  {name}\n".encode())
    return total.hexdigest()


def _files(path: Path) -> Iterator[Path]:
    if path.is_file():
        yield path
        return
    for child in path.iterdir():
        if not child.name.startswith(".") and child.name not in _LEFT_OUT and (child.is_dir() or child.is_file()):
            yield from _files(child)


def commit(project: Path) -> tuple[str | None, bool | None]:
    """The project's commit and whether tracked files differ from it; (None, None) when it is no git checkout.

    What came out of an escape pack knows its commit, and nobody can tell what was changed since.
    """
    head = _git(project, "rev-parse", "HEAD")
    if head is None:
        return _packed_commit(project), None
    changes = _git(project, "status", "--porcelain", "--untracked-files=no")
    return head.strip(), None if changes is None else bool(changes.strip())


def _packed_commit(project: Path) -> str | None:
    try:
        label = json.loads((project / escape.BESIDE / escape.LABEL_FILE).read_text(encoding="utf-8"))
        return str(label["commit"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def same_code(project: Path, one: str, other: str) -> bool | None:
    """Whether two commits hold the same playbooks, roles and modules; None when this checkout does not know one of them."""
    if any(_git(project, "cat-file", "-e", f"{commit}^{{commit}}") is None for commit in (one, other)):
        return None
    return _git(project, "diff", "--quiet", one, other, "--", *_CODE) is not None


def changed_files(project: Path, one: str, below: str) -> list[str] | None:
    """The tracked files below a path that differ from a commit; None when this checkout does not know it."""
    if not _COMMIT.fullmatch(one):
        return None
    said = _git(project, "diff", "--name-only", "--no-renames", one, "--", below)
    return None if said is None else said.split()


def _git(project: Path, *arguments: str) -> str | None:
    # sudo runs in a checkout that belongs to somebody else, which git refuses unless it is named safe.
    command = ["git", "-c", f"safe.directory={project}", "-C", str(project), *arguments]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=_GIT_TIMEOUT_SECONDS, check=True, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout
