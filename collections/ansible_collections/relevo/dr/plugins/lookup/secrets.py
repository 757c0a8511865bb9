# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The directory of secrets, also where each secret came as a file of some name, as a job of AWX gets them."""

from __future__ import annotations

DOCUMENTATION = """
name: secrets
author: The Relevo maintainers (@relevo)
short_description: The directory of secrets on this controller
description:
  - For C(dr_secrets_directory) of an inventory that serves a terminal and AWX alike.
  - Where environment variables such as E(RELEVO_SECRET_become_password) name files, it is a directory in that of the present run, in which a link of each
    secret's name leads to its file. AWX's credentials give files, whose names nobody can choose.
  - A value such as C(files_a-app1_password=/runner/env/tmp1) names the secret itself, since no variable's name has a hyphen.
  - Where there are none it is the directory that was given.
options:
  _terms:
    description: The directory of a controller that has one.
    required: true
"""

EXAMPLES = """
- name: Use the credentials of the job, or the controller's own directory
  ansible.builtin.debug:
    msg: "{{ lookup('relevo.dr.secrets', '/etc/relevo-controller/secrets') }}"
"""

RETURN = """
_raw:
  description: The path of the directory.
  type: list
  elements: path
"""

import contextlib
import os
from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase
from ansible_collections.relevo.dr.plugins.module_utils.given_secrets import GIVEN

PREFIX = "RELEVO_SECRET_"


class LookupModule(LookupBase):
    """See DOCUMENTATION."""

    def run(self, terms: list[str], variables: Any = None, **kwargs: Any) -> list[str]:
        """The directory, ready to be read."""
        given = files(os.environ)
        if not given:
            return list(terms)
        run_directory = os.environ.get("RELEVO_RUN_DIR")
        if not run_directory:
            raise AnsibleLookupError(
                "secrets: no run is open, and only the directory of a run can hold links to the secrets of a job"
            )
        return [linked(os.path.join(run_directory, "secrets"), given)]


def files(environment: Mapping[str, str]) -> dict[str, str]:
    """Paths by the names of their secrets. A field of a credential that nobody filled is no secret."""
    named = {}
    for variable, value in environment.items():
        if variable.startswith(PREFIX):
            name, _, path = value.rpartition("=")
            named[name or variable[len(PREFIX) :]] = path
    odd = [name for name in named if os.path.basename(name) != name]
    if odd:
        raise AnsibleLookupError(
            "secrets: observed %r, expected the name of a file; correct the injectors of the credential type" % odd[0]
        )
    return {name: path for name, path in named.items() if os.path.isfile(path) and os.path.getsize(path)}


def linked(directory: str, given: Mapping[str, str]) -> str:
    """The directory with a link for each secret; the workers of one run may make it at once."""
    os.makedirs(directory, mode=0o700, exist_ok=True)
    with open(os.path.join(directory, GIVEN), "w", encoding="ascii"):
        pass
    for name, path in given.items():
        with contextlib.suppress(FileExistsError):
            os.symlink(path, os.path.join(directory, name))
    return directory
