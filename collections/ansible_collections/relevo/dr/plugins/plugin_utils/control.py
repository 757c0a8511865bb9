# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What the action plugins of one run tell each other: files in the run's own directory, never Ansible variables.

``-e`` beats ``set_fact`` and ``register``; nothing that decides about a fence or a promotion may pass through them.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import time
from collections.abc import Iterable
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils.host_files import write_atomically


class ControlError(Exception):
    """The run's directory does not hold what must be there; the message is a sentence."""


class Aborted(Exception):
    """Another host's part failed, or did not end in time; the message says which."""


class ElsewhereFailed(Aborted):
    """Another host's part failed, and says why itself."""


class Control:
    """The directory ``control/`` of the run that this process belongs to."""

    def __init__(self, run_id: str, run_directory: str) -> None:
        self.run_id = run_id
        self._playbook_pid = os.getppid()
        self._directory = os.path.join(run_directory, "control")

    @classmethod
    def of_this_run(cls) -> Control:
        """From the environment that the recorder set. ControlError when no recorder did, or when its journal is not of this run."""
        run_id, run_directory = os.environ.get("RELEVO_RUN_ID", ""), os.environ.get("RELEVO_RUN_DIR", "")
        if not run_id or not run_directory:
            why = os.environ.get("RELEVO_UNRECORDED", "").rstrip(".")
            raise ControlError("no recorder has opened a record for this run%s" % (": %s" % why if why else ""))
        try:
            with open(os.path.join(run_directory, "journal.jsonl"), encoding="utf-8") as source:
                first = json.loads(source.readline())
        except (OSError, ValueError):
            raise ControlError("the journal in %s cannot be read" % run_directory) from None
        if first.get("event") != "opened" or first.get("run_id") != run_id:
            raise ControlError("the journal in %s is not of run %s" % (run_directory, run_id))
        if os.path.exists(os.path.join(run_directory, "record.json")):
            raise ControlError("run %s is over: its record is written" % run_id)
        return cls(run_id, run_directory)

    @property
    def directory(self) -> str:
        """Where the files are."""
        return self._directory

    def write(self, name: str, value: Any) -> None:
        """Keep a value under a name such as ``handover/proof.a-db1``; whole or not at all. A run does not outlive a crash of its controller."""
        write_atomically(self._path(name), json.dumps(value), durable=False)

    def claim(self, name: str, value: Any) -> Any:
        """Keep a value where there is none, and return the one that stands: of several that come at once, one wins."""
        path = self._path(name)
        aside = "%s/claim-%s" % (os.path.dirname(name), secrets.token_hex(8))
        self.write(aside, value)
        with contextlib.suppress(FileExistsError):
            os.link(self._path(aside), path)
        os.unlink(self._path(aside))
        return self.read(name)

    def read(self, name: str) -> Any:
        """A value that was kept. ControlError when it was not."""
        try:
            with open(self._path(name), encoding="utf-8") as source:
                return json.load(source)
        except (OSError, ValueError):
            raise ControlError("this run has no %s: an earlier step of the runbook did not run" % name) from None

    def read_all(self, kind: str) -> dict[str, dict[str, Any]]:
        """Every ``<kind>/<host>`` by host."""
        found = {}
        with contextlib.suppress(FileNotFoundError):
            for name in sorted(os.listdir(self._path(kind)[: -len(".json")])):
                if name.endswith(".json"):
                    found[name[: -len(".json")]] = self.read("%s/%s" % (kind, name[: -len(".json")]))
        return found

    def exists(self, name: str) -> bool:
        """Whether a value was kept."""
        return os.path.exists(self._path(name))

    def check_alive(self) -> None:
        """Aborted when ansible-playbook is gone: a task's worker outlives it, and must not go on with a run that nobody leads."""
        if os.getppid() != self._playbook_pid:
            raise Aborted("ansible-playbook of run %s is gone" % self.run_id)

    def wait(self, names: Iterable[str], seconds: float, *, regardless: bool = False) -> list[Any]:
        """Wait until every name is kept. Aborted when a part failed meanwhile (unless regardless of that) or the time is over."""
        wanted = list(names)
        deadline = time.monotonic() + seconds
        while True:
            missing = [name for name in wanted if not self.exists(name)]
            if not missing:
                return [self.read(name) for name in wanted]
            self.check_alive()
            failed = None if regardless else self.failed()
            if failed:
                raise ElsewhereFailed("not gone on with: %s" % failed)
            if time.monotonic() > deadline:
                raise Aborted("%s did not come within %g s" % (", ".join(missing), seconds))
            time.sleep(0.003)

    def failed(self) -> Optional[str]:
        """Whose part of the hand-over failed, without those who only did not go on for it; None when all is well."""
        said = self.read_all("handover/failed")
        first = [host for host, value in said.items() if not value.get("elsewhere")]
        return "the part of %s failed" % ", ".join(first or said) if said else None

    def came(self, names: Iterable[str], seconds: float) -> bool:
        """Whether every name is kept within that time, where nothing depends on it but speed."""
        wanted = list(names)
        deadline = time.monotonic() + seconds
        while not all(self.exists(name) for name in wanted):
            if time.monotonic() > deadline:
                return False
            time.sleep(0.003)
        return True

    def _path(self, name: str) -> str:
        return os.path.join(self._directory, name + ".json")
