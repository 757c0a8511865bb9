# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What a laboratory is: its hosts, and the one directory that holds all its state, whatever checkout made it."""

from __future__ import annotations

import dataclasses
import fcntl
import ipaddress
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

from contextlib import contextmanager

DEFAULT_STATE_DIRECTORY = "/var/lib/relevo-lab"
CONTROLLER = "controller"
ALL = "*"


class LaboratoryError(Exception):
    """A sentence for a tired reader: what was observed, what was expected, what to do."""


@dataclasses.dataclass(frozen=True)
class Host:
    """One host. A volume is a file system of limited size at a path of its own, so that it can be filled."""

    name: str
    site: str
    address: str
    network: str
    volume: str = ""
    volume_gigabytes: int = 0
    # Hosts that it may exchange packets with, commas between them; with anything but ALL it is confined to those and the controller.
    reaches: str = ALL

    @property
    def bridge(self) -> str:
        return bridge_of(self.site)

    @property
    def port(self) -> str:
        """The host's end of the cable: systemd-nspawn names it so."""
        return f"vb-{self.name}"

    @property
    def confined(self) -> bool:
        return self.reaches != ALL

    @property
    def interface(self) -> str:
        return f"{self.address}/{ipaddress.ip_network(self.network).prefixlen}"

    @property
    def gateway(self) -> str:
        return gateway_of(self.network)


def bridge_of(site: str) -> str:
    return f"rl-{site}"


def gateway_of(network: str) -> str:
    """The controller's own address in a site's network: the first one."""
    return str(next(ipaddress.ip_network(network).hosts()))


@dataclasses.dataclass(frozen=True)
class Laboratory:
    """Paths and names; everything that the machine sees of a laboratory carries its name."""

    state: Path

    @classmethod
    def at(cls, state_directory: str | None = None) -> Laboratory:
        return cls(Path(state_directory or os.environ.get("RELEVO_LAB_STATE") or DEFAULT_STATE_DIRECTORY))

    @property
    def name(self) -> str:
        return self.state.name

    @property
    def hosts_directory(self) -> Path:
        return self.state / "hosts"

    @property
    def description(self) -> Path:
        return self.state / "lab.json"

    def directory(self, host: Host) -> Path:
        return self.hosts_directory / host.name

    def root(self, host: Host) -> Path:
        return self.directory(host) / "root"

    def read(self) -> dict[str, Any]:
        """The description that was written when the laboratory was made; empty when there is none."""
        try:
            content: dict[str, Any] = json.loads(self.description.read_text())
        except FileNotFoundError:
            return {}
        return content

    def write(self, description: dict[str, Any]) -> None:
        write_file(self.description, json.dumps(description, indent=1) + "\n", mode=0o600)

    def hosts(self) -> list[Host]:
        return [Host(**host) for host in self.read().get("hosts", [])]

    def host(self, name: str) -> Host:
        for host in self.hosts():
            if host.name == name:
                return host
        known = ", ".join(host.name for host in self.hosts()) or "none, the laboratory is not there: run 'make lab'"
        raise LaboratoryError(f"There is no host {name} in the laboratory {self.state}. Its hosts: {known}.")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """One change at a time, from whatever checkout."""
        with open(f"/run/{self.name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def require_root() -> None:
    if os.geteuid() != 0:
        raise LaboratoryError(
            f"Running as user id {os.geteuid()}, but hosts can only be made by root. Run the same command with sudo."
        )


def write_file(path: Path, content: str, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> bool:
    """Replace a file as a whole, never by halves; False when it was so already."""
    if path.is_file() and not path.is_symlink() and path.read_text() == content:
        seen = path.stat()
        if (seen.st_mode & 0o7777, seen.st_uid, seen.st_gid) == (mode, *owner):
            return False
    temporary = path.with_name(f".{path.name}.new")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as stream:
        stream.write(content)
        os.fchown(stream.fileno(), *owner)
        os.fchmod(stream.fileno(), mode)
    temporary.rename(path)
    return True


def installed(command: str) -> bool:
    return shutil.which(command, path="/usr/sbin:/usr/bin:/sbin:/bin") is not None


def run(argv: Sequence[str | Path], stdin: str | None = None, timeout: float = 60) -> str:
    """Standard output of a command that must succeed."""
    words = [str(word) for word in argv]
    environment = {**os.environ, "PATH": f"{os.environ.get('PATH', '/usr/bin:/bin')}:/usr/sbin:/sbin", "LC_ALL": "C"}
    try:
        done = subprocess.run(words, input=stdin, capture_output=True, text=True, timeout=timeout, env=environment, check=False)
    except FileNotFoundError as missing:
        raise LaboratoryError(
            f"The command {words[0]} is not installed. Run 'make lab' on Debian or Ubuntu, which installs it."
        ) from missing
    if done.returncode != 0:
        raise LaboratoryError(f"'{' '.join(words)}' ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-800:]}")
    return done.stdout
