# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""One host's body: a systemd-nspawn container in a control group of its own, and its disks."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Host, Laboratory, LaboratoryError, run

if TYPE_CHECKING:
    from collections.abc import Callable

BOOT_SECONDS = 90
DEATH_SECONDS = 15
# Each file up to -- takes the process that then becomes the command.
_ENTER = 'while [ "$1" != -- ]; do echo $$ > "$1"; shift; done; shift; exec "$@"'
# systemd-nspawn ends with 133 when its host reboots; what it keeps of a host it removes from no disk, which /run is on some machines.
_RUN = """
mkdir -p /run/systemd/nspawn
mount -t tmpfs -o mode=0755,size=4m tmpfs /run/systemd/nspawn
code=133
while [ $code = 133 ]; do code=0; "$@" || code=$?; done
exit $code
"""


# -- control groups: what belongs to a host, and how all of it dies at once --


def group_roots() -> list[Path]:
    """The version 2 hierarchy first, then systemd's own version 1 hierarchy where the machine has one."""
    unified: list[Path] = []
    named: list[Path] = []
    for line in Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        kind, _source, options = right.split(" ", 2)
        if kind == "cgroup2":
            unified.append(Path(left.split()[4]))
        elif kind == "cgroup" and "name=systemd" in options.split(","):
            named.append(Path(left.split()[4]))
    return [*unified[:1], *named[:1]]


def require_version_2_groups() -> None:
    if not any((root / "cgroup.procs").exists() and not (root / "tasks").exists() for root in group_roots()):
        raise LaboratoryError(
            "No version 2 control groups are mounted on this machine, but systemd-nspawn needs them. Boot it with cgroup v2 or hybrid."
        )


def group(lab: Laboratory, host: Host | None = None) -> Path:
    base = next(iter(group_roots()), Path("/sys/fs/cgroup")) / lab.name
    return base / host.name if host else base


def processes_in(path: Path) -> list[int]:
    """All processes at or below a control group, as this machine numbers them."""
    found: list[int] = []
    for directory, _below, _files in os.walk(path):
        try:
            found += [int(line) for line in (Path(directory) / "cgroup.procs").read_text().split()]
        except OSError:
            continue  # the group went away while we looked
    return found


def is_on(lab: Laboratory, host: Host) -> bool:
    try:
        return "populated 1" in (group(lab, host) / "cgroup.events").read_text()
    except FileNotFoundError:
        return False


def is_orphan(lab: Laboratory, host: Host) -> bool:
    """On, but its systemd-nspawn was killed: the host runs on and can neither be rebooted nor end well."""
    return is_on(lab, host) and not processes_in(group(lab, host) / "supervisor")


def leader(lab: Laboratory, host: Host) -> int:
    """The host's own process 1, as this machine numbers it."""
    for pid in processes_in(group(lab, host) / "payload"):
        try:
            status = Path(f"/proc/{pid}/status").read_text()
        except (FileNotFoundError, ProcessLookupError):
            continue  # one of the host's short commands, which ended while we looked
        namespaced = next(line for line in status.splitlines() if line.startswith("NSpid:")).split()
        if namespaced[-1] == "1" and len(namespaced) > 2:
            return pid
    raise LaboratoryError(f"{host.name} is off, so nothing can be seen inside of it. Run 'bin/lab power-on {host.name}' first.")


def wait_for(condition: Callable[[], bool], seconds: float) -> bool:
    limit = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > limit:
            return False
        time.sleep(0.02)
    return True


