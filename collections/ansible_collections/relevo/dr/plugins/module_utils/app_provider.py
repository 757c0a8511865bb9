# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""What every kind of component has in common: the same five verbs, the same words for what was seen, one kind of error.

A new kind is one file beside ``provider_systemd.py``: a subclass with its options, and a line in ``app_providers.py``.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar, Optional


class ApplicationError(Exception):
    """The application is not as it must be; the message is a sentence."""


@dataclass(frozen=True)
class Option:
    """A setting of a provider. kind: of its value."""

    kind: type
    required: bool = False
    default: Any = None


@dataclass(frozen=True)
class Place:
    """A database host that must not be used any more: its name and address as clients know them."""

    host: str
    name: str
    address: str
    port: int


@dataclass(frozen=True)
class Target:
    """The new primary as clients reach it, and the cluster that must answer there; old: whose sessions must end.

    stop: asked while waiting; a reason ends the wait.
    """

    name: str
    port: int
    system_identifier: str
    old: tuple[Place, ...] = ()
    stop: Callable[[], Optional[str]] = field(default=lambda: None)

    @property
    def address(self) -> str:
        """host:port."""
        return "%s:%d" % (self.name, self.port)


@dataclass(frozen=True)
class Done:
    """What a verb did. more: for the record."""

    changed: bool
    detail: str
    more: Mapping[str, Any] = field(default_factory=dict)


class Deadline:
    """How much of a step's time is left, by the monotonic clock."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._until = time.monotonic() + seconds

    def left(self) -> float:
        """Never less than a moment, so that a last look is always taken."""
        return max(0.1, self._until - time.monotonic())

    def over(self) -> bool:
        """Whether nothing is left."""
        return time.monotonic() > self._until

    def wait(self, ready: Callable[[], bool], late: Callable[[], str], pause_seconds: float = 0.01) -> None:
        """Until it is ready. Raises ApplicationError with what late says."""
        while not ready():
            if self.over():
                raise ApplicationError(late())
            time.sleep(pause_seconds)


class Provider(abc.ABC):
    """One component on one host. Each verb may be repeated: what is done already is said to be, and is not done again.

    OPTIONS: the settings that it takes. URL_IN: the one that names the file with the application's own URL; by that ``cutover`` itself sees when the new
    primary takes writes, and may be called before.
    """

    OPTIONS: ClassVar[Mapping[str, Option]]
    URL_IN: ClassVar[str] = ""

    def __init__(self, name: str, settings: Mapping[str, Any]) -> None:
        self.name = name
        self.settings = {key: settings.get(key, option.default) for key, option in self.OPTIONS.items()}

    @abc.abstractmethod
    def prepare(self, target: Target) -> None:
        """Before the clock, all of a cutover that harms nobody: what is tried out, what is looked up. Raises ApplicationError."""

    @abc.abstractmethod
    def check(self, databases: list[dict[str, Any]]) -> dict[str, Any]:
        """Look, and change nothing: {active, enabled, address, wrong}.

        address: host:port of the database that it uses, None when it knows none. wrong: sentences, why a cutover would fail. databases: those to log in to.
        """

    @abc.abstractmethod
    def quiesce(self, deadline: Deadline, *, leaves: bool) -> Done:
        """No write of it reaches a database any more. leaves: nor after a reboot, since it is served from another host now."""

    @abc.abstractmethod
    def cutover(self, target: Target, deadline: Deadline) -> Done:
        """It uses the new primary, whole or not at all, and was seen to work. Raises ApplicationError."""

    @abc.abstractmethod
    def verify(self, old: list[Place]) -> dict[str, Any]:
        """Look: {address, sessions_on_old}. sessions_on_old: connections that it still holds to those hosts; None when that cannot be seen."""

    @abc.abstractmethod
    def revert(self, deadline: Deadline) -> Done:
        """As it was before ``quiesce``, where it pointed; only ever called while nothing was promoted."""
