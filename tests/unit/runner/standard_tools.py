"""What somebody without any of our software finds."""

from __future__ import annotations

import subprocess
import tempfile
from datetime import UTC, datetime
from pathlib import Path


def holds_by_ssh_keygen(allowed_signers: Path, data: bytes, signed: str, when: datetime) -> bool:
    """Whether `ssh-keygen -Y verify` takes a signature as of a time."""
    moment = f"-Overify-time={when.astimezone(UTC):%Y%m%d%H%M%SZ}"
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "sig"
        path.write_text(signed, encoding="utf-8", newline="")
        command = [
            "ssh-keygen",
            "-Y",
            "verify",
            moment,
            "-f",
            allowed_signers,
            "-I",
            "relevo-controller",
            "-n",
            "dr-test",
            "-s",
            path,
        ]
        return subprocess.run(command, input=data, capture_output=True, check=False).returncode == 0
