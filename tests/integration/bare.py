"""A bare host: a minimal Debian with python3 and an ssh client and nothing else, without any network or in that of the controller."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ansible_collections.relevo.lab.plugins.module_utils import root_tree

CACHE = Path("/var/cache/relevo-lab/bare")
PACKAGES = ("python3", "openssh-client", "iproute2")
# Its processes end with the command, its mounts too; what it wrote stays in its upper directory.
_ENTER = """
set -e
mount -t overlay overlay -o "lowerdir=$TREE,upperdir=$TOP/upper,workdir=$TOP/work" "$TOP/root"
mount -t proc proc "$TOP/root/proc"
mkdir -p "$TOP/root/dev/shm" "$TOP/root/dev/pts" "$TOP/root/given"
mount -t tmpfs tmpfs "$TOP/root/dev/shm"
mount -t devpts -o newinstance,ptmxmode=0666 devpts "$TOP/root/dev/pts"
ln -sf pts/ptmx "$TOP/root/dev/ptmx"
mount --bind "$TOP/given" "$TOP/root/given"
echo "$NAME" > /proc/sys/kernel/hostname
exec env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 chroot "$TOP/root" sh -c "$SCRIPT"
"""


def tree(release: str) -> Path:
    """The packages of a bare host, kept for the next test."""
    target = CACHE / release
    if not target.exists():
        unfinished = target.with_name(f"building-{release}")
        if unfinished.exists():
            root_tree.remove_tree(unfinished)
        target.parent.mkdir(parents=True, exist_ok=True)
        argv = [
            "mmdebstrap",
            "--quiet",
            "--variant=minbase",
            "--mode=root",
            "--format=directory",
            f"--include={','.join(PACKAGES)}",
        ]
        sources = root_tree.mirrors(release)
        argv += [release, str(unfinished), *(["-"] if sources else [])]
        subprocess.run(argv, input="\n".join(sources) + "\n", text=True, check=True, timeout=1200, capture_output=True)
        unfinished.rename(target)
    return target


@dataclass(frozen=True)
class BareHost:
    """top: what this host has written; what lies in top/given it sees as /given. connected: in the network of this process, else in none."""

    name: str
    tree: Path
    top: Path
    connected: bool = False

    def ready(self) -> BareHost:
        for name in ("upper", "work", "root", "given"):
            (self.top / name).mkdir(parents=True, exist_ok=True)
        return self

    def path(self, inside: str) -> Path:
        """Where a file lies that this host wrote, or is to find."""
        return self.top / "upper" / inside.lstrip("/")

    def start(self, script: str) -> subprocess.Popen[str]:
        apart = [] if self.connected else ["--net"]
        # With `private` the laboratory's volumes would stay mounted here after it let go of them.
        words = [
            "unshare",
            "--mount",
            "--propagation",
            "slave",
            "--uts",
            "--pid",
            "--fork",
            "--kill-child",
            *apart,
            "bash",
            "-c",
            _ENTER,
        ]
        environment = {
            "PATH": os.environ["PATH"],
            "TREE": str(self.tree),
            "TOP": str(self.top),
            "NAME": self.name,
            "SCRIPT": script,
        }
        return subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=environment
        )

    def run(self, script: str, *, code: int = 0, seconds: float = 900) -> str:
        process = self.start(script)
        output, _ = process.communicate(timeout=seconds)
        assert process.returncode == code, f"{self.name}: {script}: {process.returncode}\n{output[-4000:]}"
        return output
