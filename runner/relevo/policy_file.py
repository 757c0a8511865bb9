"""Where the policy is found, and how it is read: a user's file over the defaults, each mistake with its line."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from pydantic import ValidationError

from relevo import paths
from relevo.errors import PolicyError, UsageError
from relevo.policy import Policy, dangling

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_core import ErrorDetails

VARIABLE = "RELEVO_POLICY"
NAME = "policy.yml"
_EXAMPLE = "example"  # what a user copies; nobody's policy
_BUILT_IN = "the built-in policy"

Location = tuple[str | int, ...]


@dataclass(frozen=True)
class Loaded:
    """A policy, and what it was read from. digest: SHA-256 of the user's file, as `sha256sum` prints it; None for the defaults alone."""

    policy: Policy
    source: str
    digest: str | None

    def document(self) -> dict[str, str | None]:
        """For a report: which policy judged."""
        return {"source": self.source, "sha256": self.digest}


def load(given: Path | None, start: Path, environment: Mapping[str, str]) -> Loaded:
    """The policy that holds. PolicyError with file and line for each mistake."""
    path = find(given, start, environment)
    if path is None:
        return Loaded(parse(None, _BUILT_IN), _BUILT_IN, None)
    try:
        data = path.read_bytes()
        text = data.decode()
    except (OSError, UnicodeError) as error:
        message = f"The policy {path} cannot be read: {getattr(error, 'strerror', None) or 'it is no UTF-8 text'}."
        raise PolicyError(message) from error
    return Loaded(parse(text, str(path)), str(path), hashlib.sha256(data).hexdigest())


def find(given: Path | None, start: Path, environment: Mapping[str, str]) -> Path | None:
    """The file that was named, else the one policy.yml in the project's inventories; None when there is none. PolicyError for several."""
    if given is None and environment.get(VARIABLE):
        given = Path(environment[VARIABLE])
    if given is not None:
        return given.expanduser().absolute()
    try:
        project = paths.find_project(start, environment)
    except UsageError:
        return None
    found = sorted(path for path in (project / "inventories").glob(f"*/{NAME}") if path.parent.name != _EXAMPLE)
    if len(found) > 1:
        message = f"There are several policies: {', '.join(map(str, found))}. Name one with --policy or {VARIABLE}; one serves all clusters."
        raise PolicyError(message)
    return found[0] if found else None


def parse(text: str | None, source: str) -> Policy:
    """A user's text over the defaults. PolicyError: every mistake as file, line, place, observed, expected."""
    defaults = yaml.safe_load(files("relevo").joinpath("data", NAME).read_text(encoding="utf-8"))
    own, lines = _read(text, source) if text is not None else ({}, {})
    own = {key: value for key, value in own.items() if value is not None}  # a key whose entries are all remarks
    try:
        policy = Policy.model_validate(_over(defaults, own))
    except ValidationError as error:
        mistakes = {place: _sentence(one, place) for one in error.errors() for place in (_places(one["loc"]),)}
        raise PolicyError("\n".join(_mistake(source, lines, *one) for one in mistakes.items())) from error
    loose = dangling(policy)
    if loose:
        raise PolicyError("\n".join(_mistake(source, lines, place, sentence) for place, sentence in loose))
    return policy


def _read(text: str, source: str) -> tuple[dict[str, Any], dict[Location, int]]:
    """The tree, and the line of each place in it."""
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = f", line {mark.line + 1}" if mark else ""
        message = f"{source}{where}: no YAML: {error.problem or error.context}."
        raise PolicyError(message) from error
    except (yaml.YAMLError, ValueError) as error:
        message = f"{source}: no YAML: {str(error).splitlines()[0]}."
        raise PolicyError(message) from error
    if node is None:
        return {}, {}
    if not isinstance(tree, dict):
        message = f"{source}, line 1: observed no mapping; expected keys such as clusters: and contacts:, as in inventories/example/{NAME}."
        raise PolicyError(message)
    lines: dict[Location, int] = {}
    for place, line in _walk(node, ()):
        if place in lines:
            message = (
                f"{source}, line {line}: {_shown(place)} stands twice, first on line {lines[place]}; one of them would be lost."
            )
            raise PolicyError(message)
        lines[place] = line
    return tree, lines


def _walk(node: yaml.Node, place: Location) -> Iterator[tuple[Location, int]]:
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            yield inner, key.start_mark.line + 1
            yield from _walk(value, inner)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            yield (*place, number), value.start_mark.line + 1
            yield from _walk(value, (*place, number))


def _over(below: Any, above: Any) -> Any:
    """Mappings key by key; null takes a key out; anything else replaces."""
    if not (isinstance(below, dict) and isinstance(above, dict)):
        return above
    merged = {**below, **{key: _over(below.get(key), value) for key, value in above.items()}}
    return {key: value for key, value in merged.items() if value is not None or key not in below}


def _places(location: Location) -> Location:
    """Without what pydantic adds: the kind of evidence, the alternatives of a union."""
    kinds = {"test", "run", "objective", "documents", "sign_off", "contacts", "escalation", "records", "findings"}
    found: list[str | int] = []
    for number, part in enumerate(location):
        inside_evidence = number > 1 and location[number - 2] == "rests_on"
        if (
            part in {"bool", "float", "str"}
            or (isinstance(part, str) and part.startswith("list["))
            or (inside_evidence and part in kinds)
        ):
            continue
        found.append(part)
    return tuple(found)


def _sentence(error: ErrorDetails, place: Location) -> str:
    if place[-1:] == ("threshold",) and error["type"] != "value_error":
        return f"observed {error['input']!r}; expected a number, a word, true or false, or a list of them"
    said = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        return said
    if error["type"] == "missing":
        return "observed nothing; expected a value"
    if error["type"] == "extra_forbidden":
        return "observed a key that means nothing here; expected one of those in docs/policy.md"
    return f"observed {error['input']!r}; expected: {said[0].lower()}{said[1:]}"


def _mistake(source: str, lines: Mapping[Location, int], place: Location, sentence: str) -> str:
    """The line of the place, or of what is nearest above it."""
    known = next((lines[place[:length]] for length in range(len(place), 0, -1) if place[:length] in lines), None)
    where = f", line {known}" if known is not None else ", what it leaves of the defaults" if lines else ""
    return f"{source}{where}: {_shown(place)}: {sentence}."


def _shown(place: Location) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in place).lstrip(".") or "the whole"
