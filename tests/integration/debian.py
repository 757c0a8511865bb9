"""Debian's packages that a test needs on this machine; installed once, and nothing of them is started."""

from __future__ import annotations

import contextlib
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

_POLICY = Path("/usr/sbin/policy-rc.d")


def installed(*packages: str) -> None:
    """There afterwards, or the test says what is missing."""
    if not subprocess.run(["dpkg-query", "-W", *packages], capture_output=True, check=False).returncode:
        return
    assert os.geteuid() == 0, f"this test needs packages: apt-get install {' '.join(packages)}"
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    with _nothing_starts():
        subprocess.run(["apt-get", "update", "-qq"], check=True, timeout=300, env=environment)
        words = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, timeout=900, env=environment)


@contextlib.contextmanager
def _nothing_starts() -> Iterator[None]:
    """What invoke-rc.d asks before it starts a new service; a machine's own answer stays."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
