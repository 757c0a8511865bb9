# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
"""Which image each service of a Docker Compose project is made from, as ``docker compose config`` says it. Pure."""

from __future__ import annotations

import json
import re
from typing import Optional

# A key of a service, and its image, as compose itself writes them; what has several lines stands deeper.
_SERVICE = re.compile(r"  (\S+):")
_IMAGE = re.compile(r"    image: (\S+)")
# What compose takes out of a directory's name to have a project's.
_FOREIGN = re.compile(r"[^-_a-z0-9]")


def of_json(text: str, name: str) -> dict[str, str]:
    """By service, of ``config --format json``. name: of the project, where it says none. Raises ValueError for something else."""
    said = json.loads(text)
    project = said.get("name") or plain(name)
    return {service: (entry or {}).get("image") or "%s-%s" % (project, service) for service, entry in said["services"].items()}


def of_yaml(text: str, name: str) -> dict[str, str]:
    """By service, of ``config`` of docker-compose 1, which has no other form, on a host that may have no reader of YAML. name: of the project."""
    found: dict[str, str] = {}
    inside, service = False, ""
    for line in text.splitlines():
        if line and not line[0].isspace():
            inside = line == "services:"
        key, image = _match(_SERVICE, line), _match(_IMAGE, line)
        if inside and key is not None:
            service = key
            found[service] = "%s_%s" % (plain(name), service)
        elif inside and image is not None:
            found[service] = image
    return found


def plain(name: str) -> str:
    """A project's name as both kinds of compose write it into that of an image."""
    return _FOREIGN.sub("", name.lower()).lstrip("_-")


def _match(form: re.Pattern[str], line: str) -> Optional[str]:
    found = form.fullmatch(line)
    return found[1].strip("'\"") if found else None
