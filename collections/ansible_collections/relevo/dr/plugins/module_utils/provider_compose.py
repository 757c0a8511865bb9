# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Services of a Docker Compose project, with the database's URL in the project's environment file. The database itself is no service of it."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Mapping
from typing import Any, ClassVar, Optional

from ansible_collections.relevo.dr.plugins.module_utils import app_health, app_login, compose_images, sessions
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import (
    ApplicationError,
    Deadline,
    Done,
    Option,
    Place,
    Provider,
    Target,
)
from ansible_collections.relevo.dr.plugins.module_utils.app_url import UrlFile
from ansible_collections.relevo.dr.plugins.module_utils.database_url import DatabaseUrl

# The flag itself: --quiet-pull is another, and older.
_HAS_PULL = re.compile(r"\s--pull\b")
# That of the directory last: it may have spaces.
_LABELS = ("service", "oneoff", "project.working_dir")
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Compose(Provider):
    """project_directory, files: of the project. services: those that use the database. repoint: false behind a pooler or a proxy, whose address stays."""

    OPTIONS: ClassVar[dict[str, Option]] = {
        "project_directory": Option(str, required=True),
        "files": Option(list, default=("docker-compose.yml",)),
        "environment_file": Option(str, default=".env"),
        "url_variable": Option(str, default="DATABASE_URL"),
        "services": Option(list, required=True),
        "repoint": Option(bool, default=True),
        "health_url": Option(str, default=""),
        "docker_host": Option(str, default=""),
    }

    URL_IN = "environment_file"

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        super().__init__(name, settings)
        self._found: list[str] = []
        self._pull: Optional[list[str]] = None

    @property
    def _services(self) -> list[str]:
        return [str(service) for service in self.settings["services"]]

    @property
    def _directory(self) -> str:
        """What compose itself takes for it when it is started there, and names the project after: the end of a link."""
        return os.path.realpath(str(self.settings["project_directory"]))

    @property
    def _file(self) -> UrlFile:
        return UrlFile(os.path.join(self._directory, self.settings["environment_file"]), self.settings["url_variable"])

    def check(self, databases: list[dict[str, Any]]) -> dict[str, Any]:
        file = self._file
        url = file.url()
        file.pointed_at(url.host, url.port)
        images = self._images(file)
        wrong = ["the project has no service %s" % service for service in self._services if service not in images]
        wrong += self._missing({service: images[service] for service in self._services if service in images})
        running = self._running()
        return {
            "active": set(self._services) <= running,
            "enabled": set(self._services) <= running,
            "address": url.address,
            "health": app_health.health(self.settings["health_url"], 1.0),
            "databases": app_login.ask_each(url, file.assigned(), databases),
            "wrong": wrong,
        }

    def prepare(self, target: Target) -> None:
        self._file.pointed_at(target.name, target.port)
        # Asked before the clock, and kept.
        self._never_pulled()

    def quiesce(self, deadline: Deadline, *, leaves: bool) -> Done:
        running = self._running()
        # A stopped container with the policy "always" comes back with the engine, one that is gone does not.
        if leaves:
            self._compose("rm", "--stop", "--force", *self._services, seconds=deadline.left())
        elif running:
            self._compose("stop", *self._services, seconds=deadline.left())
        left = sorted(self._running()) if running else []
        if left:
            raise ApplicationError(
                "%s still run after they were stopped: was the project started by another name?" % ", ".join(left)
            )
        return Done(bool(running), "%s %s" % (", ".join(self._services), "stopped" if running else "were not running"))

    def cutover(self, target: Target, deadline: Deadline) -> Done:
        file = self._file
        before = file.url()
        after = before.at(target.name, target.port) if self.settings["repoint"] else before
        complete = set(self._services) <= self._whole()
        if self.settings["repoint"] and before.address == after.address and complete and self._uses(after) and self._is_healthy():
            return Done(False, "%s used %s already" % (", ".join(self._services), after.address))
        app_login.wait_for_primary(after, file.assigned(), target, deadline)
        if self.settings["repoint"]:
            file.point_at(target.name, target.port)
        # Made anew, whatever the engine thinks of their configuration: what they hold open leads to the old primary.
        self._up("--force-recreate", deadline=deadline)
        who = "%s use %s and" % (", ".join(self._services), after.address)
        health = app_health.wait_until_healthy(self.settings["health_url"], who, target.system_identifier, deadline)
        missing = sorted(set(self._services) - self._whole())
        if missing:
            raise ApplicationError("%s ended again after the start" % ", ".join(missing))
        if not self._uses(after):
            raise ApplicationError(
                "a container of %s has another %s than the file: does the compose file hand it on?"
                % (", ".join(self._services), file.variable)
            )
        return Done(True, "%s now use %s%s" % (", ".join(self._services), after.address, health["note"]), {"health": health})

    def verify(self, old: list[Place]) -> dict[str, Any]:
        return {"address": self._file.url().address, "sessions_on_old": sessions.held(self._processes(), old)}

    def revert(self, deadline: Deadline) -> Done:
        running = set(self._services) <= self._whole()
        if not running:
            self._up(deadline=deadline)
        address = self._file.url().address
        app_health.wait_until_healthy(self.settings["health_url"], ", ".join(self._services), "", deadline)
        return Done(not running, "%s serve from %s again" % (", ".join(self._services), address))

    def _is_healthy(self) -> bool:
        return bool(app_health.health(self.settings["health_url"])["ok"])

    def _uses(self, url: DatabaseUrl) -> bool:
        """Whether each container has this URL; one whose image takes it from elsewhere has none."""
        containers = [container for found in self._containers().values() for container, _ in found]
        begin = self._file.variable + "="
        text = self._docker("inspect", "--format", "{{range .Config.Env}}{{println .}}{{end}}", *containers) if containers else ""
        return {line for line in text.splitlines() if line.startswith(begin)} <= {begin + url.text}

    def _containers(self) -> dict[str, list[tuple[str, bool]]]:
        """By service, of those that are there: id of each container, and whether it runs. Asked of the engine, which is many times faster than compose.

        What somebody started beside the service (``compose run``) is none of it.
        """
        form = "{{.ID}} {{.State}} %s" % " ".join('{{.Label "com.docker.compose.%s"}}' % label for label in _LABELS)
        there = "label=com.docker.compose.%s" % _LABELS[-1]
        found: dict[str, list[tuple[str, bool]]] = {}
        for line in self._docker("ps", "--all", "--no-trunc", "--filter", there, "--format", form).splitlines():
            container, state, name, oneoff, directory = line.split(" ", 4)
            # Who started it from within a link may have left the link there.
            if name in self._services and oneoff != "True" and os.path.realpath(directory) == self._directory:
                found.setdefault(name, []).append((container, state == "running"))
        return found

    def _running(self) -> set[str]:
        """Services that do something."""
        return {service for service, found in self._containers().items() if any(runs for _, runs in found)}

    def _whole(self) -> set[str]:
        """Services of which nothing has ended."""
        return {service for service, found in self._containers().items() if all(runs for _, runs in found)}

    def _processes(self) -> list[int]:
        running = [container for found in self._containers().values() for container, runs in found if runs]
        lines = [line for container in running for line in self._docker("top", container, "-eo", "pid").splitlines()[1:]]
        return [int(line.split()[0]) for line in lines]

    def _images(self, file: UrlFile) -> dict[str, str]:
        """By service of the project."""
        name = file.assigned().get("COMPOSE_PROJECT_NAME") or os.path.basename(self._directory)
        if self._is_old():
            return compose_images.of_yaml(self._compose("config"), name)
        try:
            return compose_images.of_json(self._compose("config", "--format", "json"), name)
        except (ValueError, KeyError, AttributeError):
            raise ApplicationError("%s says a configuration that cannot be read" % " ".join(self._command())) from None

    def _missing(self, images: dict[str, str]) -> list[str]:
        """Sentences: where an image is not there a cutover would pull it from somewhere, or fail."""
        wrong = []
        for image in sorted(set(images.values())):
            try:
                self._docker("image", "inspect", "--format", "{{.Id}}", image)
            except ApplicationError as error:
                of = ", ".join(service for service, wanted in images.items() if wanted == image)
                wrong.append("the image %s of %s is not seen here (%s): pull or build it on this host" % (image, of, error))
        return wrong

    def _up(self, *words: str, deadline: Deadline) -> None:
        pull = self._never_pulled()
        self._compose("up", "--detach", "--no-build", *pull, "--no-deps", *words, *self._services, seconds=deadline.left())

    def _never_pulled(self) -> list[str]:
        """The words for that, where compose has them: docker-compose 1 and early plugins pull what is not there, which ``check`` has looked for."""
        if self._pull is None:
            self._pull = ["--pull", "never"] if _HAS_PULL.search(self._run([*self._command(), "up", "--help"], 60.0)) else []
        return self._pull

    def _compose(self, *words: str, seconds: float = 60.0) -> str:
        files = [word for name in self.settings["files"] for word in ("--file", str(name))]
        environment_file = ["--env-file", self._file.path]
        return self._run([*self._command(), *files, *environment_file, *words], seconds)

    def _command(self) -> list[str]:
        """The engine's own plugin where it is there, else the program of before."""
        if not self._found:
            try:
                self._run(["docker", "compose", "version"], 10.0)
                self._found = ["docker", "compose"]
            except ApplicationError:
                self._found = ["docker-compose"]
        return self._found

    def _is_old(self) -> bool:
        """Whether it is docker-compose 1; what has its name may be the plugin as a program."""
        return len(self._command()) == 1 and self._run([*self._command(), "version", "--short"], 60.0).startswith("1.")

    def _docker(self, *words: str) -> str:
        return self._run(["docker", *words], 60.0)

    def _run(self, command: list[str], seconds: float) -> str:
        """Without our own environment: compose would let it win over the project's file."""
        environment = {"PATH": _PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"}
        host: Optional[str] = self.settings["docker_host"]
        if host:
            environment["DOCKER_HOST"] = host
        what = " ".join(
            [
                os.path.basename(command[0]),
                *(
                    word
                    for word in command[1:]
                    if word in ("config", "ps", "up", "stop", "rm", "image", "inspect", "top", "version")
                ),
            ]
        )
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=seconds,
                env=environment,
                cwd=self._directory,
            )
        except subprocess.TimeoutExpired:
            raise ApplicationError("%s did not end within %g s" % (what, seconds)) from None
        except OSError as error:
            raise ApplicationError("%s cannot be run: %s" % (what, error.strerror)) from None
        if done.returncode != 0:
            # Only its last line: above it may stand the whole configuration.
            raise ApplicationError("%s failed: %s" % (what, (done.stderr.strip().splitlines() or ["no reason given"])[-1]))
        return done.stdout
