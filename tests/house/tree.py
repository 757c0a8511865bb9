"""The checkout as the house rules read it: every file that git knows or would take."""

from __future__ import annotations

import functools
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
COLLECTION = ROOT / "collections/ansible_collections/relevo/dr"
PLAYBOOKS = sorted((ROOT / "playbooks").glob("*.yml"))
ROLES = sorted(path for path in (ROOT / "roles").iterdir() if path.is_dir())


@functools.cache
def files(*suffixes: str) -> tuple[Path, ...]:
    """All files of the project, or those with one of the suffixes."""
    command = ["git", "-C", str(ROOT), "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("\0")
    found = (ROOT / name for name in sorted(set(names)) if name)
    return tuple(path for path in found if path.is_file() and (not suffixes or path.suffix in suffixes))


def name(path: Path) -> str:
    """As a person would say it."""
    return str(path.relative_to(ROOT))


def text(path: Path) -> str:
    """The content; empty for what is not text."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return ""


class _Loader(yaml.SafeLoader):
    """YAML with Ansible's own tags, which the rules have no use for."""


_Loader.add_multi_constructor("!", lambda *_: None)


def load(path: Path) -> Any:
    """A YAML file, or {} for an empty one."""
    return yaml.load(text(path), _Loader) or {}  # noqa: S506 - a SafeLoader with one more constructor


def tasks(value: Any) -> Iterator[dict[str, Any]]:
    """Every task of a list of plays or tasks, in blocks too."""
    for entry in value if isinstance(value, list) else []:
        if not isinstance(entry, dict):
            continue
        parts = [
            entry[key] for key in ("pre_tasks", "tasks", "post_tasks", "handlers", "block", "rescue", "always") if key in entry
        ]
        if not parts:
            yield entry
        for part in parts:
            yield from tasks(part)


def task_files() -> tuple[Path, ...]:
    """Playbooks and the task files of playbooks and roles; test fixtures are not ours to keep tidy."""
    places = [*ROOT.glob("playbooks/**/*.yml"), *ROOT.glob("roles/*/tasks/**/*.yml"), *ROOT.glob("roles/*/handlers/*.yml")]
    return tuple(sorted(places))
