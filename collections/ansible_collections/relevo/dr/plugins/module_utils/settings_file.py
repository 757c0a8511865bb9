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

    rule ``exact``: the value. ``minimum``: a number that may be larger. ``adopt``: what is there stays when it matches one of accepts, becomes the
    value when it matches one of replaces, and is refused otherwise (it is somebody else's work). What another file already says well is left to it.
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
    source: str = "default"
    boot_val: Optional[str] = None


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


@dataclass(frozen=True)
class _Found:
    """One parameter as it is: in our file, over all files, in the running server."""

    ours: Optional[str]
    configured: Optional[Configured]
    running: Optional[Running]

    def present(self) -> str:
        """What holds after the next restart, whatever our file would add. Needs a running server."""
        assert self.running is not None
        if self.configured:
            return self.configured.value
        # Of a file that has no such entry any more: only the running server remembers it.
        forgotten = self.running.source == "configuration file"
        return (self.running.boot_val or "") if forgotten else self.running.setting

    def hidden_by_alter_system(self, line: str) -> bool:
        """ALTER SYSTEM is read after every file: another value there makes ours a lie."""
        entry, row = self.configured, self.running
        return bool(
            row and entry and entry.path.endswith("/postgresql.auto.conf") and canonical(entry.value, row) != canonical(line, row)
        )


def plan(
    wanted: Iterable[Setting],
    ours: Mapping[str, str],
    our_path: str,
    configured: Mapping[str, Configured],
    running: Mapping[str, Running],
) -> SettingsPlan:
    """What to write, to reset and to restart.

    ours: our file as it is. configured: the entry that wins over all files, by name. running: pg_settings. Both are empty while there is no server.
    """
    lines: dict[str, str] = {}
    changes: list[Change] = []
    resets: list[str] = []
    restart: list[str] = []
    refusals: list[Change] = []
    for setting in wanted:
        name = setting.name
        found = _Found(ours.get(name), configured.get(name), running.get(name))
        line, refused = _line(setting, found, our_path)
        if refused:
            refusals.append(Change("parameter %s" % name, _shown(found.present()), _shown(setting.value)))
            continue
        if line is not None:
            lines[name] = line
            if found.hidden_by_alter_system(line):
                resets.append(name)
        changes += _differences(name, line, found)
        if found.running and found.running.context == "postmaster" and _not_yet(line, found):
            restart.append(name)
    kept = {*lines, *(refusal.item.split()[-1] for refusal in refusals)}
    changes += [
        Change("parameter %s" % name, "%s in %s" % (_shown(ours[name]), our_path), "not in this file")
        for name in ours
        if name not in kept
    ]
    return SettingsPlan(lines, changes, tuple(resets), tuple(restart), tuple(refusals))


def _line(setting: Setting, found: _Found, our_path: str) -> tuple[Optional[str], bool]:
    """The line that our file needs (None: what other files say is good), and whether the present value must not be touched."""
    if setting.rule == "minimum":
        return _minimum(setting, found, our_path), False
    if found.ours is not None or found.running is None:
        return setting.value, False
    present = found.present()
    if canonical(present, found.running) == canonical(setting.value, found.running) or _matches(present, setting.accepts):
        return None, False
    if setting.rule == "exact" or _matches(present, setting.replaces):
        return setting.value, False
    return None, True


def _minimum(setting: Setting, found: _Found, our_path: str) -> Optional[str]:
    row = found.running
    if row is None:
        return str(max(int(setting.value), int(found.ours or 0)))
    wanted = int(canonical(setting.value, row))
    if found.ours is not None:
        return str(max(wanted, int(canonical(found.ours, row))))
    elsewhere = found.configured.value if found.configured and found.configured.path != our_path else row.setting
    return None if int(canonical(elsewhere, row)) >= wanted else str(wanted)


def _differences(name: str, line: Optional[str], found: _Found) -> list[Change]:
    item = "parameter %s" % name
    if line is not None and found.ours != line:
        return [Change(item, _shown(found.running.setting if found.running else found.ours), _shown(line))]
    if line is not None and found.configured and found.hidden_by_alter_system(line):
        return [Change(item, "%s by ALTER SYSTEM" % _shown(found.configured.value), _shown(line))]
    if found.running and _not_yet(line, found):
        final = line if line is not None else found.present()
        return [Change(item, _shown(found.running.setting), "%s, as configured" % _shown(final))]
    return []


def _not_yet(line: Optional[str], found: _Found) -> bool:
    """Whether the running server uses another value than it will after a restart."""
    assert found.running is not None
    return canonical(line if line is not None else found.present(), found.running) != found.running.setting


def _matches(value: str, patterns: Iterable[str]) -> bool:
    return any(re.fullmatch(pattern, value, re.DOTALL) for pattern in patterns)


def _shown(value: Optional[str]) -> str:
    return "not set" if value is None else value or "''"
