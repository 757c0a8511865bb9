# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Work in a process of its own, beside a worker that must not wait for it: a connection to a host that has just died answers nobody."""

from __future__ import annotations

import json
import os
import select
import signal
from collections.abc import Callable
from typing import Any, Optional

from ansible.errors import AnsibleError


class Aside:
    """A fork of this worker that makes one answer. It stays in the worker's process group and ends with it."""

    def __init__(self, work: Callable[[], dict[str, Any]]) -> None:
        self._reader: Optional[int]
        self._reader, writer = os.pipe()
        self._pid = os.fork()
        if self._pid:
            os.close(writer)
            return
        try:
            os.close(self._reader)
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, signal.SIG_DFL)
            try:
                answer = work()
            except AnsibleError as error:
                answer = {"failed": True, "msg": str(error)}
            with os.fdopen(writer, "w", encoding="utf-8") as target:
                json.dump(answer, target, default=str)
        finally:
            # Nothing of this process may go on as if it were the worker.
            os._exit(0)

    def came(self, seconds: float) -> bool:
        """Whether the answer is there, or its end, within that time."""
        return self._reader is None or bool(select.select([self._reader], [], [], seconds)[0])

    def ended(self) -> bool:
        """Whether the process is over."""
        return self._reader is None or os.waitid(os.P_PID, self._pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None

    def answer(self) -> Optional[dict[str, Any]]:
        """Waited for; None where the process ended without one. Once."""
        reader, self._reader = self._reader, None
        if reader is None:
            return None
        with os.fdopen(reader, encoding="utf-8") as source:
            text = source.read()
        os.waitpid(self._pid, 0)
        value: Optional[dict[str, Any]] = json.loads(text) if text else None
        return value

    def drop(self) -> None:
        """Nobody wants the answer any more."""
        if self._reader is not None:
            os.close(self._reader)
            self._reader = None
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
