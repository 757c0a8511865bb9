# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The file of those who hear of a run, as far as it can be judged without the library that sends."""

from __future__ import annotations

import os

from ansible_collections.relevo.dr.plugins.module_utils import contacts
from ansible_collections.relevo.dr.plugins.module_utils.gates import Gate
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control


def seen(control: Control) -> Gate:
    """What is said of the contacts of this run."""
    file = str(control.read("contacts")["file"])
    named = os.path.exists(os.path.join(os.path.dirname(control.directory), "notify.json"))
    try:
        with open(file, encoding="utf-8") as source:
            return contacts.judge(file, os.fstat(source.fileno()).st_mode, source.read().splitlines(), named=named)
    except (OSError, UnicodeError):
        return contacts.judge(file, None, None, named=named)
