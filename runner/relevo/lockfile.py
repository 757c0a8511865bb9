"""What `requirements.lock` holds: which packages a controller needs of it, and which of them on another Python. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.markers import Marker, default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from relevo.errors import RelevoError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from packaging.utils import NormalizedName

_PIN = re.compile(r"(?P<name>[A-Za-z0-9._-]+)==(?P<version>[^\s;\\]+)\s*(?:;\s*(?P<marker>[^\\]+?))?\s*\\?$")
_HASH = re.compile(r"--hash=(sha256:[0-9a-f]{64})")
_VIA = re.compile(r"^    #(?: via)?\s+(?P<name>\S+)")


@dataclass(frozen=True)
class Pin:
    """One locked package. marker: on which Pythons it holds; via: the packages that want it."""

    name: NormalizedName
    version: str
    marker: str | None
    hashes: tuple[str, ...]
    via: frozenset[NormalizedName]

    def holds_on(self, python: str) -> bool:
        """Whether a controller with that Python, such as 3.13, on Linux installs it."""
        if self.marker is None:
            return True
        here = {
            **{name: str(value) for name, value in default_environment().items()},
            "python_version": python,
            "python_full_version": f"{python}.0",
            "sys_platform": "linux",
            "platform_system": "Linux",
            "os_name": "posix",
            "implementation_name": "cpython",
            "platform_python_implementation": "CPython",
        }
        return Marker(self.marker).evaluate(here)

    @property
    def line(self) -> str:
        """As pip reads it; the marker is judged already."""
        return " ".join([f"{self.name}=={self.version}", *(f"--hash={one}" for one in self.hashes)])


def parse(text: str) -> list[Pin]:
    """Every pin of a lock file that uv wrote. RelevoError for one without a hash, which nobody could check."""
    found: list[Pin] = []
    for block in re.split(r"\n(?=[A-Za-z0-9])", "\n".join(line for line in text.splitlines() if not line.startswith("#"))):
        lines = block.strip("\n").splitlines()
        pin = _PIN.match(lines[0]) if lines else None
        if pin is None:
            continue
        via = {canonicalize_name(seen["name"]) for line in lines[1:] if (seen := _VIA.match(line))}
        hashes = tuple(_HASH.findall(block))
        if not hashes:
            message = f"requirements.lock holds {pin['name']} without a hash. Write it anew, as its first lines say."
            raise RelevoError(message)
        found.append(Pin(canonicalize_name(pin["name"]), pin["version"], pin["marker"], hashes, frozenset(via)))
    return found


def needed(pins: Iterable[Pin], requirements: Iterable[str], python: str) -> list[Pin]:
    """The pins that these requirements, and theirs in turn, want on a Python. RelevoError when one of them is not locked."""
    here = [pin for pin in pins if pin.holds_on(python)]
    known = {pin.name for pin in here}
    wanted = {canonicalize_name(Requirement(text).name) for text in requirements}
    if missing := wanted - known:
        message = f"requirements.lock does not hold {', '.join(sorted(missing))} for Python {python}. Write it anew, as its first lines say."
        raise RelevoError(message)
    while more := {pin.name for pin in here if pin.name not in wanted and pin.via & wanted}:
        wanted |= more
    return [pin for pin in here if pin.name in wanted]


def text(pins: Sequence[Pin]) -> str:
    """A file of requirements that pip checks hash by hash."""
    return "".join(f"{pin.line}\n" for pin in pins)
