# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The tree that all hosts share as their lowest layer: a Debian release with the packages of the laboratory, built once and kept."""

from __future__ import annotations

import hashlib
import shutil
import urllib.parse
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.relevo.lab.plugins.module_utils.laboratory import LaboratoryError, run, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

OPERATOR = "sre"
BUILD_SECONDS = 1800
CUSTOMISED = 1  # count up when `customise` changes what it makes
TLS_DIRECTORY = "/etc/ssl/relevo-lab"
DEBIAN_SUITES = {"bookworm", "trixie", "forky", "sid", "stable", "testing", "unstable", "oldstable"}

# Before the packages are installed: a cluster that nobody asked for must not be made. After it: a site's own standard for new clusters.
NO_CLUSTER = "create_main_cluster = false\n"
CLUSTER_STANDARD = f"""{NO_CLUSTER}initdb_options = '--data-checksums --locale=C.UTF-8 --auth-local=peer --auth-host=scram-sha-256'
ssl_cert_file = '{TLS_DIRECTORY}/host.pem'
ssl_key_file = '{TLS_DIRECTORY}/host.key'
listen_addresses = '*'
password_encryption = scram-sha-256
shared_buffers = 64MB
work_mem = 2MB
maintenance_work_mem = 32MB
max_connections = 60
max_wal_size = 256MB
# It needs a restart to be turned on, so a site that plans for disasters has it on from the first day.
archive_mode = on
"""
SSHD = """PermitRootLogin no
PasswordAuthentication no
HostKey /etc/ssh/ssh_host_ed25519_key
UseDNS no
"""
FILES = {
    "etc/postgresql-common/createcluster.conf": (CLUSTER_STANDARD, 0o644),
    "etc/ssh/sshd_config.d/relevo-lab.conf": (SSHD, 0o644),
    f"etc/sudoers.d/{OPERATOR}": (f"{OPERATOR} ALL=(ALL:ALL) ALL\n", 0o440),
    "etc/systemd/journald.conf.d/relevo-lab.conf": ("[Journal]\nStorage=persistent\nSystemMaxUse=64M\n", 0o644),
}
MASKED = (
    "systemd-networkd-wait-online.service",
    "console-getty.service",
    "apt-daily.timer",
    "apt-daily-upgrade.timer",
    "dpkg-db-backup.timer",
    # Only the witness takes mail, and its role unmasks it there.
    "postfix.service",
)
EXCLUDED = ("/usr/share/man/*", "/usr/share/doc/*", "/usr/share/locale/*", "/usr/share/info/*")


def key(packages: Sequence[str]) -> str:
    """A tree is reused only while its packages and what is done to them stay the same."""
    recipe = repr([CUSTOMISED, FILES, MASKED, EXCLUDED, sorted(packages)])
    return hashlib.sha256(recipe.encode()).hexdigest()[:12]


def place(cache: Path, release: str, packages: Sequence[str]) -> Path:
    return cache / release / key(packages)


# -- where this machine itself gets Debian from --


