# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What makes one host of the shared tree: its name, address, keys and certificate, written before its first boot."""

from __future__ import annotations

import os
import uuid
from pathlib import Path

from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Host, Laboratory, run, write_file
from ansible_collections.relevo.lab.plugins.module_utils.root_tree import OPERATOR, TLS_DIRECTORY

Owner = tuple[int, int]


def write_host_files(lab: Laboratory, host: Host, hosts: list[Host]) -> None:
    """Into the mounted root of a host that has never been started."""
    root = lab.root(host)
    operator = account(root, OPERATOR)
    machine_id = uuid.uuid4().hex
    for path, content in {
        "etc/hostname": f"{host.name}\n",
        "etc/hosts": hosts_file(hosts),
        "etc/machine-id": f"{machine_id}\n",
        "etc/systemd/network/10-host0.network": network_file(host),
    }.items():
        write_file(root / path, content)
    for name, mode in (("ssh_host_ed25519_key", 0o600), ("ssh_host_ed25519_key.pub", 0o644)):
        write_file(
            root / "etc/ssh" / name,
            (lab.state / "ssh" / f"{host.name}{name.removeprefix('ssh_host_ed25519_key')}").read_text(),
            mode,
        )
    home = root / "home" / OPERATOR
    make_directory(home / ".ssh", 0o700, operator)
    write_file(home / ".ssh/authorized_keys", (lab.state / "ssh/operator.pub").read_text(), 0o600, operator)
    write_certificate(lab, host, root)
    set_password(root, OPERATOR, (lab.state / "secrets/become_password").read_text().strip())


def write_certificate(lab: Laboratory, host: Host, root: Path) -> None:
    directory = root / TLS_DIRECTORY.lstrip("/")
    make_directory(directory, 0o755, (0, 0))
    write_file(directory / "ca.pem", (lab.state / "tls/ca.pem").read_text())
    write_file(directory / "host.pem", (lab.state / f"tls/{host.name}.pem").read_text())
    write_file(directory / "host.key", (lab.state / f"tls/{host.name}.key").read_text(), 0o640, (0, group_id(root, "ssl-cert")))


def hosts_file(hosts: list[Host]) -> str:
    return "127.0.0.1 localhost\n" + "".join(f"{host.address} {host.name}\n" for host in hosts)


def network_file(host: Host) -> str:
    return f"[Match]\nName=host0\n\n[Network]\nAddress={host.interface}\nGateway={host.gateway}\nLinkLocalAddressing=no\nIPv6AcceptRA=no\n"


def make_directory(path: Path, mode: int, owner: Owner) -> None:
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(mode)
    os.chown(path, *owner)


def account(root: Path, name: str) -> Owner:
    fields = entry(root / "etc/passwd", name)
    return int(fields[2]), int(fields[3])


def group_id(root: Path, name: str) -> int:
    return int(entry(root / "etc/group", name)[2])


def entry(path: Path, name: str) -> list[str]:
    return next(line.split(":") for line in path.read_text().splitlines() if line.startswith(f"{name}:"))


def set_password(root: Path, name: str, password: str) -> None:
    hashed = run(["chroot", root, "openssl", "passwd", "-6", "-stdin"], stdin=f"{password}\n").strip()
    shadow = root / "etc/shadow"
    lines = [line.split(":") for line in shadow.read_text().splitlines()]
    content = "\n".join(":".join([fields[0], hashed, *fields[2:]] if fields[0] == name else fields) for fields in lines) + "\n"
    write_file(shadow, content, 0o640, (0, group_id(root, "shadow")))
