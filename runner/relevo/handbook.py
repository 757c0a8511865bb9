"""A runbook as it is printed: its page with the reader's own hosts and commands, how long it takes here, and who is called. Pure but for `read`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from markdown_it import MarkdownIt

from relevo import expectation, paper, report
from relevo.errors import UsageError
from relevo.pages import PAGES

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from relevo.estate import Host
    from relevo.policy import Policy
    from relevo.prediction import Prediction

# Asked of the inventory for a page.
ASKED = (
    "dr_address",
    "dr_app_health_url",
    "dr_app_unit",
    "dr_approval",
    "dr_approvers",
    "dr_cluster_data_directory",
    "dr_cluster_port",
    "dr_cluster_unit",
    "dr_fence_command_off",
    "dr_fence_command_status",
    "dr_keys_paths",
    "dr_pgbackrest_repositories",
)
BY_HAND = "docs/by_hand.md"
# How the pages name what is the reader's own; inside code only.
_EXAMPLE_UNIT, _EXAMPLE_CLUSTER = "postgresql@17-main.service", "minimarket"
_TARGET_INPUT = "dr_target_site"
# The first of these that a page has is what the reader came for.
_ORDER = ("Before you start", "What happens", "When it stops", "Undo", "Proof")
_PURPOSES = {
    "dr_database": "database",
    "dr_application": "application",
    "dr_witness": "witness",
    "dr_observer": "observer",
    "dr_sandbox": "sandbox",
    "dr_controller": "controller",
}
# Behind it the old side cannot be opened again, by runbook.
_POINTS = {"failover": "PROMOTE", "switchover": "PROMOTE", "failback": "REBUILD"}


class Form(StrEnum):
    """The forms of a printed runbook."""

    HTML = "html"
    PDF = "pdf"


@dataclass(frozen=True)
class Texts:
    """The sections of a runbook's page by heading, and the page on what is done by hand; both Markdown."""

    runbook: str
    sections: Mapping[str, str]
    by_hand: str


@dataclass(frozen=True)
class Here:
    """What the reader has: hosts, people, and how long it took so far."""

    hosts: Sequence[Host]
    policy: Policy
    prediction: Prediction


@dataclass(frozen=True)
class About:
    """Whose page it is. target: the site that serves afterwards, None where the runbook moves nothing; inventory: as it is typed."""

    cluster: str
    target: str | None
    inventory: str
    made_at: str
    made_by: str
    commit: str


def read(project: Path, runbook: str) -> Texts:
    """The texts of a runbook. UsageError when it has no page."""
    path = project / PAGES / f"{runbook}.md"
    try:
        page, by_hand = path.read_text(encoding="utf-8"), (project / BY_HAND).read_text(encoding="utf-8")
    except OSError as error:
        message = f"{error.filename} cannot be read: {error.strerror}. A runbook is printed from its page."
        raise UsageError(message) from error
    return Texts(runbook, _sections(page), by_hand.partition("\n")[2])


def target_of(texts: Texts, hosts: Sequence[Host], wanted: str | None) -> str | None:
    """The site to which a page leads. UsageError when nobody said it and there are several."""
    if f"{_TARGET_INPUT}=" not in texts.sections["Command"]:
        return None
    sites = targets(hosts)
    if wanted in sites:
        return wanted
    message = f"To which site? Give --to with one of {', '.join(sites) or 'none: the inventory has no dr_database with a dr_site'}."
    raise UsageError(message)


def targets(hosts: Sequence[Host]) -> list[str]:
    """The sites that have a database."""
    return sorted({host.site for host in hosts if "dr_database" in host.groups and host.site})


def render(texts: Texts, about: About, here: Here, form: Form) -> bytes:
    """The page. RelevoError where a PDF cannot be made on this machine."""
    hosts = here.hosts
    paged = form is Form.PDF
    own = _names(about, hosts)
    markdown = _markdown(own)
    view = {
        "about": about,
        "runbook": texts.runbook,
        "title": texts.runbook.replace("_", " ").capitalize(),
        "purpose": markdown.render(texts.sections["Purpose"]),
        "commands": [own.put(block) for block in _code(texts.sections["Command"])],
        "words": f"{texts.runbook} {about.cluster} to {about.target}" if about.target else None,
        "inputs": markdown.render(_without_code(texts.sections["Command"])),
        "sections": [(name, markdown.render(texts.sections[name])) for name in _ORDER],
        "by_hand": markdown.render(_one_lower(texts.by_hand)),
        "hosts": [_row(host) for host in hosts if not host.local],
        "fences": [_fence(host) for host in hosts if host.variables.get("dr_fence_command_off")],
        "repositories": _first(hosts, "dr_pgbackrest_repositories") or [],
        "keys": _first(hosts, "dr_keys_paths") or [],
        "approvers": [one["name"] for one in _first(hosts, "dr_approvers") or []] if _first(hosts, "dr_approval") == "dual" else [],
        "escalation": here.policy.escalation,
        "contacts": here.policy.contacts,
        "prediction": here.prediction,
        "rests_on": expectation.rests_on,
        "point": _POINTS.get(texts.runbook),
        "paged": paged,
        "cards": [],
    }
    environment = report.templates(report.as_printed if paged else report.as_shown)
    page = environment.get_template("runbook.html.j2").render(view).rstrip() + "\n"
    return paper.print_page(page) if paged else page.encode("utf-8", "replace")


