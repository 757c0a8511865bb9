#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: secret_files
short_description: Generate the secrets that do not exist yet
description:
  - Each secret is one file of random characters (letters, digits, C(-), C(_)) that is made once and never changed or printed.
  - Runs on the controller. Where the directory is one of AWX's credentials, what is missing is refused.
options:
  directory: {description: Directory of the secrets; made with mode 0700., type: path, required: true}
  names: {description: File names., type: list, elements: str, required: true}
  bytes: {description: Random bytes in each., type: int, default: 48}
attributes:
  check_mode: {support: full, description: Stops after the plan.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Generate the missing secrets
  relevo.dr.secret_files:
    directory: "{{ dr_secrets_directory }}"
    names: [relevo_replication_password]
  delegate_to: localhost
"""

RETURN = r"""
changes:
  description: The secrets that were missing.
  returned: always
  type: list
  elements: dict
"""

import contextlib
import os
import secrets

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils.change import Change, shown
from ansible_collections.relevo.dr.plugins.module_utils.given_secrets import GIVEN


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "required": True, "no_log": False},
            "bytes": {"type": "int", "default": 48},
        },
        supports_check_mode=True,
    )
    directory = module.params["directory"]
    missing = [name for name in sorted(set(module.params["names"])) if not os.path.exists(os.path.join(directory, name))]
    if missing and os.path.exists(os.path.join(directory, GIVEN)):
        # A repository's passphrase that is gone with a job is all its backups gone.
        module.fail_json(
            msg="Secrets on the controller: observed no %s among the credentials of this job; expected all of them, since what is generated in a job "
            "is gone with it. Next: generate each once (openssl rand -base64 48), keep it, and add it to the credential, as docs/awx.md shows. "
            "Nothing was changed." % ", ".join(missing)
        )
    if missing and not module.check_mode:
        os.makedirs(directory, mode=0o700, exist_ok=True)
        for name in missing:
            # O_EXCL: of two runs that start together, one generates and the other uses that.
            with contextlib.suppress(FileExistsError):
                handle = os.open(os.path.join(directory, name), os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
                with os.fdopen(handle, "w", encoding="ascii") as target:
                    target.write(secrets.token_urlsafe(module.params["bytes"]) + "\n")
    changes = [Change("secret %s on the controller" % name, "absent", "generated") for name in missing]
    module.exit_json(changed=bool(missing), changes=shown(changes))


if __name__ == "__main__":
    main()
