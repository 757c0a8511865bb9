# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every step of an opened run has in common: the run's directory, and errors as sentences."""

from __future__ import annotations

import contextlib
from typing import Any, Optional, TypeVar

from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase
from ansible_collections.relevo.dr.plugins.module_utils import inputs
from ansible_collections.relevo.dr.plugins.plugin_utils.control import Aborted, Control, ControlError

Played = TypeVar("Played", bound="RunAction")


class RunAction(ActionBase):
    """An action plugin that belongs to an opened run; a subclass writes :meth:`act`."""

    TRANSFERS_FILES = False
    _supports_check_mode = True

    def run(self, tmp: Optional[str] = None, task_vars: Optional[dict[str, Any]] = None) -> dict[str, Any]:
        result: dict[str, Any] = super().run(tmp, task_vars)
        self.variables = task_vars or {}
        self.host = str(self.variables["inventory_hostname"])
        try:
            self.control = Control.of_this_run()
            return {**result, "changed": False, **self.act()}
        except (Aborted, ControlError) as error:
            return {
                **result,
                "failed": True,
                "msg": "%s on %s: %s. Next: start the whole runbook again" % (self._task.action, self.host, error),
            }

    def act(self) -> dict[str, Any]:
        """The step itself. Returns the keys of the task result."""
        raise NotImplementedError

    def remember(self, name: str) -> None:
        """Keep how this action was asked, where an armed run will play it again."""
        kept = "asked/%s" % name
        if inputs.armed(self.control.read("landscape").get("given", {})) and not self.control.exists(kept):
            self.control.write(kept, {"args": self._task.args})

    def played(self, action: type[Played], arguments: dict[str, Any], control: Control) -> Played:
        """Another step of the run, on this host, as if a task had started it with these arguments."""
        task = self._task.copy()
        task.args = dict(arguments)
        step = action(task, self._connection, self._play_context, self._loader, self._templar, self._shared_loader_obj)
        step.variables, step.host, step.control = self.variables, self.host, control
        return step

    def ask(self, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Run a module on this host, unless nobody leads this run any more; see :meth:`execute`."""
        self.control.check_alive()
        return self.execute(module, arguments)

    def execute(self, module: str, arguments: dict[str, Any]) -> dict[str, Any]:
        """Run a module on this host; a host that stops answering gives ``unreachable`` and a sentence, never an exception."""
        try:
            answer: dict[str, Any] = self._execute_module(module_name=module, module_args=arguments, task_vars=self.variables)
        except AnsibleConnectionFailure as error:
            return {"unreachable": True, "msg": "%s stopped answering: %s" % (self.host, str(error)[:200])}
        return answer

    def make_ready(self, module: str) -> None:
        """Open the connection and build the module, for who waits anyway before it asks; what goes wrong is met again, and told, when it asks."""
        with contextlib.suppress(AnsibleError):
            self.say(":", "")
            self._configure_module(module_name=module, module_args={}, task_vars=self.variables)

    def say(self, command: str, text: str) -> bool:
        """Run a short command on this host, as root, with that standard input; whether it ended with 0."""
        self.control.check_alive()
        try:
            answer = self._low_level_execute_command(command, in_data=text.encode() or b"\n")
        except AnsibleConnectionFailure:
            return False
        return bool(answer["rc"] == 0)


def went_wrong(answer: dict[str, Any]) -> Optional[str]:
    """Why a module's answer is none, or None when it is good."""
    if not answer.get("failed") and not answer.get("unreachable"):
        return None
    return str(answer.get("msg") or answer.get("module_stderr") or "no reason given")
