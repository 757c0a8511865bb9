# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Keep the whole laboratory as it is, and bring it back in seconds: every host's disks, as a power cut leaves them."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ansible_collections.relevo.lab.plugins.module_utils import container, network
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Host, Laboratory, LaboratoryError, run

DISKS = ("upper", "volume.img")


def directory_of(lab: Laboratory, name: str) -> Path:
    if not name.replace("-", "").isalnum():
        raise LaboratoryError(f"{name!r} is not a name for a snapshot. Use letters, digits and hyphens.")
    return lab.state / "snapshots" / name


def save(lab: Laboratory, name: str) -> str:
    """All hosts lose power at once, their disks are copied, and they are started again."""
    target = directory_of(lab, name)
    shutil.rmtree(target, ignore_errors=True)
    halt(lab)
    for host in lab.hosts():
        (target / host.name).mkdir(parents=True)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: copy_disks(lab.directory(host), target / host.name), lab.hosts()))
    start(lab)
    return f"the laboratory is kept as {name}"


def restore(lab: Laboratory, name: str) -> str:
    source = directory_of(lab, name)
    if not source.is_dir():
        known = ", ".join(sorted(path.name for path in source.parent.glob("*"))) or "none"
        raise LaboratoryError(f"There is no snapshot {name}. Kept are: {known}.")
    halt(lab)
    network.heal_all(lab)
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda host: bring_back(lab, host, source / host.name), lab.hosts()))
    start(lab)
    return f"the laboratory is as it was when {name} was kept"


def halt(lab: Laboratory) -> None:
    for host in lab.hosts():
        container.kill_group(container.group(lab, host))
    for host in lab.hosts():
        for point in container.mounts_below(lab.directory(host)):
            run(["umount", point])
    for host in lab.hosts():
        wait_until_whole(lab.directory(host) / "volume.img")


def wait_until_whole(image: Path) -> None:
    """A dead host's own view of its volume goes away a moment later, and only then is all of it on the image."""
    if not container.wait_for(lambda: not run(["losetup", "--associated", image]).strip(), container.DEATH_SECONDS):
        raise LaboratoryError(
            f"{image} is still in use {container.DEATH_SECONDS} s after its host's death. Look at 'losetup --associated {image}'."
        )


def start(lab: Laboratory) -> None:
    tree = Path(lab.read()["tree"])
    for host in lab.hosts():
        container.mount_disks(lab, host, tree)
        container.power_on(lab, host)
    for host in lab.hosts():
        container.wait_until_reachable(lab, host)


def bring_back(lab: Laboratory, host: Host, source: Path) -> None:
    directory = lab.directory(host)
    # The work directory belongs to the old upper one.
    for name in (*DISKS, "work"):
        path = directory / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    copy_disks(source, directory)


def copy_disks(source: Path, target: Path) -> None:
    for name in DISKS:
        if (source / name).exists():
            run(["cp", "-a", "--sparse=always", source / name, target / name], timeout=300)
