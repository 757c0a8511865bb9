"""A server that answers as AWX's API does, as far as its modules ask, and keeps what it is told.

Written to the behaviour that AWX documents: lists by pages, links in `related`, associations by POST, surveys and approvals as resources of their own,
and the refusals that a configuration meets: a playbook that the project does not have, a schedule that AWX cannot read, a variable that nobody asks for.
"""

from __future__ import annotations

import copy
import json
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from dateutil import rrule
from jinja2 import StrictUndefined, UndefinedError
from jinja2.sandbox import ImmutableSandboxedEnvironment

PAGE = 3  # of a setting; small, so that there are many pages
HIDDEN = "$encrypted$"
TYPES = {
    "organizations": "organization",
    "execution_environments": "execution_environment",
    "projects": "project",
    "project_updates": "project_update",
    "inventories": "inventory",
    "inventory_sources": "inventory_source",
    "credential_types": "credential_type",
    "credentials": "credential",
    "notification_templates": "notification_template",
    "job_templates": "job_template",
    "workflow_job_templates": "workflow_job_template",
    "workflow_job_template_nodes": "workflow_job_template_node",
    "workflow_approval_templates": "workflow_approval_template",
    "schedules": "schedule",
}
UNIFIED = ("job_templates", "workflow_job_templates", "projects", "inventory_sources")
ASSOCIATED = {
    "credentials": "credentials",
    "success_nodes": "workflow_job_template_nodes",
    "failure_nodes": "workflow_job_template_nodes",
    "always_nodes": "workflow_job_template_nodes",
    **{f"notification_templates_{when}": "notification_templates" for when in ("started", "success", "error", "approvals")},
}
# What makes an object another one; AWX refuses a second with the same.
UNIQUE = {
    "workflow_job_template_nodes": ("workflow_job_template", "identifier"),
    "schedules": ("unified_job_template", "name"),
    "inventory_sources": ("inventory", "name"),
    "credentials": ("organization", "name", "credential_type"),
    "workflow_approval_templates": ("id",),
    "project_updates": ("id",),
}
SURVEYED = ("job_templates", "workflow_job_templates")
_TYPE_OF_ANSWER = {"text": str, "textarea": str, "multiplechoice": str, "integer": int, "float": (int, float), "multiselect": list}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "inventories": {"kind": "", "host_filter": None, "variables": ""},
    "job_templates": {"survey_enabled": False, "extra_vars": ""},
    "workflow_job_templates": {"survey_enabled": False, "extra_vars": ""},
    "workflow_job_template_nodes": {"extra_data": {}, "unified_job_template": None, "all_parents_must_converge": False},
    "schedules": {"extra_data": {}, "enabled": True},
    "workflow_approval_templates": {"description": "", "timeout": 0},
}


class RefusedError(Exception):
    """A 400 with its reasons."""


