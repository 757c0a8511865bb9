"""The wheels that a controller with another Python installs: found in a directory, else fetched by pip, each by the hashes of the lock."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING

from packaging.tags import Tag, compatible_tags, cpython_tags
from packaging.utils import InvalidWheelFilename, parse_wheel_filename

from relevo import lockfile
from relevo.digest import file_digest
from relevo.errors import RelevoError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from relevo.lockfile import Pin

# That of Debian 12, the oldest host that a pack is opened on.
_NEWEST_GLIBC_MINOR = 36
_OLDEST_GLIBC_MINOR = 5
_LEGACY = {"manylinux2014": 17, "manylinux2010": 12, "manylinux1": 5}
_FETCH_SECONDS = 1800


def gather(directory: Path, pins: Sequence[Pin], python: str, architecture: str) -> list[Path]:
    """One wheel of each pin that fits, in a directory; what is missing there is fetched. RelevoError when it cannot be had."""
    missing = [pin for pin in pins if _find(directory, pin, python, architecture) is None]
    if missing:
        _fetch(directory, missing, python, architecture)
    found = [_find(directory, pin, python, architecture) for pin in pins]
    lacking = [pin.name for pin, path in zip(pins, found, strict=True) if path is None]
    if lacking:
        message = f"No wheel of {', '.join(lacking)} for Python {python} on {architecture} came to {directory}."
        raise RelevoError(message)
    return [path for path in found if path is not None]


def glibc_of(names: Iterable[str]) -> tuple[int, int]:
    """The glibc that all of these wheels run with."""
    return (2, max((_lowest(name) for name in names), default=_OLDEST_GLIBC_MINOR))


def _find(directory: Path, pin: Pin, python: str, architecture: str) -> Path | None:
    fitting = set(_tags(python, architecture))
    for path in sorted(directory.glob("*.whl")):
        try:
            name, version, _, tags = parse_wheel_filename(path.name)
        except InvalidWheelFilename:
            continue
        if name == pin.name and str(version) == pin.version and tags & fitting and f"sha256:{file_digest(path)}" in pin.hashes:
            return path
    return None


def _lowest(name: str) -> int:
    minors = [_minor(tag.platform) for tag in parse_wheel_filename(name)[3]]
    return min((minor for minor in minors if minor is not None), default=_OLDEST_GLIBC_MINOR)


def _minor(platform: str) -> int | None:
    family, _, _ = platform.partition("_")
    if family in _LEGACY:
        return _LEGACY[family]
    words = platform.split("_")
    return int(words[2]) if family == "manylinux" and words[2].isdigit() else None


def _platforms(architecture: str) -> list[str]:
    exact = [f"manylinux_2_{minor}_{architecture}" for minor in range(_NEWEST_GLIBC_MINOR, _OLDEST_GLIBC_MINOR - 1, -1)]
    return [*exact, *(f"{family}_{architecture}" for family in _LEGACY), f"linux_{architecture}"]


def _tags(python: str, architecture: str) -> Iterator[Tag]:
    major, minor = map(int, python.split("."))
    platforms = _platforms(architecture)
    yield from cpython_tags((major, minor), [f"cp{major}{minor}"], platforms)
    yield from compatible_tags((major, minor), f"cp{major}{minor}", platforms)


def _fetch(directory: Path, pins: Sequence[Pin], python: str, architecture: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    words = ["--quiet", "--no-input", "--disable-pip-version-check", "--no-deps", "--require-hashes", "--only-binary", ":all:"]
    words += ["--implementation", "cp", "--python-version", python]
    words += [word for platform in _platforms(architecture) for word in ("--platform", platform)]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as requirements:
        requirements.write(lockfile.text(pins))
        requirements.flush()
        command = [sys.executable, "-m", "pip", "download", *words, "--dest", str(directory), "--requirement", requirements.name]
        try:
            done = subprocess.run(
                command,
                capture_output=True,
                text=True,
                check=False,
                timeout=_FETCH_SECONDS,
                stdin=subprocess.DEVNULL,
                env={**os.environ, "PIP_NO_COLOR": "1"},
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise RelevoError(_unfetched(pins, python, str(error))) from error
    if done.returncode != 0:
        said = [line for line in done.stderr.splitlines() if line.startswith("ERROR")] or done.stderr.splitlines()
        raise RelevoError(_unfetched(pins, python, said[-1].strip() if said else "no reason given"))


def _unfetched(pins: Sequence[Pin], python: str, reason: str) -> str:
    names = ", ".join(pin.name for pin in pins)
    return (
        f"Wheels for Python {python} cannot be fetched: {reason}. Wanted: {names}. "
        "Next: try again where a registry answers, or name a directory that holds them with --wheels."
    )
