# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""The components of an application: what an inventory declares, judged as a whole, and in which order they are played. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Optional

from ansible_collections.relevo.dr.plugins.module_utils import app_component, app_providers
from ansible_collections.relevo.dr.plugins.module_utils.app_provider import Option
from ansible_collections.relevo.dr.plugins.module_utils.refusal import Refusal

EVERYBODY = "dr_application"
_NAME = re.compile(r"[a-z][a-z0-9_-]{0,30}")
_WORDS = ("name", "provider", "hosts", "after")
_FIX = "mend dr_app_components in the inventory; see docs/applications.md"


@dataclass(frozen=True)
class Component:
    """hosts: empty where the controller acts. settings: by host, of the provider and of every component; under an empty name where the controller acts."""

    name: str
    provider: str
    hosts: tuple[str, ...]
    after: tuple[str, ...]
    settings: Mapping[str, Mapping[str, Any]]

    def as_dict(self) -> dict[str, Any]:
        """For the run's directory."""
        return asdict(self)


def of_host(declared: Any, host: str, everybody: Sequence[str]) -> list[dict[str, Any]]:
    """What a host looks at of what it declares. Lenient: ``read`` refuses what is wrong, when every host was asked."""
    found = []
    for entry in declared if isinstance(declared, list) else []:
        hosts = _hosts(entry, everybody) if isinstance(entry, Mapping) else None
        if hosts and host in hosts and entry.get("provider") in app_providers.ON_HOSTS:
            found.append(dict(entry))
    return found


def read(declared: Mapping[str, Any], everybody: Sequence[str]) -> tuple[Component, ...]:
    """The components in the order of their groups. declared: the list as each application host has it. Raises Refusal."""
    known: dict[str, dict[str, Any]] = {}
    first, settings = "", {}  # type: tuple[str, dict[str, dict[str, dict[str, Any]]]]
    for host, entries in declared.items():
        shape = {}
        for entry in _entries(host, entries):
            name = _name(host, entry)
            if name in shape:
                raise Refusal("COMPONENT", host, "two components %s" % name, "one of each name", _FIX)
            shape[name] = _shape(host, name, entry, everybody)
            mine = _settings(host, name, entry)
            if host in shape[name]["hosts"]:
                settings.setdefault(name, {})[host] = mine
            elif not shape[name]["hosts"]:
                settings.setdefault(name, {}).setdefault("", mine)
        if known and shape != known:
            observed = "%s says other components, hosts or dependencies than %s" % (host, first)
            raise Refusal("COMPONENT", host, observed, "the same on every application host; only settings may differ", _FIX)
        known, first = shape, first or host
    components = [Component(name=name, settings=settings.get(name, {}), **shape) for name, shape in known.items()]
    return tuple(component for group in grouped(components) for component in group)


def grouped(components: Sequence[Component]) -> tuple[tuple[Component, ...], ...]:
    """Each behind everything that it comes after, as early as that allows. Raises Refusal for a circle or a name that nobody has."""
    by_name = {component.name: component for component in components}
    for component in components:
        unknown = sorted(set(component.after) - set(by_name))
        if unknown:
            observed = "%s comes after %s" % (component.name, ", ".join(unknown))
            raise Refusal("COMPONENT", "inventory", observed, "names of components: %s" % ", ".join(sorted(by_name)), _FIX)
    left, placed, groups = list(components), set[str](), []
    while left:
        group = tuple(component for component in left if placed.issuperset(component.after))
        if not group:
            circle = " -> ".join(_circle(by_name, left))
            raise Refusal("COMPONENT", "inventory", "a circle: %s" % circle, "components that can be started in some order", _FIX)
        groups.append(group)
        placed |= {component.name for component in group}
        left = [component for component in left if component.name not in placed]
    return tuple(groups)


def parts(components: Sequence[Component], host: str) -> list[tuple[int, list[Component]]]:
    """What a host has to play, by the number of the group."""
    here = [(number, [one for one in group if host in one.hosts]) for number, group in enumerate(grouped(components))]
    return [(number, group) for number, group in here if group]


def before(components: Sequence[Component], number: int) -> list[tuple[int, str]]:
    """Who must be done when a group begins: group and host, of every group before it. An empty host is the controller."""
    return [player for player in _players(components) if player[0] < number]


def behind(components: Sequence[Component], number: int) -> list[tuple[int, str]]:
    """The same of the groups after it: who must have stopped when this one stops. The controller has nothing to stop."""
    return [player for player in _players(components) if player[0] > number and player[1]]


def _players(components: Sequence[Component]) -> list[tuple[int, str]]:
    groups = enumerate(grouped(components))
    return list(dict.fromkeys((number, host) for number, group in groups for one in group for host in one.hosts or ("",)))


def of_controller(components: Sequence[Component]) -> list[tuple[int, Component]]:
    """What no host plays, with its group."""
    return [(number, one) for number, group in enumerate(grouped(components)) for one in group if not one.hosts]


