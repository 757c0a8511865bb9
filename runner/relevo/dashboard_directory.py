"""A site in a directory: written beside it as a whole and then exchanged, so that nobody reads half of one."""

from __future__ import annotations

import ctypes
import fcntl
import json
import os
import shutil
from contextlib import contextmanager
from typing import TYPE_CHECKING

from relevo.errors import RelevoError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from relevo.dashboard_pages import Site

# In each directory that is ours: what we wrote into it. Whatever else is there is somebody's.
MARKER = ".relevo-dashboard.json"
_EXCHANGE, _HERE = 2, -100  # RENAME_EXCHANGE and AT_FDCWD of Linux


def write(directory: Path, site: Site) -> int:
    """Write the site, and say how many bytes it has. UsageError for a directory with other files, RelevoError when it cannot be written."""
    place = directory.expanduser().resolve()
    draft = place.with_name(f".{place.name}.relevo-draft")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with _alone(place.parent):
            _judge(place)
            shutil.rmtree(draft, ignore_errors=True)  # of a run that was killed
            size = _fill(draft, site)
            _judge(place)  # again: drawing takes seconds
            _exchange(draft, place)
    except OSError as error:
        message = f"The dashboard {place} cannot be written: {error.strerror}. What was there is still there."
        raise RelevoError(message) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return size


def _judge(place: Path) -> None:
    """Whether everything in it is ours, so that it may go."""
    if not place.exists():
        return
    if not place.is_dir():
        message = f"{place} is no directory; expected one that is empty, or that an earlier dashboard wrote."
        raise UsageError(message)
    found = {str(path.relative_to(place)) for path in place.rglob("*") if path.is_symlink() or not path.is_dir()}
    try:
        ours = set(json.loads((place / MARKER).read_text(encoding="utf-8"))["files"]) | {MARKER}
    except (OSError, ValueError, KeyError, TypeError):
        ours = set()
    if foreign := sorted(found - ours):
        message = (
            f"{place} holds {foreign[0]}, which no dashboard wrote ({len(foreign)} of {len(found)} files); "
            "expected an empty directory or one of an earlier dashboard. Nothing was changed: give another --out."
        )
        raise UsageError(message)


def _fill(draft: Path, site: Site) -> int:
    draft.mkdir()
    size = 0
    for path in site.paths:
        contents = site.read(path) or b""
        target = draft / path
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(contents)
        size += len(contents)
    (draft / MARKER).write_text(json.dumps({"at": site.board.at, "files": site.paths}, indent=1) + "\n", encoding="utf-8")
    return size


def _exchange(draft: Path, place: Path) -> None:
    """The new one stands where the old one was, in one step where the file system can do that."""
    if not place.exists():
        draft.rename(place)
        return
    old = place.stat()
    draft.chmod(old.st_mode & 0o7777)
    if os.geteuid() == 0:
        os.chown(draft, old.st_uid, old.st_gid)
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.renameat2(_HERE, os.fsencode(draft), _HERE, os.fsencode(place), _EXCHANGE) == 0:
        return
    aside = place.with_name(f".{place.name}.relevo-old")
    shutil.rmtree(aside, ignore_errors=True)
    place.rename(aside)
    try:
        draft.rename(place)
    except OSError:
        aside.rename(place)
        raise
    shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def _alone(parent: Path) -> Iterator[None]:
    """One writer at a time."""
    descriptor = os.open(parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
