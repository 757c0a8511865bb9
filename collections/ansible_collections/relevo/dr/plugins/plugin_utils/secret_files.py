# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Secrets as files on the controller. Action plugins read them here, so that a secret never is a variable and never in a task's arguments."""

from __future__ import annotations

import os

from ansible.errors import AnsibleActionFail

# Stands for a secret that check mode must not generate.
NOT_YET = "not-generated-yet"


def read_secrets(directory: str, names: list[str], check_mode: bool) -> dict[str, str]:
    """The secrets by name, without the newline that editors leave at the end of a file."""
    found = {}
    for name in names:
        if os.path.basename(name) != name:
            raise AnsibleActionFail("a secret is the name of a file in dr_secrets_directory, not %r" % name)
        path = os.path.join(directory, name)
        try:
            with open(path, encoding="utf-8") as source:
                found[name] = source.read().rstrip("\r\n")
        except FileNotFoundError:
            if not check_mode:
                raise AnsibleActionFail("the secret %s does not exist on the controller: put it there, mode 0600" % path) from None
            found[name] = NOT_YET
        except ValueError:
            # The error itself shows a byte.
            raise AnsibleActionFail("the secret %s is no text in UTF-8" % path) from None
        except OSError as error:
            raise AnsibleActionFail("the secret %s cannot be read on the controller: %s" % (path, error.strerror)) from None
        if not found[name]:
            raise AnsibleActionFail("the secret %s is empty" % path)
    return found
