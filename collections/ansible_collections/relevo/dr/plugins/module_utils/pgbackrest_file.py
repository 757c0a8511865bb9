# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The configuration file of pgBackRest: what it should say, what it says, and what of another's file is kept."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ansible_collections.relevo.dr.plugins.module_utils.change import HIDDEN, Change

HEADER = "# Managed by Relevo: changes are lost, but for options below an [adopted] comment and sections of other stanzas."
ADOPTED = "# adopted: options of the file that was here before"

# A different value means a different repository: backups would silently go elsewhere.
IDENTITY = ("type", "path", "s3-bucket", "s3-endpoint", "host")
_SECRET_OPTIONS = ("cipher-pass", "s3-key", "s3-key-secret", "azure-key", "gcs-key")
BLOCK_SINCE = (2, 46)

Options = dict[str, list[str]]
Sections = dict[str, Options]


@dataclass(frozen=True)
class FilePlan:
    """conflict: why the file that is there must not be replaced, or empty."""

    text: str
    changes: list[Change]
    conflict: str = ""


def repository_options(repository: Mapping[str, Any], secrets: Mapping[str, str], version: Sequence[int]) -> dict[str, str]:
    """The options of one repository, an element of dr_pgbackrest_repositories; its keys that end in ``_secret`` name secrets."""
    number, kind = int(repository["id"]), repository.get("type", "s3")
    options = {"type": kind, "path": repository.get("path", "/")}
    if kind == "s3":
        options.update(
            {
                "s3-bucket": repository["bucket"],
                "s3-endpoint": repository["endpoint"],
                "s3-region": repository.get("region", "us-east-1"),
                "s3-uri-style": repository.get("uri_style", "path"),
                "s3-key": secrets[repository["key_id_secret"]],
                "s3-key-secret": secrets[repository["key_secret"]],
                "storage-port": str(repository.get("port", 443)),
                "storage-verify-tls": "y",
            }
        )
        if repository.get("ca_file"):
            options["storage-ca-file"] = repository["ca_file"]
    options["cipher-type"] = repository.get("cipher", "aes-256-cbc")
    if options["cipher-type"] != "none":
        options["cipher-pass"] = secrets[passphrase_name(repository)]
    # Days, not a number of backups: seven full ones are a working day where one is taken each hour.
    options["retention-full-type"] = repository.get("retention_full_type", "time")
    options["retention-full"] = str(repository.get("retention_full", 7))
    options["bundle"] = "y"
    if tuple(version) >= BLOCK_SINCE:
        options["block"] = "y"
    options.update({name: str(value) for name, value in (repository.get("options") or {}).items()})
    return {"repo%d-%s" % (number, name): value for name, value in options.items()}


def passphrase_name(repository: Mapping[str, Any]) -> str:
    """The secret that encrypts a repository."""
    return str(repository.get("passphrase_secret") or "pgbackrest_repo%s_passphrase" % repository["id"])


def secret_names(repositories: Sequence[Mapping[str, Any]]) -> list[str]:
    """Every secret that the repositories name."""
    names = []
    for repository in repositories:
        names += [repository[key] for key in ("key_id_secret", "key_secret") if repository.get(key)]
        if repository.get("cipher", "aes-256-cbc") != "none":
            names.append(passphrase_name(repository))
    return names


def read_only(repositories: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The repositories for a host that only restores: by the key that only reads, where there is one."""
    return [
        {
            **repository,
            **{key: repository["read_" + key] for key in ("key_id_secret", "key_secret") if repository.get("read_" + key)},
        }
        for repository in repositories
    ]


def parse(text: str) -> tuple[Sections, Sections]:
    """All options by section, and those of them that an earlier run adopted. An option may be given more than once."""
    sections: Sections = {}
    adopted: Sections = {}
    section, keeping = "", False
    for line in text.splitlines():
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            section, keeping = stripped[1:-1], False
            sections.setdefault(section, {})
        elif stripped == ADOPTED:
            keeping = True
        elif stripped and not stripped.startswith("#") and "=" in stripped:
            name, value = (part.strip() for part in stripped.split("=", 1))
            sections.setdefault(section, {}).setdefault(name, []).append(value)
            if keeping:
                adopted.setdefault(section, {}).setdefault(name, []).append(value)
    return sections, adopted


def other_hosts(text: str, stanza: str) -> list[str]:
    """Hosts of PostgreSQL beside the own one that a file names for a stanza: somebody set up a way to them."""
    sections = [options for section, options in parse(text)[0].items() if section.split(":")[0] == stanza]
    return [value for options in sections for name, values in options.items() if is_other_host(name) for value in values]


def is_other_host(option: str) -> bool:
    """Whether an option names a host of PostgreSQL beside the own one."""
    return re.fullmatch(r"pg(?!1-)\d+-host", option) is not None


def plan(current: str, wanted: Mapping[str, Mapping[str, str]], item: str) -> FilePlan:
    """From the file as it is (empty: none) to one that says what is wanted.

    What another made is adopted: his other options and other stanzas are kept. His repository is never swapped for ours.
    """
    sections, kept = parse(current)
    ours_already = current.startswith(HEADER)
    keep: Sections = {}
    for section, options in sections.items():
        if section not in wanted:
            keep[section] = options
            continue
        source = kept.get(section, {}) if ours_already else options
        keep[section] = {name: values for name, values in source.items() if name not in wanted[section]}
    return FilePlan(
        text=_render(wanted, keep),
        changes=_changes(sections, wanted, keep, item, bool(current)),
        conflict="" if ours_already else _conflict(sections, wanted),
    )


def _render(wanted: Mapping[str, Mapping[str, str]], keep: Sections) -> str:
    lines = [HEADER]
    for section in [*wanted, *(name for name in keep if name not in wanted)]:
        lines += ["", "[%s]" % section]
        lines += ["%s=%s" % option for option in wanted.get(section, {}).items()]
        others = ["%s=%s" % (name, value) for name, values in keep.get(section, {}).items() for value in values]
        if others and section in wanted:
            lines.append(ADOPTED)
        lines += others
    return "\n".join(lines) + "\n"


def _changes(sections: Sections, wanted: Mapping[str, Mapping[str, str]], keep: Sections, item: str, exists: bool) -> list[Change]:
    if not exists:
        return [Change(item, "absent", "stanza and repositories of the inventory")]
    changes = []
    for section, options in wanted.items():
        present = sections.get(section, {})
        for name, value in options.items():
            if present.get(name) != [value]:
                changes.append(Change("%s [%s] %s" % (item, section, name), _shown(name, present.get(name)), _shown(name, [value])))
        changes.extend(
            Change("%s [%s] %s" % (item, section, name), _shown(name, present[name]), "not set")
            for name in present
            if name not in options and name not in keep.get(section, {})
        )
    return changes


def _conflict(sections: Sections, wanted: Mapping[str, Mapping[str, str]]) -> str:
    present = sections.get("global", {})
    for name, value in wanted.get("global", {}).items():
        number, _, option = name.partition("-")
        if number.startswith("repo") and option in IDENTITY and name in present and present[name] != [value]:
            return "%s=%s, not %s" % (name, ",".join(present[name]), value)
    return ""


def _shown(name: str, values: Any) -> str:
    if values is None:
        return "not set"
    if any(name.endswith(secret) for secret in _SECRET_OPTIONS):
        return HIDDEN
    return ", ".join(values)