def sees_the_primary(group: Iterable[Component], host: str) -> bool:
    """Whether a host's part of a group may be let go before the promotion is known."""

    def has_a_url(component: Component) -> bool:
        kind = app_providers.ON_HOSTS[component.provider]
        return bool(kind.URL_IN and component.settings[host].get(kind.URL_IN, kind.OPTIONS[kind.URL_IN].default))

    return all(has_a_url(component) for component in group)


def load(kept: Sequence[Mapping[str, Any]]) -> tuple[Component, ...]:
    """The inverse of ``as_dict`` after JSON."""
    return tuple(Component(one["name"], one["provider"], tuple(one["hosts"]), tuple(one["after"]), one["settings"]) for one in kept)


def _entries(host: str, entries: Any) -> list[Mapping[str, Any]]:
    if not isinstance(entries, list) or not all(isinstance(entry, Mapping) for entry in entries):
        raise Refusal(
            "COMPONENT", host, "dr_app_components is no list of mappings", "a list of {name, provider, hosts, after}", _FIX
        )
    return entries


def _name(host: str, entry: Mapping[str, Any]) -> str:
    name = entry.get("name")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise Refusal("COMPONENT", host, "a component with the name %r" % name, "letters, digits, - and _, a letter first", _FIX)
    return name


def _shape(host: str, name: str, entry: Mapping[str, Any], everybody: Sequence[str]) -> dict[str, Any]:
    provider = entry.get("provider")
    if provider not in app_providers.NAMES:
        observed = "%s has the provider %r" % (name, provider)
        raise Refusal("COMPONENT", host, observed, "one of %s" % ", ".join(app_providers.NAMES), _FIX)
    after = entry.get("after", [])
    if not isinstance(after, list) or not all(isinstance(one, str) for one in after):
        raise Refusal("COMPONENT", host, "%s: after is no list of names" % name, "names of components", _FIX)
    hosts = _hosts(entry, everybody)
    if provider in app_providers.ON_CONTROLLER:
        if entry.get("hosts"):
            raise Refusal("COMPONENT", host, "%s has hosts" % name, "none: the controller acts for %s" % provider, _FIX)
        hosts = []
    elif not hosts:
        raise Refusal("COMPONENT", host, "%s has no hosts" % name, "a list of application hosts, or none for all of them", _FIX)
    foreign = sorted(set(hosts or []) - set(everybody))
    if foreign:
        observed = "%s is to run on %s" % (name, ", ".join(foreign))
        raise Refusal("COMPONENT", host, observed, "hosts of the group dr_application", _FIX)
    return {"provider": provider, "hosts": tuple(hosts or ()), "after": tuple(dict.fromkeys(after))}


def _hosts(entry: Mapping[str, Any], everybody: Sequence[str]) -> Optional[list[str]]:
    wanted = entry.get("hosts", [EVERYBODY])
    if not isinstance(wanted, list) or not all(isinstance(one, str) for one in wanted):
        return None
    return list(dict.fromkeys(host for one in wanted for host in (everybody if one == EVERYBODY else [one])))


def options_of(provider: str) -> dict[str, Option]:
    """What a component of this provider may be told."""
    own = app_providers.OPTIONS[provider]
    return {**own, **(app_component.OPTIONS if provider in app_providers.ON_HOSTS else {})}


def _settings(host: str, name: str, entry: Mapping[str, Any]) -> dict[str, Any]:
    options = options_of(entry["provider"])
    given = {key: value for key, value in entry.items() if key not in _WORDS and value is not None}
    unknown = sorted(set(given) - set(options))
    if unknown:
        observed = "%s has the setting %s" % (name, ", ".join(unknown))
        raise Refusal("COMPONENT", host, observed, "those of %s: %s" % (entry["provider"], ", ".join(sorted(options))), _FIX)
    missing = sorted(key for key, option in options.items() if option.required and given.get(key) in (None, ""))
    if missing:
        raise Refusal(
            "COMPONENT", host, "%s lacks %s" % (name, ", ".join(missing)), "every setting that %s needs" % entry["provider"], _FIX
        )
    for key, value in given.items():
        if not isinstance(value, options[key].kind) or (options[key].kind is not bool and isinstance(value, bool)):
            kind = options[key].kind.__name__
            raise Refusal("COMPONENT", host, "%s: %s is a %s" % (name, key, type(value).__name__), "a %s" % kind, _FIX)
    return given


def _circle(by_name: Mapping[str, Component], left: Sequence[Component]) -> list[str]:
    """One of them: whoever is left waits for somebody who is left."""
    names = {component.name for component in left}
    path = [left[0].name]
    while path.count(path[-1]) == 1:
        path.append(next(one for one in by_name[path[-1]].after if one in names))
    return path[path.index(path[-1]) :]
