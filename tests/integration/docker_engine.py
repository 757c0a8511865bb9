"""A Docker engine of a test's own: Debian's, below one directory, in a mount namespace of its own, without a bridge or a rule in anybody's firewall."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from .debian import installed

# Its own /run, where it puts what others would find.
_ENGINE = """
mount -t tmpfs tmpfs /run
exec dockerd --data-root {0}/data --exec-root {0}/exec --pidfile {0}/pid --host unix://{0}/docker.sock --storage-driver vfs \
  --cgroup-parent {1} --bridge none --iptables=false --ip-forward=false --ip-masq=false
"""
# Programs come from this machine; the image holds only where they are looked for.
IMAGE = "relevo-shop:1"
_LINKS = {"bin": "usr/bin", "sbin": "usr/sbin", "lib": "usr/lib", "lib64": "usr/lib64"}
_DIRECTORIES = ("usr", "etc", "tmp", "proc", "sys", "dev", "app")


@dataclass(frozen=True)
class Engine:
    directory: Path

    @property
    def host(self) -> str:
        return f"unix://{self.directory}/docker.sock"

    def docker(self, *words: str, data: bytes | None = None) -> str:
        command = ["docker", "--host", self.host, *words]
        return subprocess.run(command, input=data, check=True, capture_output=True, timeout=120).stdout.decode()


@contextmanager
def running() -> Iterator[Engine]:
    """Started, with one image, and gone without a trace afterwards."""
    installed("docker.io", "docker-compose", "iptables")
    engine = Engine(Path(tempfile.mkdtemp(prefix="relevo-docker-")))
    with (engine.directory / "log").open("w") as log:
        words = [
            "unshare",
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-ec",
            _ENGINE.format(engine.directory, engine.directory.name),
        ]
        process = subprocess.Popen(words, stdout=log, stderr=log)
        try:
            _wait(engine, process)
            engine.docker("import", "-", IMAGE, data=_image())
            yield engine
            for container in engine.docker("ps", "--all", "--quiet").split():
                engine.docker("rm", "--force", container)
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            finally:
                shutil.rmtree(engine.directory, ignore_errors=True)
                for group in Path("/sys/fs/cgroup").glob(f"**/{engine.directory.name}"):
                    group.rmdir()


def _wait(engine: Engine, process: subprocess.Popen[bytes]) -> None:
    for _ in range(300):
        assert process.poll() is None, (engine.directory / "log").read_text()[-2000:]
        if os.path.exists(engine.directory / "docker.sock") and not subprocess.call(
            ["docker", "--host", engine.host, "info"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        ):
            return
        time.sleep(0.2)
    raise AssertionError((engine.directory / "log").read_text()[-2000:])


def _image() -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name in _DIRECTORIES:
            entry = tarfile.TarInfo(name)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o755
            tar.addfile(entry)
        for name, goal in _LINKS.items():
            entry = tarfile.TarInfo(name)
            entry.type, entry.linkname = tarfile.SYMTYPE, goal
            tar.addfile(entry)
    return content.getvalue()
