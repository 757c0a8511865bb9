# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Parameters of PostgreSQL that a role manages in one file of its own, and what has to happen so that they hold."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Optional

from ansible_collections.relevo.dr.plugins.module_utils.change import Change

_LINE = re.compile(r"\s*([A-Za-z_][\w.]*)\s*(?:=\s*|\s)(?:'((?:[^'\\]|''|\\.)*)'|([^\s#']+))\s*(?:#.*)?$")
_INCLUDE = re.compile(r"\s*include(_dir|_if_exists)?\s*=?\s*'([^']*)'", re.IGNORECASE)
_NUMBER = re.compile(r"\s*(-?\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_BYTES = {"": 1, "B": 1, "kB": 1024, "MB": 1024**2, "GB": 1024**3, "TB": 1024**4}
_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass(frozen=True)
class Setting:
    """How one parameter should be.

    rule ``exact``: the value; what another file already says so is left to it. ``minimum``: a number that may be larger. ``adopt``: what is there stays when it matches one of accepts,
    becomes the value when it matches one of replaces, and is refused otherwise (it is somebody else's work).
    """

    name: str
    value: str
    rule: str = "exact"
    accepts: tuple[str, ...] = ()
    replaces: tuple[str, ...] = ()


@dataclass(frozen=True)
class Running:
    """A row of pg_settings."""

    setting: str
    vartype: str = "string"
    unit: Optional[str] = None
    context: str = "sighup"


@dataclass(frozen=True)
class Configured:
    """What the configuration files say, as the server reads them (a row of pg_file_settings)."""

    value: str
    path: str


@dataclass(frozen=True)
class SettingsPlan:
    """lines: the whole content of our file. resets: ALTER SYSTEM entries that hide it. restart: parameters that hold only after a restart."""

    lines: dict[str, str]
    changes: list[Change]
    resets: tuple[str, ...] = ()
    restart: tuple[str, ...] = ()
    refusals: tuple[Change, ...] = ()


def parse(text: str) -> dict[str, str]:
    """The parameters of a configuration file; the last one of a name wins, as in PostgreSQL."""
    found = {}
    for line in text.splitlines():
        match = _LINE.match(line)
        if match and not line.lstrip().startswith("#"):
            quoted, bare = match.group(2), match.group(3)
            found[match.group(1).lower()] = bare if quoted is None else re.sub(r"\\(.)", r"\1", quoted.replace("''", "'"))
    return found


def render(header: str, lines: Mapping[str, str]) -> str:
    """A configuration file with every value quoted."""
    body = ["%s = '%s'" % (name, value.replace("\\", "\\\\").replace("'", "''")) for name, value in lines.items()]
    return "\n".join(["# %s" % header, *body]) + "\n"


def with_include(main: str, directory: str, name: str) -> str:
    """postgresql.conf so that it reads our file; unchanged when it includes it, or the whole directory, already."""
    for line in main.splitlines():
        match = _INCLUDE.match(line)
        if match and match.group(2).strip("/") in (directory, "%s/%s" % (directory, name)):
            return main
    return "%s\ninclude_if_exists = '%s/%s'\t# managed by Relevo\n" % (main.rstrip("\n"), directory, name)


def canonical(value: str, running: Running) -> str:
    """A value in the unit and spelling of pg_settings, so that ``15min`` equals ``900`` and ``on`` equals ``true``."""
    if running.vartype == "bool":
        return "on" if value.lower() in ("on", "true", "yes", "1") else "off"
    if running.vartype in ("integer", "real"):
        match = _NUMBER.fullmatch(value)
        if match and match.group(2):
            return _converted(float(match.group(1)), match.group(2), running.unit or "")
    if running.vartype == "enum":
        return value.lower()
    return value.strip() if running.vartype in ("integer", "real") else value


def _converted(number: float, unit: str, base: str) -> str:
    match = re.fullmatch(r"(\d*)(\w+)", base)
    if not match:
        return "%g" % number
    scale, name = float(match.group(1) or 1), match.group(2)
    for table in (_BYTES, _SECONDS):
        if unit in table and name in table:
            return "%d" % round(number * table[unit] / (table[name] * scale))
    return "%g%s" % (number, unit)


def plan(
    wanted: Iterable[Setting],
    ours: Mapping[str, str],
    our_path: str,
    configured: Mapping[str, Configured],
    running: Mapping[str, Running],
) -> SettingsPlan:
    """What to write, to reset and to restart.

    ours: our file as it is. configured: the winning entry of every name over all files, empty while there is no server. running: pg_settings, empty likewise.
    """
    lines: dict[str, str] = {}
    changes: list[Change] = []
    resets, restart, refusals = [], [], []
    for setting in wanted:
        row = running.get(setting.name)
        line, refusal = _line(setting, ours.get(setting.name), configured.get(setting.name), our_path, row)
        if refusal:
            refusals.append(refusal)
            continue
        item = "parameter %s" % setting.name
        before = len(changes)
        if line is not None:
            lines[setting.name] = line
            if ours.get(setting.name) != line:
                changes.append(Change(item, _shown(row.setting if row else ours.get(setting.name)), _shown(line)))
            entry = configured.get(setting.name)
            if row and entry and entry.path.endswith("/postgresql.auto.conf") and canonical(entry.value, row) != canonical(line, row):
                # ALTER SYSTEM is read after every file; left in place it would make ours a lie.
                resets.append(setting.name)
                if len(changes) == before:
                    changes.append(Change(item, "%s by ALTER SYSTEM" % _shown(entry.value), _shown(line)))
        if row is None:
            continue
        final = line if line is not None else configured[setting.name].value if setting.name in configured else row.setting
        if canonical(final, row) != row.setting:
            if row.context == "postmaster":
                restart.append(setting.name)
            if len(changes) == before:
                changes.append(Change(item, _shown(row.setting), "%s, as configured" % _shown(final)))
    for name in ours:
        if name not in lines and name not in {refusal.item.split()[-1] for refusal in refusals}:
            changes.append(Change("parameter %s" % name, "%s in %s" % (_shown(ours[name]), our_path), "not in this file"))
    return SettingsPlan(lines, changes, tuple(resets), tuple(restart), tuple(refusals))


def _line(
    setting: Setting, ours: Optional[str], configured: Optional[Configured], our_path: str, row: Optional[Running]
) -> tuple[Optional[str], Optional[Change]]:
    """The line that our file needs (None: what other files say is good), or why the present value must not be touched."""
    if setting.rule == "minimum":
        return _minimum(setting, ours, configured, our_path, row), None
    if ours is not None or row is None:
        return setting.value, None
    present = configured.value if configured else row.setting
    if canonical(present, row) == canonical(setting.value, row):
        return None, None
    if setting.rule == "exact":
        return setting.value, None
    if any(re.fullmatch(pattern, present, re.DOTALL) for pattern in setting.accepts):
        return None, None
    if any(re.fullmatch(pattern, present, re.DOTALL) for pattern in setting.replaces):
        return setting.value, None
    return None, Change("parameter %s" % setting.name, _shown(present), _shown(setting.value))


def _minimum(setting: Setting, ours: Optional[str], configured: Optional[Configured], our_path: str, row: Optional[Running]) -> Optional[str]:
    if row is None:
        return str(max(int(setting.value), int(ours or 0)))
    wanted = int(canonical(setting.value, row))
    if ours is not None:
        return str(max(wanted, int(canonical(ours, row))))
    elsewhere = configured.value if configured and configured.path != our_path else row.setting
    return None if int(canonical(elsewhere, row)) >= wanted else str(wanted)


def _shown(value: Optional[str]) -> str:
    if value is None:
        return "not set"
    return value if value else "''"
