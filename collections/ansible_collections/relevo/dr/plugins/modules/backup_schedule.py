#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: backup_schedule
short_description: Backups at their times, as systemd timers
description:
  - Each entry becomes a timer and a service, on this host; the service does nothing while this host is not the primary, so every database host has them.
  - Judges the schedule before anything is changed, removes units of entries that are gone, and never schedules beside somebody else's backups.
  - With O(server), pgBackRest's server is a unit here too, so that whichever other host is primary copies this one's files while it is a standby.
options:
  schedule: {description: See the role dr_pgbackrest., type: list, elements: dict, required: true}
  repositories: {description: See the role dr_pgbackrest., type: list, elements: dict, required: true}
  stanza: {description: The stanza., type: str, required: true}
  config: {description: pgBackRest's configuration file., type: path, required: true}
  stanza_options: {description: Options of the stanza's section; in check mode the file may not have them yet., type: dict, default: {}}
  adopt:
    description:
      - What happens where cron or a timer backs this stanza up already. V(keep) leaves that alone and installs nothing of ours on this host;
        V(replace) switches it off and installs ours.
    type: str
    choices: [keep, replace]
    default: keep
  backup_from: {description: From where backups on demand are copied., type: str, choices: [primary, standby], default: primary}
  server:
    description: "pgBackRest's server (certificate, key, authority, address, port, clients, data_directory); none when empty."
    type: dict
    default: {}
  timeout: {description: Seconds that one backup may take., type: float, default: 86400}
  owner: {description: Operating system user of the cluster., type: str, default: postgres}
  host_name: {description: Name of this host in sentences., type: str, required: true}
attributes:
  check_mode: {support: full, description: Stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Back up every hour
  relevo.dr.backup_schedule:
    schedule:
      - {name: hourly-full, type: full, calendar: "*-*-* *:05:00", jitter_seconds: 120}
    repositories: "{{ dr_pgbackrest_repositories }}"
    stanza: minimarket
    config: /etc/pgbackrest/pgbackrest.conf
    host_name: "{{ inventory_hostname }}"
"""

RETURN = r"""
changes: {description: "What differed (item, current, wanted).", returned: always, type: list, elements: dict}
adopted: {description: Schedules of somebody else that were found., returned: always, type: list, elements: str}
"""

import glob
import os
import stat
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils import backup_schedule as rules
from ansible_collections.relevo.dr.plugins.module_utils import backup_server, pgbackrest_file
from ansible_collections.relevo.dr.plugins.module_utils.change import Change, shown
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import WantedFile, apply, observe
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import plan as plan_file
from ansible_collections.relevo.dr.plugins.module_utils.milestone import told
from ansible_collections.relevo.dr.plugins.module_utils.postgresql import owner_switch
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

CRONTABS = ("/etc/crontab", "/etc/cron.d/*", "/var/spool/cron/crontabs/*")
SCRIPTS = ("/etc/cron.hourly/*", "/etc/cron.daily/*", "/etc/cron.weekly/*", "/etc/cron.monthly/*")
LONGEST_SCRIPT = 1 << 16


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "schedule": {"type": "list", "elements": "dict", "required": True},
            "repositories": {"type": "list", "elements": "dict", "required": True},
            "stanza": {"type": "str", "required": True},
            "config": {"type": "path", "required": True},
            "stanza_options": {"type": "dict", "default": {}},
            "adopt": {"type": "str", "choices": ["keep", "replace"], "default": "keep"},
            "backup_from": {"type": "str", "choices": ["primary", "standby"], "default": "primary"},
            "server": {"type": "dict", "default": {}},
            "timeout": {"type": "float", "default": 86400},
            "owner": {"type": "str", "default": "postgres"},
            "host_name": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    try:
        manage(module)
    except Refusal as refusal:
        module.fail_json(msg=str(refusal), **told(gates=[refusal.gate], refused=True))
    except subprocess.TimeoutExpired as error:
        module.fail_json(msg="%s: %s had no result within %g s" % (module.params["host_name"], error.cmd[0], error.timeout))


def manage(module: AnsibleModule) -> None:
    p = module.params
    known = [int(repository["id"]) for repository in p["repositories"]]
    wanted = judged(p, rules.entries(p["schedule"], known, p["host_name"]))
    foreign = others(p["stanza"])
    keep = bool(foreign) and p["adopt"] == "keep"
    installed = [] if keep else wanted
    files = {name: text for entry in installed for name, text in rules.units(entry, p["owner"], p["timeout"]).items()}
    if p["server"]:
        files[backup_server.UNIT] = backup_server.unit(p["server"], p["stanza"], p["config"], p["owner"])
    there = os.listdir(rules.UNITS)
    stale = [name for name in [*rules.ours(there), *({backup_server.UNIT} & set(there))] if name not in files]
    differing, changes = compared(files)
    asleep = [name for name in files if stands_by_itself(name) and name not in differing and not awake(name)]
    changes += [Change("unit %s" % name, "not at work", "enabled and active") for name in asleep]
    changes += [Change("unit %s" % name, "of an entry that is gone", "absent") for name in stale]
    if p["adopt"] == "replace":
        changes += [
            Change("backup by %s %s" % (found.kind, found), "scheduled", "switched off: ours run instead") for found in foreign
        ]
    if not module.check_mode:
        if p["adopt"] == "replace":
            for found in foreign:
                switch_off(module, found)
        install(module, files, differing, stale, [name for name in [*differing, *asleep] if stands_by_itself(name)])
    gates = [] if module.check_mode else [gate(p["host_name"], installed, foreign if keep else [])]
    module.exit_json(changed=bool(changes), changes=shown(changes), adopted=[str(found) for found in foreign], **told(gates=gates))


def judged(p: Mapping[str, Any], entries: list[rules.Entry]) -> list[rules.Entry]:
    """Each calendar by systemd itself, and a way to the standby where one is asked for. Raises Refusal."""
    asking = ["entry %s has from: standby" % entry.name for entry in entries if entry.source == "standby"]
    asking += ["dr_backup_from is standby"] if p["backup_from"] == "standby" else []
    for entry in entries:
        # Nothing but systemd knows its own grammar.
        done = run(["systemd-analyze", "calendar", "--", entry.calendar])
        if done.returncode != 0:
            raise rules.calendar_refusal(p["host_name"], entry, " ".join((done.stderr or done.stdout).split())[:200])
    by_hand = pgbackrest_file.other_hosts(observe(p["config"]).content or "", p["stanza"])
    by_hand += [name for name in p["stanza_options"] if pgbackrest_file.is_other_host(name)]
    if asking and not (p["server"] or by_hand):
        raise rules.standby_refusal(p["host_name"], asking[0], p["config"])
    if p["server"]:
        named = [(name, p["server"][name]) for name in backup_server.FILES if p["server"].get(name)]
        unreadable = ["%s %s" % found for found in named if not may_read(p["owner"], found[1])]
        backup_server.judge(p["host_name"], p["server"], unreadable, p["owner"])
    return entries


def may_read(owner: str, path: str) -> bool:
    """Whether a user can read a file, asked as that user."""
    return subprocess.run(["/usr/bin/test", "-r", path], check=False, timeout=10, **owner_switch(owner)).returncode == 0


def others(stanza: str) -> list[rules.Foreign]:
    """What backs this stanza up already, by cron and by timers that are waiting."""
    found: list[rules.Foreign] = []
    for path in sorted(path for pattern in CRONTABS for path in glob.glob(pattern)):
        text = observe(path).content or ""
        found += rules.cron_lines(path, text, stanza, scripts(text.splitlines()))
    for path in sorted(path for pattern in SCRIPTS for path in glob.glob(pattern)):
        if os.access(path, os.X_OK):
            lines = [line for line in rules.commands(small(path)) if rules.backs_up(line, stanza)]
            found += [rules.Foreign("script", path, lines[0])] if lines else []
    listed = run(["systemctl", "list-units", "--type=timer", "--plain", "--no-legend", "--no-pager"]).stdout
    timers = [line.split()[0] for line in listed.splitlines() if line.strip()]
    timers = [name for name in timers if not rules.ours([name])]
    units = dict(zip(timers, shown_of(timers, "Unit")))
    for name, commands in rules.service_commands(
        run(["systemctl", "show", "--property=Id,ExecStart", "--", *units.values()]).stdout
    ).items():
        for command in commands:
            if rules.runs_backup(command, stanza, scripts([command])):
                found += [rules.Foreign("timer", timer, command) for timer, service in units.items() if service == name]
    return found


def shown_of(units: Sequence[str], name: str) -> list[str]:
    """One property of many units, in their order."""
    if not units:
        return []
    blocks = run(["systemctl", "show", "--property=%s" % name, "--", *units]).stdout.split("\n\n")
    return [block.strip().partition("=")[2] for block in blocks]


def scripts(lines: Sequence[str]) -> dict[str, str]:
    """The small files that command lines call."""
    return {path: small(path) for line in lines for path in rules.called_files(line) if os.path.isfile(path)}


def small(path: str) -> str:
    """A script's text; empty for a program."""
    try:
        with open(path, "rb") as source:
            content = source.read(LONGEST_SCRIPT)
    except OSError:
        return ""
    return "" if b"\0" in content else content.decode(errors="replace")


def compared(files: Mapping[str, str]) -> tuple[list[str], list[Change]]:
    """Units that differ from what they should be, and how."""
    differing, changes = [], []
    for name, text in files.items():
        path = os.path.join(rules.UNITS, name)
        found = plan_file(WantedFile(path, content=text), observe(path))
        differing += [name] if found else []
        changes += found
    return differing, changes


def stands_by_itself(name: str) -> bool:
    """Whether a unit is enabled and started; a service of a timer is neither."""
    return name.endswith(".timer") or name == backup_server.UNIT


def awake(unit: str) -> bool:
    """Whether a unit is loaded as it is on disk, at work (a timer: waits) now, and will be after the next boot."""
    state = shown_of([unit], "ActiveState") + shown_of([unit], "UnitFileState") + shown_of([unit], "NeedDaemonReload")
    return state == ["active", "enabled", "no"]


def install(module: AnsibleModule, files: Mapping[str, str], differing: list[str], stale: list[str], restart: list[str]) -> None:
    for name in stale:
        if stands_by_itself(name):
            must(module, ["systemctl", "disable", "--now", "--", name])
    for name in stale:
        os.unlink(os.path.join(rules.UNITS, name))
    for name in differing:
        path = os.path.join(rules.UNITS, name)
        apply(WantedFile(path, content=files[name]), observe(path))
    if stale or differing or restart:
        must(module, ["systemctl", "daemon-reload"])
    for name in restart:
        must(module, ["systemctl", "enable", "--", name])
        # A timer that waits already would keep its old time.
        must(module, ["systemctl", "restart", "--", name])


def switch_off(module: AnsibleModule, found: rules.Foreign) -> None:
    """So that it can be seen and undone: a comment, an execute bit, a disabled timer."""
    if found.kind == "timer":
        must(module, ["systemctl", "disable", "--now", "--", found.where])
    elif found.kind == "script":
        os.chmod(found.where, stat.S_IMODE(os.stat(found.where).st_mode) & 0o666)
    else:
        there = observe(found.where)
        text = rules.without_line(there.content or "", found)
        apply(WantedFile(found.where, content=text, owner=there.owner, group=there.group, mode=there.mode), there)


def gate(host: str, installed: Sequence[rules.Entry], adopted: Sequence[rules.Foreign]) -> dict[str, Any]:
    """Whether backups will come by themselves, and whose they are."""
    if adopted:
        observed = "adopted, nothing of ours beside it: %s" % "; ".join(map(str, adopted))
    else:
        observed = "; ".join("%s at %s" % (entry.timer, entry.calendar) for entry in installed) or "no entry"
    return {
        "id": "SCHEDULE",
        "title": "Backups come by themselves",
        "phase": "PREFLIGHT",
        "host": host,
        "observed": observed,
        "expected": "timers of dr_pgbackrest_schedule, or a schedule that was there before",
        "verdict": "pass" if installed or adopted else "not_applicable",
        "next_action": "",
    }


def must(module: AnsibleModule, command: list[str]) -> None:
    done = run(command)
    if done.returncode != 0:
        module.fail_json(
            msg="%s: %s: %s. Next: mend that, then run again" % (module.params["host_name"], " ".join(command), done.stderr.strip())
        )


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        cwd="/",
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8"},
    )


if __name__ == "__main__":
    main()
