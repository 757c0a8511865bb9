# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The approvals that lie on this controller: files NAME.json with a signature NAME.json.sig beside each, as ``relevo approve`` writes them."""

from __future__ import annotations

import glob
import os
import tempfile
from collections.abc import Sequence
from typing import Optional

from ansible_collections.relevo.dr.plugins.module_utils.approval import NAMESPACE, Approver, Statement, read_statement
from ansible_collections.relevo.dr.plugins.module_utils.ssh_signature import verifies
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Control

# More than anybody needs; a directory that others may write to must not keep a run busy.
_MOST = 50
_MOST_BYTES = 4096


def default_directory(control: Control) -> str:
    """``approvals`` beside the runs of this controller's state."""
    return os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(control.directory))), "approvals")


def found(directory: str, approvers: Sequence[Approver]) -> list[Statement]:
    """The statements whose signature is of the approver that they name, the newest files first; what cannot be read is none."""
    names = [name for name in glob.glob(os.path.join(glob.escape(directory), "*.json")) if os.path.isfile(name)]
    statements = (_signed(name, approvers) for name in sorted(names, key=os.path.getmtime, reverse=True)[:_MOST])
    return [statement for statement in statements if statement is not None]


def _signed(path: str, approvers: Sequence[Approver]) -> Optional[Statement]:
    try:
        with open(path, encoding="utf-8") as source:
            text = source.read(_MOST_BYTES)
    except (OSError, UnicodeDecodeError):
        return None
    statement = read_statement(text)
    approver = next((one for one in approvers if statement is not None and one.name == statement.approver), None)
    if statement is None or approver is None:
        return None
    with tempfile.NamedTemporaryFile("w", encoding="utf-8") as allowed:
        allowed.write('approver namespaces="%s" %s\n' % (NAMESPACE, approver.key))
        allowed.flush()
        return statement if verifies(text, path + ".sig", allowed.name, "approver", NAMESPACE) else None