class Controller(ThreadingHTTPServer):
    """The server. playbooks: what a synchronised project is found to have; known: of each kind, objects that were there before."""

    daemon_threads = True

    def __init__(self, playbooks: list[str]) -> None:
        super().__init__(("127.0.0.1", 0), _Answer)
        self.playbooks = sorted(playbooks)
        self.objects: dict[str, dict[int, dict[str, Any]]] = {kind: {} for kind in TYPES}
        self.surveys: dict[tuple[str, int], dict[str, Any]] = {}
        self.links: dict[tuple[str, int, str], list[int]] = {}
        self.lock, self.last = threading.Lock(), 0
        self.create("organizations", {"name": "Default"})
        self.create("credential_types", {"name": "Machine", "kind": "ssh", "inputs": {}, "injectors": {}})
        self.create(
            "credential_types", {"name": "Red Hat Ansible Automation Platform", "kind": "cloud", "inputs": {}, "injectors": {}}
        )
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def state(self) -> Any:
        """All that it keeps, as a copy."""
        return copy.deepcopy((self.objects, self.surveys, self.links))

    def named(self, kind: str, name: str) -> dict[str, Any]:
        """The one object of that name."""
        (found,) = [one for one in self.objects[kind].values() if one["name"] == name]
        return found

    def linked(self, kind: str, one: int, what: str) -> list[str]:
        """The names, or identifiers, of what an object is associated with."""
        target = self.objects[ASSOCIATED[what]]
        return [target[each].get("identifier") or target[each]["name"] for each in self.links.get((kind, one, what), [])]

    # -- what is done --

    def create(self, kind: str, data: dict[str, Any]) -> dict[str, Any]:
        """A new object. RefusedError as AWX refuses it."""
        key = UNIQUE.get(kind, ("organization", "name"))
        if any(all(other.get(name) == data.get(name) for name in key) for other in self.objects[kind].values()):
            raise RefusedError({"__all__": [f"{TYPES[kind]} with this {' and '.join(key)} already exists."]})
        self._judge(kind, data)
        self.last += 1
        made = {**copy.deepcopy(_DEFAULTS.get(kind, {})), **copy.deepcopy(data), "id": self.last}
        self.objects[kind][self.last] = made
        if kind == "projects":
            made.update(playbook_files=[], scm_revision="")
            made["current_update"] = self.create("project_updates", {"name": made["name"], "project": made["id"], "polls": 0})["id"]
        return made

    def change(self, kind: str, one: int, data: dict[str, Any]) -> dict[str, Any]:
        """The object after a PATCH; what AWX knows no field for is passed over."""
        known = self.objects[kind][one]
        fields = {"name", "description", "timeout"} if kind == "workflow_approval_templates" else set(data)
        wanted = {name: value for name, value in data.items() if name in fields}
        self._judge(kind, {**known, **wanted})
        for name, value in copy.deepcopy(wanted).items():
            known[name] = _kept(known.get(name), value)
        return known

    def approve(self, node: int, data: dict[str, Any]) -> dict[str, Any]:
        """A node becomes one that waits for a person."""
        made = self.create(
            "workflow_approval_templates", {name: data[name] for name in ("name", "description", "timeout") if name in data}
        )
        self.objects["workflow_job_template_nodes"][node]["unified_job_template"] = made["id"]
        return made

    def associate(self, kind: str, one: int, what: str, data: dict[str, Any]) -> None:
        """Bind another object to this one, or loose it."""
        held, other = self.links.setdefault((kind, one, what), []), int(data["id"])
        target = self.objects[ASSOCIATED[what]]
        if other not in target:
            raise RefusedError({"detail": f"{ASSOCIATED[what]} {other} not found."})
        if data.get("disassociate"):
            held.remove(other)
            return
        if what == "credentials":
            same = [each for each in held if target[each]["credential_type"] == target[other]["credential_type"]]
            if same:
                raise RefusedError(
                    {"detail": f"Cannot assign multiple credentials of the type {target[other]['credential_type']}."}
                )
        if what.endswith("_nodes") and target[other]["workflow_job_template"] != target[one]["workflow_job_template"]:
            raise RefusedError({"detail": "Cannot relate nodes of different workflows."})
        held.append(other)

    def survey(self, kind: str, one: int, data: dict[str, Any]) -> None:
        """Keep a survey. RefusedError as AWX refuses it."""
        if not isinstance(data.get("name"), str) or not isinstance(data.get("description"), str) or not data.get("spec"):
            raise RefusedError({"error": "name, description and questions are needed"})
        seen = set()
        for question in data["spec"]:
            for field, kind_of in (("type", str), ("question_name", str), ("variable", str), ("required", bool)):
                if not isinstance(question.get(field), kind_of):
                    raise RefusedError({"error": f"'{field}' of {question} is missing or of another type"})
            if question["type"] not in _TYPE_OF_ANSWER or question["variable"] in seen:
                raise RefusedError({"error": f"{question['variable']}: unknown type, or asked twice"})
            seen.add(question["variable"])
            if question["type"] == "multiplechoice" and not question.get("choices"):
                raise RefusedError({"error": f"{question['variable']} must specify choices"})
            if question["type"] == "multiplechoice" and question.get("default", "") not in ["", *question["choices"]]:
                raise RefusedError({"error": f"{question['variable']}: the default is none of the choices"})
        self.surveys[kind, one] = copy.deepcopy(data)

    # -- what is refused --

    def _judge(self, kind: str, data: dict[str, Any]) -> None:
        for field, target in (("project", "projects"), ("inventory", "inventories"), ("organization", "organizations")):
            if data.get(field) is not None and data[field] not in self.objects[target]:
                raise RefusedError({field: [f"Invalid pk {data[field]}"]})
        judge = getattr(self, f"_judge_{kind}", None)
        if judge is not None:
            judge(data)

    def _judge_job_templates(self, data: dict[str, Any]) -> None:
        if data["playbook"] not in self.objects["projects"][data["project"]]["playbook_files"]:
            raise RefusedError({"playbook": ["Playbook not found for project."]})

    def _judge_schedules(self, data: dict[str, Any]) -> None:
        text = data["rrule"]
        starts, rules = re.findall(r"DTSTART(?:;[^:]+)?:\d+T\d+Z?", text), re.findall(r"RULE:[^\s]*", text)
        if len(starts) != 1 or re.search(r"DTSTART:\d+T\d+ ", text) or not rules:
            raise RefusedError({"rrule": ["One DTSTART with a zone and at least one rule are required."]})
        if any("INTERVAL" not in rule or "SECONDLY" in rule or re.search(r"BYDAY[:=]\d", rule) for rule in rules):
            raise RefusedError({"rrule": ["INTERVAL is required; SECONDLY and numbered days are not supported."]})
        rrule.rrulestr(re.sub(r"DTSTART;TZID=[^:]+:", "DTSTART:", text).replace(" ", "\n"))
        self._judge_answers(data["unified_job_template"], data.get("extra_data") or {}, complete=True)

    def _judge_workflow_job_template_nodes(self, data: dict[str, Any]) -> None:
        if data.get("unified_job_template") is not None:
            self._judge_answers(data["unified_job_template"], data.get("extra_data") or {}, complete=False)

    def _judge_answers(self, template: int, answers: dict[str, Any], *, complete: bool) -> None:
        kind = next((each for each in SURVEYED if template in self.objects[each]), None)
        asked = {
            question["variable"]: question
            for question in (self.surveys.get((kind or "", template)) or {"spec": []})["spec"]
            if kind and self.objects[kind][template]["survey_enabled"]
        }
        judge_answers(asked, answers, complete=complete)

    def _judge_credential_types(self, data: dict[str, Any]) -> None:
        fields = {field["id"]: "EXAMPLE" for field in data["inputs"].get("fields", [])}
        files = data["injectors"].get("file", {})
        odd = [name for name in files if not re.fullmatch(r"template(\.[a-zA-Z_]+[a-zA-Z0-9_]*)?", name)]
        odd += [name for name in data["injectors"].get("env", {}) if not re.fullmatch(r"[a-zA-Z_]+[a-zA-Z0-9_]*", name)]
        odd += [name for name in data["injectors"].get("env", {}) if name.startswith("ANSIBLE_") or name in {"PATH", "PYTHONPATH"}]
        if odd:
            raise RefusedError({"injectors": [f"{', '.join(odd)}: not allowed"]})
        named = {"filename": {name.partition(".")[2]: "EXAMPLE" for name in files}}
        environment = ImmutableSandboxedEnvironment(undefined=StrictUndefined)
        for template in [*files.values(), *data["injectors"].get("env", {}).values()]:
            try:
                environment.from_string(template).render({**fields, "tower": named})
            except UndefinedError as error:
                raise RefusedError({"injectors": [f"uses an undefined field ({error})"]}) from error

    # -- what is read --

    def listed(self, kind: str, query: dict[str, str]) -> list[dict[str, Any]]:
        """Objects of a kind, or of all kinds of templates, that these filters leave over."""
        kinds = UNIFIED if kind == "unified_job_templates" else (kind,)
        found = [(each, one) for each in kinds for one in self.objects[each].values()]
        either = {name[4:]: value for name, value in query.items() if name.startswith("or__")}
        exact = {name: value for name, value in query.items() if name not in {"page", "page_size"} and not name.startswith("or__")}

        def same(each: str, one: dict[str, Any], name: str, value: str) -> bool:
            return str({**one, "type": TYPES[each]}.get(name)) == value

        return [
            self.shown(each, one)
            for each, one in found
            if all(same(each, one, name, value) for name, value in exact.items())
            and (not either or any(same(each, one, name, value) for name, value in either.items()))
        ]

    def shown(self, kind: str, one: dict[str, Any]) -> dict[str, Any]:
        """An object as the API shows it."""
        url = f"/api/v2/{kind}/{one['id']}/"
        related = {name: f"{url}{name}/" for name in (*ASSOCIATED, "survey_spec")}
        summary: dict[str, Any] = {}
        if kind == "workflow_job_template_nodes":
            template = one.get("unified_job_template")
            where = next((each for each in (*UNIFIED, "workflow_approval_templates") if template in self.objects[each]), None)
            related.pop("survey_spec")
            if where:
                related["unified_job_template"] = f"/api/v2/{where}/{template}/"
        if kind == "projects" and one.get("current_update"):
            related["current_update"] = f"/api/v2/project_updates/{one['current_update']}/"
            summary["current_update"] = {"id": one["current_update"]}
        if kind == "project_updates":
            one = {**one, **self._poll(one)}
        shown = {**one, "type": TYPES[kind], "url": url, "related": related, "summary_fields": summary}
        if kind == "credentials":
            secret = {
                field["id"]
                for field in self.objects["credential_types"][one["credential_type"]]["inputs"].get("fields", [])
                if field.get("secret")
            }
            shown["inputs"] = {name: HIDDEN if name in secret else value for name, value in one["inputs"].items()}
        if kind == "notification_templates" and one["notification_configuration"].get("password"):
            shown["notification_configuration"] = {**one["notification_configuration"], "password": HIDDEN}
        return copy.deepcopy(shown)

    def _poll(self, update: dict[str, Any]) -> dict[str, Any]:
        """A synchronisation is over when it was asked for twice; only then the project's playbooks are known."""
        update["polls"] += 1
        if update["polls"] == 1:
            return {"status": "running", "finished": None}
        project = self.objects["projects"][update["project"]]
        project.update(current_update=None, playbook_files=self.playbooks)
        return {"status": "successful", "finished": "2026-11-28T08:00:00Z", "scm_revision": "1f3a"}