def stray_processes(lab: Laboratory) -> list[int]:
    """systemd-nspawn processes that run a root of this laboratory, also those of a laboratory whose state is gone."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if words[0].endswith(b"systemd-nspawn") and any(
                word.startswith(f"--directory={lab.hosts_directory}/".encode()) for word in words
            ):
                found.append(int(entry.name))
    return found


def kill_group(path: Path) -> None:
    """SIGKILL to everything in the group, also to what is being forked at this moment."""
    try:
        (path / "cgroup.kill").write_text("1")
    except FileNotFoundError:  # no such group, or a kernel before 5.14
        for pid in processes_in(path):
            os.kill(pid, signal.SIGKILL)
    if not wait_for(lambda: not processes_in(path), DEATH_SECONDS):
        raise LaboratoryError(
            f"Processes {processes_in(path)} in {path} outlived SIGKILL for {DEATH_SECONDS} s. Look at them with 'ps', then repeat."
        )


def remove_groups(lab: Laboratory, host: Host | None = None) -> None:
    """Of one host or of all; they must be empty."""
    for root in group_roots():
        for directory, _below, _files in os.walk(root / lab.name / (host.name if host else ""), topdown=False):
            Path(directory).rmdir()


# -- power on; off is in bin/lab alone, so that a fence's probe costs milliseconds --


def has_cable(host: Host) -> bool:
    """Of this network namespace; /sys may still show those of another one."""
    return any(line.strip().startswith(f"{host.port}:") for line in Path("/proc/net/dev").read_text().splitlines())


def remove_cable(host: Host) -> None:
    """The kernel takes its time over the cable of a host that was killed, and may be done with it at any moment."""
    if not has_cable(host):
        return
    try:
        run(["ip", "link", "delete", host.port])
    except LaboratoryError:
        if has_cable(host):
            raise


def power_on(lab: Laboratory, host: Host) -> None:
    """Start the host and return; `wait_until_reachable` tells when it answers."""
    # Fresh groups each time: a group made below one that was killed before is born dead on some kernels (seen on 6.18: its first process gets SIGKILL).
    remove_groups(lab, host)
    directories = [root / lab.name / host.name for root in group_roots()]
    for directory in directories:
        directory.mkdir(parents=True)

    remove_cable(host)

    argv = ["unshare", "--mount", "--propagation", "slave", "/bin/sh", "-ec", _RUN, "sh"]
    argv += [
        "systemd-nspawn",
        "--quiet",
        "--boot",
        "--register=no",
        "--keep-unit",
        "--link-journal=no",
        "--settings=no",
        # Somebody has to read what the host says: its process 1 stops for good in front of a full terminal.
        "--console=read-only",
    ]
    argv += [
        "--resolv-conf=off",
        "--timezone=off",
        f"--directory={lab.root(host)}",
        f"--machine={host.name}",
        f"--hostname={host.name}",
    ]
    argv += [f"--network-bridge={host.bridge}"]
    if host.volume:
        argv += [f"--bind={lab.directory(host) / 'volume'}:{host.volume}"]
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8", "SYSTEMD_NSPAWN_UNIFIED_HIERARCHY": "1"}
    with (lab.directory(host) / "console.log").open("ab") as console:
        subprocess.Popen(
            in_groups(directories, argv),
            stdin=subprocess.DEVNULL,
            stdout=console,
            stderr=console,
            env=environment,
            cwd="/",
            start_new_session=True,
        )
    # Until it has entered them, it would pass for a host that is off.
    wait_for(partial(is_on, lab, host), DEATH_SECONDS)


def in_groups(directories: list[Path], command: list[str]) -> list[str]:
    """The command, started in these groups and in none of the caller's version 1 groups (memory, pids): they may be killed as a whole when its session ends."""
    files = [directory / "cgroup.procs" for directory in directories]
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        _number, controllers, path = line.split(":", 2)
        top = Path("/sys/fs/cgroup") / controllers / "cgroup.procs"
        if controllers and not controllers.startswith("name=") and path != "/" and top.exists():
            files.append(top)
    return ["/bin/sh", "-ec", _ENTER, "sh", *map(str, files), "--", *command]


def answers(host: Host, seconds: float = 1) -> bool:
    """Whether the host's sshd greets us."""
    try:
        with socket.create_connection((host.address, 22), timeout=seconds) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False


def wait_until_reachable(lab: Laboratory, host: Host, seconds: float = BOOT_SECONDS) -> None:
    limit = time.monotonic() + seconds
    while not answers(host):
        if time.monotonic() > limit or not is_on(lab, host):
            console = (lab.directory(host) / "console.log").read_text(errors="replace")[-600:]
            state = "runs" if is_on(lab, host) else "ended"
            raise LaboratoryError(
                f"{host.name} was started and {state}, but its sshd did not answer on {host.address} within {seconds:.0f} s. End of its console: {console}"
            )
        time.sleep(0.1)


# -- disks --


def mounts_below(directory: Path) -> list[str]:
    """Mount points below a directory, the deepest first."""
    points = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    return sorted((point for point in points if point.startswith(f"{directory}/")), reverse=True)


def mount_disks(lab: Laboratory, host: Host, tree: Path) -> bool:
    """Mount the host's overlay and volume where they are not; False when both were."""
    directory = lab.directory(host)
    mounted = mounts_below(directory)
    changed = False
    if str(directory / "root") not in mounted:
        for name in ("upper", "work", "root"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        layers = f"lowerdir={tree},upperdir={directory / 'upper'},workdir={directory / 'work'}"
        run(["mount", "-t", "overlay", f"{lab.name}-{host.name}", "-o", layers, directory / "root"])
        changed = True
    if host.volume and str(directory / "volume") not in mounted:
        mount_volume(directory, host, tree)
        changed = True
    return changed


def mount_volume(directory: Path, host: Host, tree: Path) -> None:
    """A sparse image, so that a full disk is a real one and costs nothing until then."""
    image = directory / "volume.img"
    if not image.exists():
        temporary = directory / "volume.new"
        with temporary.open("wb") as stream:
            stream.truncate(host.volume_gigabytes * 1024**3)
        run(["mkfs.ext4", "-q", "-F", "-m", "0", "-L", "relevo-lab", temporary])
        temporary.rename(image)
    (directory / "volume").mkdir(exist_ok=True)
    run(["mount", "-o", "loop,noatime", image, directory / "volume"])
    shutil.rmtree(directory / "volume/lost+found", ignore_errors=True)
    model = tree / host.volume.lstrip("/")
    if model.is_dir():
        shutil.copystat(model, directory / "volume")
        os.chown(directory / "volume", model.stat().st_uid, model.stat().st_gid)


def unmount_disks(lab: Laboratory) -> None:
    for point in mounts_below(lab.state):
        run(["umount", point])
