#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: managed_files
short_description: The files, blocks and lines that one role manages on a host, in one task
description:
  - Compares every path with what it should be and repairs what differs; shows the plan, also in check mode and where directories do not exist yet.
  - >-
    The names in I(secret_names) are files in I(secrets_directory) on the controller. The action plugin of the same name reads them, so that no secret is a
    variable; C(@name@) in a content, block or line stands for it, and such an entry is a secret.
options:
  files:
    description: What to manage.
    type: list
    elements: dict
    required: true
    suboptions:
      path: {description: Absolute path., type: path, required: true}
      content: {description: The whole file., type: str}
      block: {description: Lines between Relevo's markers; the rest of the file is left alone., type: str}
      line: {description: A line that must be there., type: str}
      directory: {description: The path is a directory., type: bool, default: false}
      owner: {description: User., type: str, default: root}
      group: {description: Group., type: str, default: root}
      mode: {description: Four octal digits., type: str, default: "0644"}
  secret_names: {description: Secrets that the entries stand for., type: list, elements: str, default: []}
  secrets: {description: Filled by the action plugin., type: dict, default: {}}
  secrets_directory: {description: Where they are on the controller., type: str}
attributes:
  check_mode: {support: full, description: Stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Manage the password file
  relevo.dr.managed_files:
    secret_names: [relevo_monitor_password]
    secrets_directory: "{{ dr_secrets_directory }}"
    files:
      - path: /etc/relevo/pgpass
        block: "*:*:*:relevo_monitor:@relevo_monitor_password@"
        owner: postgres
        group: postgres
        mode: "0600"
"""

RETURN = r"""
changes:
  description: What differed, item by item (item, current, wanted); never a secret.
  returned: always
  type: list
  elements: dict
"""

from collections.abc import Mapping
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils.change import HIDDEN, Change, shown
from ansible_collections.relevo.dr.plugins.module_utils.managed_file import WantedFile, apply, observe, plan, text_after


def main() -> None:
    entry = {
        "path": {"type": "path", "required": True},
        "content": {"type": "str"},
        "block": {"type": "str"},
        "line": {"type": "str"},
        "directory": {"type": "bool", "default": False},
        "owner": {"type": "str", "default": "root"},
        "group": {"type": "str", "default": "root"},
        "mode": {"type": "str", "default": "0644"},
    }
    module = AnsibleModule(
        argument_spec={
            "files": {
                "type": "list",
                "elements": "dict",
                "required": True,
                "options": entry,
                "mutually_exclusive": [("content", "block", "line", "directory")],
            },
            "secret_names": {"type": "list", "elements": "str", "default": [], "no_log": False},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
            "secrets_directory": {"type": "str"},
        },
        supports_check_mode=True,
    )
    changes: list[Change] = []
    before: dict[str, str] = {}
    after: dict[str, str] = {}
    for parameters in module.params["files"]:
        wanted = _with_secrets(parameters, module.params["secrets"])
        observed = observe(wanted.path)
        differences = plan(wanted, observed)
        if not differences:
            continue
        changes += differences
        before[wanted.path] = HIDDEN if wanted.secret else observed.content or ""
        after[wanted.path] = HIDDEN if wanted.secret else text_after(wanted, observed.content) or ""
        if observed.kind not in ("absent", "directory" if wanted.directory else "file"):
            module.fail_json(
                msg="%s is there and is no plain file: move it away, it is not ours to remove" % wanted.path, changes=shown(changes)
            )
        if not module.check_mode:
            apply(wanted, observed)
    diff = [{"before_header": path, "after_header": path, "before": before[path], "after": after[path]} for path in before]
    module.exit_json(changed=bool(changes), changes=shown(changes), diff=diff)


def _with_secrets(parameters: Mapping[str, Any], secrets: Mapping[str, str]) -> WantedFile:
    values = dict(parameters)
    secret = False
    for kind in ("content", "block", "line"):
        for name, value in secrets.items():
            mark = "@%s@" % name
            if values[kind] is not None and mark in values[kind]:
                values[kind] = values[kind].replace(mark, value)
                secret = True
    return WantedFile(secret=secret, **values)


if __name__ == "__main__":
    main()
