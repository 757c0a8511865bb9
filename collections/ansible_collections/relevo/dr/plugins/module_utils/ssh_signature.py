# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Signatures that OpenSSH makes and checks (``ssh-keygen -Y``), so that anybody can check them with what is already installed."""

from __future__ import annotations

import subprocess


def verifies(text: str, signature_path: str, allowed_signers: str, principal: str, namespace: str) -> bool:
    """Whether a principal of that file of allowed signers made the detached signature over this very text, in that namespace."""
    done = subprocess.run(
        ["ssh-keygen", "-Y", "verify", "-q", "-f", allowed_signers, "-I", principal, "-n", namespace, "-s", signature_path],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        timeout=10,
    )
    return done.returncode == 0