def judge_answers(asked: dict[str, dict[str, Any]], answers: dict[str, Any], *, complete: bool) -> None:
    """RefusedError as AWX refuses answers to these questions, by variable. complete: nothing is answered later."""
    foreign = sorted(set(answers) - set(asked))
    if foreign:
        raise RefusedError({"extra_data": [f"Variables {', '.join(foreign)} are not allowed on launch."]})
    missing = sorted(name for name, question in asked.items() if question["required"] and name not in answers)
    if complete and missing:
        raise RefusedError({"variables_needed_to_start": [f"'{name}' value missing" for name in missing]})
    for name, value in answers.items():
        problem = wrong_answer(asked[name], value)
        if problem:
            raise RefusedError({"variables_needed_to_start": [problem]})


def wrong_answer(question: dict[str, Any], value: Any) -> str | None:
    """Why AWX does not take an answer, or None."""
    name, kind = question["variable"], question["type"]
    if not isinstance(value, _TYPE_OF_ANSWER[kind]):
        return f"Value {value} for '{name}' expected to be of type {kind}."
    if kind == "multiplechoice" and value not in question["choices"]:
        return f"Value {value} for '{name}' expected to be one of {question['choices']}."
    if kind == "text" and not (question.get("min") or 0) <= len(value) <= (question.get("max") or 1024):
        return f"'{name}' value {value} is too small or too large."
    return None


