"""`python -m relevo.leash COMMAND ...`: become a command that reads nothing and ends when the runner that started it dies.

ansible-runner starts playbooks on a terminal of their own and lets them ignore its loss: without this, a playbook would go
on changing hosts after its recorder was killed, and a forgotten prompt would wait for ever.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Exec the command line. Never returns; 127 when there is no such command."""
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    try:
        os.execvp(sys.argv[1], sys.argv[1:])  # noqa: S606 - becoming that command is the purpose
    except OSError as error:
        sys.stderr.write(f"{sys.argv[1]} cannot be started: {error.strerror}.\n")
        sys.exit(127)


if __name__ == "__main__":
    main()
