# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Files, blocks in files and single lines that a role manages: what is there, what should be, and the way from one to the other."""

from __future__ import annotations

import contextlib
import grp
import os
import pwd
import stat
import tempfile
from dataclasses import dataclass
from typing import Optional

from ansible_collections.relevo.dr.plugins.module_utils.change import HIDDEN, Change

BEGIN, END = "# BEGIN RELEVO (managed, changes are lost)", "# END RELEVO"


@dataclass(frozen=True)
class WantedFile:
    """Exactly one of content (the whole file), block (between our markers), line (present somewhere) or directory."""

    path: str
    content: Optional[str] = None
    block: Optional[str] = None
    line: Optional[str] = None
    directory: bool = False
    owner: str = "root"
    group: str = "root"
    mode: str = "0644"
    secret: bool = False


@dataclass(frozen=True)
class ObservedFile:
    """content is None for a directory and for what does not exist."""

    kind: str
    content: Optional[str] = None
    owner: str = ""
    group: str = ""
    mode: str = ""


ABSENT = ObservedFile("absent")


def observe(path: str) -> ObservedFile:
    """What is at path."""
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return ABSENT
    kind = "directory" if stat.S_ISDIR(status.st_mode) else "file" if stat.S_ISREG(status.st_mode) else "other"
    content = None
    if kind == "file":
        with open(path, encoding="utf-8", errors="replace") as source:
            content = source.read()
    return ObservedFile(kind, content, _user(status.st_uid), _group(status.st_gid), "%04o" % stat.S_IMODE(status.st_mode))


def text_after(wanted: WantedFile, current: Optional[str]) -> Optional[str]:
    """The file's whole text once wanted holds; None for a directory."""
    if wanted.directory:
        return None
    if wanted.content is not None:
        return wanted.content
    if wanted.block is not None:
        return with_block(current or "", wanted.block)
    lines = (current or "").splitlines()
    assert wanted.line is not None
    return "\n".join(lines if wanted.line in lines else [*lines, wanted.line]) + "\n"


def with_block(text: str, block: str, first: bool = False) -> str:
    """Text with our block in the place of an earlier one, else at its beginning or its end."""
    lines = text.splitlines()
    ours = [BEGIN, *block.strip("\n").splitlines(), END]
    if BEGIN in lines and END in lines[lines.index(BEGIN) :]:
        begin = lines.index(BEGIN)
        end = lines.index(END, begin)
        result = lines[:begin] + ours + lines[end + 1 :]
    else:
        result = ours + lines if first else lines + ours
    return "\n".join(result) + "\n"


def plan(wanted: WantedFile, observed: ObservedFile) -> list[Change]:
    """What has to be done to one path."""
    kind = "directory" if wanted.directory else "file"
    item = "%s %s" % (kind, wanted.path)
    rights = "%s:%s %s" % (wanted.owner, wanted.group, wanted.mode)
    if observed.kind == "absent":
        return [Change(item, "absent", rights)]
    changes = []
    if observed.kind != kind:
        changes.append(Change(item, observed.kind, kind))
    elif text_after(wanted, observed.content) != observed.content:
        changes.append(Change(item, "other content", HIDDEN if wanted.secret else "managed content"))
    if (observed.owner, observed.group, observed.mode) != (wanted.owner, wanted.group, wanted.mode):
        changes.append(Change(item, "%s:%s %s" % (observed.owner, observed.group, observed.mode), rights))
    return changes


def apply(wanted: WantedFile, observed: ObservedFile) -> None:
    """Make path what it should be; a file is replaced as a whole, and never readable by more people than it should be."""
    owner, group, mode = pwd.getpwnam(wanted.owner).pw_uid, grp.getgrnam(wanted.group).gr_gid, int(wanted.mode, 8)
    if wanted.directory:
        os.makedirs(wanted.path, exist_ok=True)
        os.chown(wanted.path, owner, group)
        os.chmod(wanted.path, mode)
        return
    text = text_after(wanted, observed.content)
    assert text is not None
    directory = os.path.dirname(wanted.path)
    os.makedirs(directory, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".relevo-")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as target:
            os.fchown(target.fileno(), owner, group)
            os.fchmod(target.fileno(), mode)
            target.write(text)
            target.flush()
            os.fsync(target.fileno())
        os.replace(temporary, wanted.path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
        raise


def _user(number: int) -> str:
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return str(number)


def _group(number: int) -> str:
    try:
        return grp.getgrgid(number).gr_name
    except KeyError:
        return str(number)
