"""Where things are: the controller's state, the store and the project. Never relative to the working directory."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from relevo.errors import RelevoError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class Place:
    """This controller's state directory and the URL of its store of results."""

    state: Path
    store_url: str

    @property
    def runs(self) -> Path:
        """One directory per run."""
        return self.state / "runs"

    @property
    def keys(self) -> Path:
        """This controller's signing key and the keys it believes."""
        return self.state / "keys"

    def run_directory(self, run_id: str) -> Path:
        """The directory of one run."""
        return self.runs / run_id


def find_place(environment: Mapping[str, str]) -> Place:
    """The place that RELEVO_STORE (a directory or a database URL) or, without it, the XDG rules name."""
    store = environment.get("RELEVO_STORE", "")
    if "://" in store:
        return Place(_default_state(environment), store)
    state = Path(store).expanduser().absolute() if store else _default_state(environment)
    return Place(state, f"sqlite:///{state / 'relevo.db'}")


def _default_state(environment: Mapping[str, str]) -> Path:
    if environment.get("XDG_STATE_HOME"):
        return Path(environment["XDG_STATE_HOME"]) / "relevo"
    if os.geteuid() == 0:
        return Path("/var/lib/relevo-controller")
    return Path("~/.local/state/relevo").expanduser()


def make_private_directory(path: Path) -> Path:
    """Make a directory that only its owner can enter. RelevoError with the reason when that is impossible."""
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        message = f"The directory {path} cannot be made: {error.strerror}. Give another one with RELEVO_STORE."
        raise RelevoError(message) from error
    return path


def find_project(start: Path, environment: Mapping[str, str]) -> Path:
    """The checkout that holds playbooks/: RELEVO_PROJECT, else upward from `start`, else the one this package lies in."""
    named = environment.get("RELEVO_PROJECT")
    if named:
        if _is_project(Path(named)):
            return Path(named).absolute()
        message = f"RELEVO_PROJECT is {named}, but there is no playbooks/ directory with an ansible.cfg beside it."
        raise UsageError(message)
    for candidate in (start.absolute(), *start.absolute().parents, Path(__file__).absolute().parents[2]):
        if _is_project(candidate):
            return candidate
    message = f"No Relevo project found from {start} upward. Go to the checkout, or set RELEVO_PROJECT to it."
    raise UsageError(message)


def _is_project(path: Path) -> bool:
    return (path / "playbooks").is_dir() and (path / "ansible.cfg").is_file()


def find_playbook(project: Path, runbook: str) -> Path:
    """The file playbooks/<runbook>.yml. UsageError that lists what there is."""
    path = project / "playbooks" / f"{runbook}.yml"
    if path.is_file() and path.parent == project / "playbooks":
        return path
    known = ", ".join(sorted(found.stem for found in (project / "playbooks").glob("*.yml"))) or "none"
    message = f"There is no runbook {runbook!r} in {project}. Runbooks: {known}."
    raise UsageError(message)