def _first(hosts: Sequence[Host], variable: str) -> Any:
    return next((host.variables[variable] for host in hosts if host.variables.get(variable) is not None), None)


def _row(host: Host) -> dict[str, Any]:
    said = host.variables
    what = [_PURPOSES[group] for group in host.groups if group in _PURPOSES]
    port = f"-p {host.port} " if host.port else ""
    units = [
        said[name]
        for name, group in (("dr_cluster_unit", "database"), ("dr_app_unit", "application"))
        if group in what and said.get(name)
    ]
    return {
        "name": host.name,
        "site": host.site,
        "what": ", ".join(what) or "other",
        "way": f"ssh {port}{host.user + '@' if host.user else ''}{host.address}",
        "clients": said.get("dr_address") if said.get("dr_address") != host.address else None,
        "units": units,
        "health": said.get("dr_app_health_url") if "application" in what else None,
    }


def _fence(host: Host) -> tuple[str, str, str]:
    words = (host.variables.get(name) or [] for name in ("dr_fence_command_off", "dr_fence_command_status"))
    off, status = (" ".join(map(str, command)) for command in words)
    return host.name, off, status


# -- the reader's own names in the texts --


@dataclass(frozen=True)
class Names:
    """What stands in the pages' code, and what it is here."""

    own: Mapping[str, str]

    def put(self, text: str) -> str:
        """All at once: what was put in is not looked at again."""
        words = "|".join(re.escape(word) for word in sorted(self.own, key=len, reverse=True))
        return re.sub(rf"(?<![\w.@-])(?:{words})(?![\w-])", lambda found: self.own[found[0]], text)


def _names(about: About, hosts: Sequence[Host]) -> Names:
    """The example's site a is the one that is left, its b the target."""
    left = [site for site in targets(hosts) if site != about.target] or ["a"]
    found = {"INVENTORY": about.inventory, _EXAMPLE_CLUSTER: about.cluster}
    if unit := _first(hosts, "dr_cluster_unit"):
        found[_EXAMPLE_UNIT] = str(unit)
    for letter, site in (("a", left[0]), ("b", about.target or left[-1])):
        for word, group in (("db", "dr_database"), ("app", "dr_application")):
            here = [host.name for host in hosts if host.site == site and group in host.groups]
            found |= {f"{letter}-{word}1": name for name in here[:1]}
        found[f"{_TARGET_INPUT}={letter}"] = f"{_TARGET_INPUT}={site}"
        found[f"{_EXAMPLE_CLUSTER} to {letter}"] = f"{about.cluster} to {site}"
    return Names(found)


# -- Markdown --


def _sections(page: str) -> dict[str, str]:
    found: dict[str, str] = {}
    fenced, name = False, ""
    for line in page.splitlines():
        fenced ^= line.startswith("```")
        if line.startswith("## ") and not fenced:
            name = line[3:].strip()
            found[name] = ""
        elif name:
            found[name] += f"{line}\n"
    return found


def _code(section: str) -> list[str]:
    return [block.strip() for block in re.findall(r"^```\w*\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)]


def _without_code(section: str) -> str:
    return re.sub(r"^```\w*\n.*?^```$\n?", "", section, flags=re.DOTALL | re.MULTILINE)


def _one_lower(page: str) -> str:
    return re.sub(r"^## ", "### ", page, flags=re.MULTILINE)


def _markdown(names: Names) -> MarkdownIt:
    """Markup of the pages is none; what they link to is not there on paper."""
    found = MarkdownIt("commonmark", {"html": False}).enable("table")
    found.core.ruler.push("own_names", lambda state: _rename(state.tokens, names))
    for name in ("link_open", "link_close"):
        found.add_render_rule(name, lambda *_: "")
    return found


def _rename(tokens: Any, names: Names) -> None:
    for token in tokens:
        if token.type in {"fence", "code_inline", "code_block"}:
            token.content = names.put(token.content)
        _rename(token.children or (), names)