def entries(directory: Path) -> Iterator[tuple[str, list[str]]]:
    """(address, suites) of every binary package source that apt uses on this machine, in both of apt's formats."""
    for path in [directory / "sources.list", *sorted((directory / "sources.list.d").glob("*"))]:
        if not path.is_file():
            continue
        lines = [line.strip() for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
        if path.suffix == ".sources":
            for stanza in "\n".join(lines).split("\n\n"):
                fields = dict(line.split(":", 1) for line in stanza.splitlines() if ":" in line and not line.startswith(" "))
                if "deb" in fields.get("Types", "").split():
                    for address in fields.get("URIs", "").split():
                        yield address, fields.get("Suites", "").split()
        else:
            for line in lines:
                words = line.partition("]")[2].split() if "[" in line else line.split()[1:]
                if line.startswith("deb ") and len(words) > 1:
                    yield words[0], [words[1]]


def mirrors(release: str, directory: Path = Path("/etc/apt")) -> list[str]:
    """Source lines for `release` at the mirrors this machine is configured for; none lets mmdebstrap take its own default."""
    lines = []
    for address, suites in entries(directory):
        if not address.startswith(("http://", "https://", "file:", "copy:")):
            continue
        if DEBIAN_SUITES & set(suites):
            lines.append(f"deb {address} {release} main")
        elif DEBIAN_SUITES & {suite.removesuffix("-security") for suite in suites if suite.endswith("-security")}:
            lines.append(f"deb {address} {release}-security main")
    return list(dict.fromkeys(lines))


def mirror_hosts(release: str, directory: Path = Path("/etc/apt")) -> list[str]:
    names = (urllib.parse.urlsplit(line.split()[1]).hostname for line in mirrors(release, directory))
    return sorted({name for name in names if name})


# -- building --


def build(cache: Path, release: str, packages: Sequence[str]) -> Path:
    """Build under another name and rename at the end: a tree whose build was killed is never used."""
    target = place(cache, release, packages)
    unfinished = target.with_name(f"building-{target.name}")
    for leftover in target.parent.glob("building-*"):
        remove_tree(leftover)
    target.parent.mkdir(parents=True, exist_ok=True)
    argv = ["mmdebstrap", "--quiet", "--variant=minbase", "--mode=root", "--format=directory", f"--include={','.join(packages)}"]
    argv += ['--aptopt=Acquire::Languages "none"', *(f"--dpkgopt=path-exclude={pattern}" for pattern in EXCLUDED)]
    argv += [
        f'--essential-hook=mkdir -p "$1/etc/postgresql-common" && printf "{NO_CLUSTER.strip()}\\n" > "$1/etc/postgresql-common/createcluster.conf"'
    ]
    sources = mirrors(release)
    run([*argv, release, unfinished, *(["-"] if sources else [])], stdin="\n".join(sources) + "\n", timeout=BUILD_SECONDS)
    customise(unfinished)
    unfinished.rename(target)
    for older in target.parent.iterdir():
        if older != target and not users_of(older):
            remove_tree(older)
    return target


def customise(tree: Path) -> None:
    for path, (content, mode) in FILES.items():
        (tree / path).parent.mkdir(parents=True, exist_ok=True)
        write_file(tree / path, content, mode)
    run(["chroot", tree, "useradd", "--create-home", "--shell", "/bin/bash", OPERATOR])
    run(["chroot", tree, "systemctl", "enable", "--quiet", "systemd-networkd.service", "ssh.service"])
    run(["chroot", tree, "systemctl", "mask", "--quiet", *MASKED])
    for secret in [
        *(tree / "etc/ssh").glob("ssh_host_*"),
        *(tree / "etc/ssl").glob("*/ssl-cert-snakeoil.*"),
        *(tree / "etc/ssl/certs").glob("????????.?"),
    ]:
        if secret.is_symlink() and secret.exists():
            continue  # the hash link of a public authority
        secret.unlink(missing_ok=True)
    for name in ("etc/machine-id", "etc/hostname"):
        (tree / name).unlink(missing_ok=True)
    (tree / "etc/machine-id").touch()


def remove_tree(tree: Path) -> None:
    """A build that was killed may have left its own mounts inside."""
    for line in Path("/proc/self/mountinfo").read_text().splitlines()[::-1]:
        point = line.split()[4]
        if point.startswith(f"{tree}/"):
            run(["umount", point])
    shutil.rmtree(tree)


def users_of(tree: Path) -> list[str]:
    """Mounted overlays that still lie on this tree."""
    return [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines() if f"lowerdir={tree}," in line]


def purge(cache: Path) -> bool:
    if not cache.is_dir():
        return False
    for tree in cache.glob("*/*"):
        if users_of(tree):
            raise LaboratoryError(
                f"{tree} is in use by {users_of(tree)[0]}, and is only removed when nothing lies on it. Run 'make lab-down' first."
            )
        remove_tree(tree)
    shutil.rmtree(cache)
    return True
