"""What the inventory says of itself, asked from ansible-inventory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from relevo.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TIMEOUT_SECONDS = 120
_EXAMPLE = "example"  # what a user copies; nobody's cluster


def absolute(sources: Sequence[str]) -> tuple[str, ...]:
    """Inventory sources that do not depend on the working directory. UsageError for a file that is not there."""
    found = []
    for source in sources:
        path = Path(source).expanduser()
        if path.exists():
            found.append(str(path.absolute()))
        elif "," in source:
            found.append(source)
        else:
            message = f"The inventory {source} does not exist."
            raise UsageError(message)
    return tuple(found)


def clusters(project: Path, sources: Sequence[str]) -> tuple[str, ...]:
    """The values of dr_cluster over all hosts, sorted. UsageError when the inventory cannot be read."""
    hosts = variables(project, sources).values()
    return tuple(sorted({str(said["dr_cluster"]) for said in hosts if said.get("dr_cluster")}))


def variables(project: Path, sources: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the inventory says of each host; templates are not rendered. UsageError when it cannot be read."""
    text = ask(project, "ansible-inventory", ["--list"], sources)
    try:
        tree: dict[str, Any] = json.loads(text)
    except ValueError as error:
        message = f"The inventory cannot be read: {error}."
        raise UsageError(message) from error
    found: dict[str, dict[str, Any]] = tree.get("_meta", {}).get("hostvars", {})
    return found


def ask(
    project: Path, program: str, words: Sequence[str], sources: Sequence[str], settings: Mapping[str, str] | None = None
) -> str:
    """What a program of Ansible prints of an inventory, with the project's settings and these. UsageError with the reason when it ends with an error.

    Nothing of its output is in that reason: hosts may have said a secret there.
    """
    command = [str(Path(sys.executable).with_name(program)), *words, *(word for source in sources for word in ("-i", source))]
    environment = {**os.environ, "ANSIBLE_CONFIG": str(project / "ansible.cfg"), **(settings or {})}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_SECONDS,
            check=True,
            cwd=project,
            env=environment,
            stdin=subprocess.DEVNULL,
        )
    except subprocess.CalledProcessError as error:
        said = [line for line in (error.stderr or "").splitlines() if line.strip()]
        message = (
            f"The inventory cannot be read: {said[-1] if said else 'a variable cannot be rendered; relevo run check says which'}."
        )
        raise UsageError(message) from error
    except (OSError, subprocess.TimeoutExpired) as error:
        message = f"The inventory cannot be read: {error}."
        raise UsageError(message) from error
    return done.stdout


def of_cluster(project: Path, sources: Sequence[str], cluster: str) -> tuple[str, ...]:
    """The inventory that describes a cluster: the one given, else the one below inventories/. UsageError when none does."""
    own = [(str(path),) for path in sorted((project / "inventories").glob("*/")) if path.name != _EXAMPLE]
    candidates = [tuple(sources)] if sources else own
    readable = {candidate: _clusters_or_none(project, candidate) for candidate in candidates}
    fitting = [candidate for candidate, names in readable.items() if cluster in names]
    if len(fitting) == 1:
        return fitting[0]
    seen = ", ".join(sorted({name for names in readable.values() for name in names})) or "none"
    message = f"{'Several inventories describe' if fitting else 'No inventory describes'} the cluster {cluster!r}: give one with -i. Clusters seen: {seen}."
    raise UsageError(message)


def _clusters_or_none(project: Path, sources: Sequence[str]) -> tuple[str, ...]:
    try:
        return clusters(project, sources)
    except UsageError:
        return ()
