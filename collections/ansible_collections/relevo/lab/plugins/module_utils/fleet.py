# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""All hosts together: made, started and whole, or gone without a trace."""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
from pathlib import Path

from ansible_collections.relevo.lab.plugins.module_utils import container, faults, host_files, network
from ansible_collections.relevo.lab.plugins.module_utils.laboratory import Host, Laboratory, LaboratoryError, run, write_file

READY = "ready"  # written when all first files of a host are


@dataclasses.dataclass(frozen=True)
class Fleet:
    """What a laboratory was asked to be."""

    release: str
    tree: Path
    hosts: list[Host]

    def description(self) -> dict[str, object]:
        return {"release": self.release, "tree": str(self.tree), "hosts": [dataclasses.asdict(host) for host in self.hosts]}


def refuse_other(lab: Laboratory, wanted: Fleet) -> None:
    """A laboratory that was made differently is not changed under its hosts' feet."""
    present, asked = lab.read(), wanted.description()
    differing = [key for key in asked if present and present.get(key) != asked[key]]
    if differing:
        raise LaboratoryError(
            f"The laboratory {lab.state} was made with another {differing[0]} ({present[differing[0]]}, now asked for: {asked[differing[0]]}). "
            "Run 'make lab-down' first, then repeat."
        )


def plan_presence(lab: Laboratory, wanted: Fleet) -> list[str]:
    """What is to be done, in words; the acts below look at the same conditions."""
    refuse_other(lab, wanted)
    plan = [] if lab.read() else ["description written"]
    for host in wanted.hosts:
        if not (lab.directory(host) / READY).exists():
            plan.append(f"{host.name} made")
        if not container.is_on(lab, host):
            plan.append(f"{host.name} started")
        elif container.is_orphan(lab, host):
            plan.append(f"{host.name} restarted")
        elif faults.frozen(lab, host):
            plan.append(f"{host.name} thawed")
        if faults.fill_files(lab, host):
            plan.append(f"{host.name} unfilled")
    if network.cuts(lab):
        plan.append("network healed")
    return plan


def make_present(lab: Laboratory, wanted: Fleet) -> None:
    for host in wanted.hosts:
        if not (lab.directory(host) / READY).exists():
            make_host(lab, wanted, host)
        elif not container.is_on(lab, host):
            container.mount_disks(lab, host, wanted.tree)
    write_file(lab.state / "release", f"{wanted.release}\n", 0o600)
    lab.write(wanted.description())
    network.heal_all(lab)
    for host in wanted.hosts:
        if container.is_orphan(lab, host):
            container.kill_group(container.group(lab, host))
        if not container.is_on(lab, host):
            container.power_on(lab, host)
        elif faults.frozen(lab, host):
            faults.thaw(lab, host.name)
        if faults.fill_files(lab, host):
            faults.unfill(lab, host.name)
    for host in wanted.hosts:
        container.wait_until_reachable(lab, host)
    refuse_foreign_filter(lab, wanted.hosts)


def make_host(lab: Laboratory, wanted: Fleet, host: Host) -> None:
    directory = lab.directory(host)
    container.kill_group(container.group(lab, host))
    for point in container.mounts_below(directory):
        run(["umount", point])
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    container.mount_disks(lab, host, wanted.tree)
    host_files.write_host_files(lab, host, wanted.hosts)
    (directory / READY).touch()


def refuse_foreign_filter(lab: Laboratory, hosts: list[Host]) -> None:
    """A packet filter of this machine (container engines bring one) may forbid forwarding between the sites."""
    first, *rest = [host for host in hosts if not host.confined]
    others = {host.site: host for host in rest if host.site != first.site}
    for other in others.values():
        if not faults.passes(lab, first, other.address):
            raise LaboratoryError(
                f"Nothing passes from {first.name} to {other.name}, though both are up and not cut. A packet filter of this machine drops forwarded packets: "
                f"look at 'nft list ruleset' and allow {first.bridge} to {other.bridge}."
            )


def plan_absence(lab: Laboratory) -> list[str]:
    plan = [f"process {pid} killed" for pid in container.processes_in(container.group(lab)) + container.stray_processes(lab)]
    plan += [f"{point} unmounted" for point in container.mounts_below(lab.state)]
    plan += [f"{path} removed" for path in (*(root / lab.name for root in container.group_roots()), lab.state) if path.exists()]
    return plan


def make_absent(lab: Laboratory) -> None:
    for control in (lab.state / "ssh/control").glob("*"):
        close_master(control)
    container.kill_group(container.group(lab))
    for pid in container.stray_processes(lab):
        os.kill(pid, signal.SIGKILL)
    container.wait_for(lambda: not container.stray_processes(lab), container.DEATH_SECONDS)
    container.remove_groups(lab)
    container.unmount_disks(lab)
    if lab.state.exists():
        shutil.rmtree(lab.state)


def close_master(control: Path) -> None:
    """Ansible's ssh connections outlive their playbook; one to a host that is gone would only wait."""
    try:
        run(["ssh", "-O", "exit", "-o", f"ControlPath={control}", "laboratory"], timeout=5)
    except LaboratoryError:
        control.unlink(missing_ok=True)
