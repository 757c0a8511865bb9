"""What a controller has that a run needs beside the project: its inventory, secrets, pinned host keys and its own key. Reads only."""

from __future__ import annotations

import io
import os
import shlex
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relevo import digest, escape, signature
from relevo.errors import RelevoError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from relevo.estate import Host
    from relevo.policy_file import Loaded

_GIT_SECONDS = 60
_SSH_SECONDS = 10
# As a digest of an inventory leaves them out: secrets are packed by the name of their directory, or not at all.
_LEFT_OUT = frozenset({"secrets", "__pycache__"})


@dataclass(frozen=True)
class Kept:
    """A file to be packed. mode: what it has here, never more than its owner may do and others may read."""

    content: bytes
    mode: int


def project(root: Path) -> tuple[str, dict[str, Kept]]:
    """The commit of a checkout and its files. UsageError where nobody could say what is packed."""
    commit, dirty = digest.commit(root)
    if commit is None:
        message = f"{root} is no git checkout, so nobody could say what is packed: make the pack from one."
        raise UsageError(message)
    if dirty or dirty is None:
        message = f"{root} has changes that are in no commit: commit or stash them first, so that the pack is of {commit[:12]}."
        raise UsageError(message)
    command = ["git", "-c", f"safe.directory={root}", "-C", str(root), "archive", "--format=tar", commit]
    try:
        done = subprocess.run(command, capture_output=True, check=True, timeout=_GIT_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.SubprocessError) as error:
        message = f"The commit {commit[:12]} of {root} cannot be read: {error}."
        raise RelevoError(message) from error
    with tarfile.open(fileobj=io.BytesIO(done.stdout), mode="r:") as archive:
        files = {member.name: Kept(_content(archive, member), _mode(member.mode)) for member in archive if member.isfile()}
    return commit, files


def inventory(root: Path, source: str) -> tuple[str, dict[str, Kept]]:
    """Where an inventory lies in the pack's project, and its files there, with the policy beside it."""
    path = Path(source)
    if not path.exists():
        message = f"The inventory {source} is a list of hosts and no file: a pack needs one that lies in files."
        raise UsageError(message)
    top = path if path.is_dir() else path.parent
    place = top.relative_to(root) if top.is_relative_to(root) else Path("inventories", top.name)
    files = {str(place / name.relative_to(top)): _read(name) for name in _walk(top)}
    return str(place if path.is_dir() else place / path.name), files


def policy(loaded: Loaded) -> dict[str, Kept]:
    """The file that judges here, wherever it was named; nothing where the built-in policy does, which every controller has."""
    return {} if loaded.digest is None else {escape.POLICY: _read(Path(loaded.source))}


def controller_files(paths: Sequence[str]) -> dict[str, Kept]:
    """Files and directories that the inventory names, by their absolute path. UsageError for one that is not here."""
    found: dict[str, Kept] = {}
    for name in paths:
        path = Path(name)
        if not path.is_absolute() or not path.exists():
            message = f"dr_pack_files names {name}, which is no absolute path of a file or directory here: correct the inventory."
            raise UsageError(message)
        for file in [path] if path.is_file() else sorted(child for child in path.rglob("*") if child.is_file()):
            found[str(file)] = _read(file)
    return found


def signing_key(keys: Path) -> dict[str, Kept]:
    """The key that the hosts believe before they promote, as protect told them, by its name in a state directory."""
    signature.ready_key(keys)
    names = (signature.CONTROLLER, f"{signature.CONTROLLER}.pub")
    return {name: _read(keys / name) for name in names}


def known_hosts(hosts: Sequence[Host]) -> tuple[bytes, tuple[str, ...]]:
    """The pinned keys of hosts as this controller knows them, and the hosts that have none."""
    lines: list[str] = []
    unpinned: list[str] = []
    for host in hosts:
        if not host.local:
            found = _pinned(host)
            lines += [line for line in found if line not in lines]
            if not found:
                unpinned.append(host.name)
    return "".join(f"{line}\n" for line in lines).encode(), tuple(unpinned)


def _pinned(host: Host) -> list[str]:
    """Lines of the files that ssh itself would read for it."""
    options = shlex.split(str(host.variables.get("ansible_ssh_common_args") or ""))
    port = ["-p", str(host.port)] if host.port else []
    settings = _said(["ssh", "-G", *options, *port, host.address]).splitlines()
    named = dict(line.split(" ", 1) for line in settings if " " in line)
    files = [*named.get("userknownhostsfile", "").split(), *named.get("globalknownhostsfile", "").split()]
    asked = named.get("hostkeyalias") or (f"[{host.address}]:{host.port}" if host.port and host.port != _SSH_PORT else host.address)
    found = [line for file in files for line in _said(["ssh-keygen", "-F", asked, "-f", str(Path(file).expanduser())]).splitlines()]
    return [line for line in found if line and not line.startswith("#")]


_SSH_PORT = 22


def _said(command: Sequence[str]) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=_SSH_SECONDS, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"{command[0]} cannot be asked for the pinned keys of hosts: {error}."
        raise RelevoError(message) from error
    return done.stdout


def _walk(top: Path) -> Iterator[Path]:
    for directory, inner, names in os.walk(top):
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name not in _LEFT_OUT)
        yield from (Path(directory, name) for name in sorted(names) if not name.startswith("."))


def _read(path: Path) -> Kept:
    try:
        return Kept(path.read_bytes(), _mode(path.stat().st_mode))
    except OSError as error:
        message = f"{path} cannot be packed: {error.strerror}."
        raise RelevoError(message) from error


def _content(archive: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    source = archive.extractfile(member)
    return source.read() if source else b""


def _mode(mode: int) -> int:
    return stat.S_IMODE(mode) & 0o755