def _kept(old: Any, new: Any) -> Any:
    """What is sent back as hidden stays what it was."""
    if isinstance(old, dict) and isinstance(new, dict):
        return {name: _kept(old.get(name), value) for name, value in new.items()}
    return old if new == HIDDEN else new


class _Answer(BaseHTTPRequestHandler):
    server: Controller
    wbufsize = -1  # one packet for each answer: half of one waits for the other side's word

    def do_GET(self) -> None:
        self._do("GET")

    def do_POST(self) -> None:
        self._do("POST")

    def do_PATCH(self) -> None:
        self._do("PATCH")

    def do_DELETE(self) -> None:
        self._do("DELETE")

    def _do(self, method: str) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        data = json.loads(self.rfile.read(length)) if length else {}
        address = urlsplit(self.path)
        parts = address.path.strip("/").split("/")[2:]
        query = {name: values[0] for name, values in parse_qs(address.query).items()}
        with self.server.lock:
            try:
                status, answer = self._answer(method, parts, query, data)
            except RefusedError as error:
                status, answer = 400, error.args[0]
            except KeyError as error:
                status, answer = 404, {"detail": f"Not found: {error}"}
        body = b"" if answer is None else json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("X-API-Product-Name", "AWX")
        self.send_header("X-API-Product-Version", "24.6.1")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _answer(self, method: str, parts: list[str], query: dict[str, str], data: dict[str, Any]) -> tuple[int, Any]:
        server, kind = self.server, parts[0]
        if len(parts) == 1:
            if method == "POST":
                return 201, server.shown(kind, server.create(kind, data))
            return 200, self._page(server.listed(kind, query), f"/api/v2/{kind}/", query)
        one = int(parts[1])
        known = server.objects[kind][one]
        if len(parts) == 2:
            return 200, server.shown(kind, server.change(kind, one, data) if method == "PATCH" else known)
        if kind == "workflow_approval_templates":
            raise KeyError(parts[2])  # what follows an approval is bound to its node
        return self._beside(method, kind, one, parts[2], query, data)

    def _beside(self, method: str, kind: str, one: int, what: str, query: dict[str, str], data: dict[str, Any]) -> tuple[int, Any]:
        """What has an address below that of an object."""
        server = self.server
        if what == "survey_spec":
            if method == "POST":
                server.survey(kind, one, data)
            return 200, server.surveys.get((kind, one), {})
        if what == "create_approval_template":
            return 201, server.shown("workflow_approval_templates", server.approve(one, data))
        if method == "POST":
            server.associate(kind, one, what, data)
            return 204, None
        target = ASSOCIATED[what]
        found = [server.shown(target, server.objects[target][each]) for each in server.links.get((kind, one, what), [])]
        return 200, self._page(found, f"/api/v2/{kind}/{one}/{what}/", query)

    def _page(self, found: list[dict[str, Any]], path: str, query: dict[str, str]) -> dict[str, Any]:
        page = int(query.get("page", 1))
        more = len(found) > page * PAGE
        following = f"{path}?{urlencode({**query, 'page': page + 1})}" if more else None
        return {"count": len(found), "next": following, "previous": None, "results": found[(page - 1) * PAGE : page * PAGE]}

    def log_message(self, *_: object) -> None:
        return
