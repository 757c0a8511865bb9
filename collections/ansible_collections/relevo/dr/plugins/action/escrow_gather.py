# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Read a host's part of what is in escrow through the connection, into files in memory; nothing of it is in a result or a log."""

from __future__ import annotations

import base64
import binascii
import contextlib
import io
import json
import os
import tarfile
from collections.abc import Iterator
from typing import Any

from ansible.errors import AnsibleError
from ansible_collections.relevo.dr.plugins.module_utils import escrow_items
from ansible_collections.relevo.dr.plugins.module_utils.escrow_items import CONTROLLER, FAILED, SECRET, TREE, VERSIONS, Item
from ansible_collections.relevo.dr.plugins.plugin_utils.escrow_action import EscrowAction

_LEFT_OUT = {".git", "__pycache__", ".venv"}


class _Unread(Exception):
    """Why an item cannot be read, without a byte of it."""


class ActionModule(EscrowAction):
    """Arguments: items, cluster, pgbackrest_config, secrets_directory, memory_directory, versions. Returns names and sizes."""

    def keep(self) -> dict[str, Any]:
        mine = escrow_items.of_this_host(escrow_items.items(self._task.args["items"]), self.host)
        memory = self.memory()
        memory.open()
        read: dict[str, Any] = {}
        missing: dict[str, str] = {}
        for item in mine:
            try:
                content = self._read(item)
                read[item.id] = {"content": content, "essence": self._essence(item, content)}
            except _Unread as reason:
                missing[item.id] = "%s: %s" % (self.host, reason)
        memory.write("read/%s" % self.host, {"read": read, "unread": missing})
        sizes = {name: len(found["content"]) for name, found in read.items()}
        return {"msg": "read %d of %d items" % (len(read), len(mine)), "sizes": sizes, "unread": missing}

    def _read(self, item: Item) -> bytes:
        content = self._here(item) if self.host == CONTROLLER else self._there(escrow_items.command(item, *self._repository()))
        if not content:
            raise _Unread("%s is empty" % item.source)
        return content

    def _essence(self, item: Item, content: bytes) -> bytes:
        command = escrow_items.essence_command(item, *self._repository())
        return content if command is None else escrow_items.essence(item, self._there(command))

    def _repository(self) -> tuple[str, str]:
        return str(self._task.args["cluster"]), str(self._task.args["pgbackrest_config"])

    def _there(self, command: str) -> bytes:
        try:
            with self._unlogged():
                # With an input there is no terminal between, which would end lines its own way.
                answer = self._low_level_execute_command(command, in_data=b"\n", executable="/bin/sh")
        except AnsibleError as error:
            # Its message may quote what the host printed.
            raise _Unread("the host does not answer (%s)" % type(error).__name__) from None
        try:
            content = base64.b64decode("".join(str(answer["stdout"]).split()), validate=True)
        except (binascii.Error, ValueError):
            raise _Unread("its answer is not what was asked for") from None
        if answer["rc"] != 0 or content.endswith(FAILED):
            raise _Unread("it is not there, or root may not read it")
        return content

    @contextlib.contextmanager
    def _unlogged(self) -> Iterator[None]:
        """With -vvv the connection shows what a host printed, unless it is told not to."""
        contexts = [self._play_context, self._connection._play_context]
        before = [context.no_log for context in contexts]
        for context in contexts:
            context.no_log = True
        try:
            yield
        finally:
            for context, value in zip(contexts, before):
                context.no_log = value

    def _here(self, item: Item) -> bytes:
        if item.kind == VERSIONS:
            return json.dumps(self._task.args.get("versions") or {}, sort_keys=True, indent=1).encode() + b"\n"
        path = item.source
        if item.kind == SECRET or not path.startswith("/"):
            path = os.path.join(str(self._task.args["secrets_directory"]), item.source)
        try:
            if item.kind == TREE:
                return tree(path)
            with open(path, "rb") as source:
                return source.read()
        except OSError as error:
            raise _Unread("%s: %s" % (path, error.strerror)) from None


def tree(directory: str) -> bytes:
    """The files of a directory, the same bytes whenever they are the same."""
    target = io.BytesIO()
    found = []
    for place, directories, names in os.walk(directory):
        directories[:] = sorted(set(directories) - _LEFT_OUT)
        found += [os.path.join(place, name) for name in names]
    if not found:
        raise OSError(2, "no file in it", directory)
    with tarfile.open(fileobj=target, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path in sorted(found):
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as source:
                    content = source.read()
                member = tarfile.TarInfo(os.path.relpath(path, directory))
                member.size, member.mode = len(content), 0o600
                archive.addfile(member, io.BytesIO(content))
    return target.getvalue()
