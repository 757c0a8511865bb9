#!/usr/bin/python
# Copyright: the Relevo maintainers
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)

from __future__ import annotations

DOCUMENTATION = r"""
module: application_proof
short_description: Use an application from outside as its users do, and say what came of it
description:
  - Runs on the witness. Asks every endpoint which server answers; at the first that answers writes a nonce, logs in, and sends the request mix for a while.
  - Measures, and judges nothing. The orders of a mix are real orders.
options:
  endpoints: {description: "Addresses of the application, such as http://b-app1:8080.", type: list, elements: str, required: true}
  ca_file: {description: "Who vouches for https endpoints; the system's authorities when empty.", type: str, default: ''}
  identity: {description: "Request whose answer names the server: path, method, statuses.", type: dict, default: {}}
  login: {description: "Request that logs in; {password} in its body stands for the password.", type: dict, default: {}}
  mix: {description: "Requests of the mix, in turn: name, path, method, body, statuses.", type: list, elements: dict, default: []}
  nonce: {description: "Request that writes a reference; {reference} in its body stands for it, token_file holds its bearer token.", type: dict, default: {}}
  reference: {description: The nonce; nothing is written when empty., type: str, default: ''}
  version_name: {description: "What the identity's answer calls the application's version.", type: str, default: version}
  window_seconds: {description: How long the mix is sent., type: float, default: 10}
  requests_per_second: {description: How often., type: float, default: 10}
  names:
    description: "Names that were changed: record, values, wait_seconds; it is waited until this host finds what they stand for now."
    type: list
    elements: dict
    default: []
  secrets: {description: "Of the action plugin: the password.", type: dict, default: {}}
attributes:
  check_mode: {support: none, description: It uses the application.}
author: The Relevo maintainers (@relevo)
"""

EXAMPLES = r"""
- name: Use the application as its users do
  relevo.dr.application_proof:
    endpoints: ["http://b-app1:8080"]
    identity: {path: /health}
    mix: [{name: products, path: /products}]
    window_seconds: 10
"""

RETURN = r"""
proof:
  description: >-
    endpoint: the one that was used, null when none answers. identities: by endpoint, what each answer says. login: whether it worked, null without one;
    login_said. nonce: reference, acknowledged, said. window: requests, failed, failures, read_only_errors, p95_seconds (null for fewer than 20 and when
    more than 5 of 100 failed). names: by record, found and waited_seconds. version.
  returned: success
  type: dict
"""

import socket
import time
from pathlib import Path
from typing import Any, Optional

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.relevo.dr.plugins.module_utils.application_proof import summed
from ansible_collections.relevo.dr.plugins.module_utils.request_mix import Answer, Request, User, run


def request(declared: dict[str, Any], replaced: Optional[dict[str, str]] = None, token: str = "") -> Request:
    """A declared request, with what stands for something put into the strings of its body."""

    def put(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: put(one) for key, one in value.items()}
        if isinstance(value, list):
            return [put(one) for one in value]
        for name, text in (replaced or {}).items():
            if value == "{%s}" % name:
                return text
        return value

    statuses = tuple(int(status) for status in declared.get("statuses") or (200,))
    body = declared.get("body")
    name = str(declared.get("name") or declared["path"])
    return Request(
        name, str(declared["path"]), str(declared.get("method") or "GET"), None if body is None else put(body), statuses, token
    )


def identify(p: dict[str, Any]) -> dict[str, Answer]:
    """By endpoint, of those that say that they serve; one that is left says that it does not, or nothing."""
    wanted = request(p["identity"])
    answers = {endpoint: User(endpoint, p["ca_file"]).send(wanted) for endpoint in p["endpoints"]}
    return {endpoint: answer for endpoint, answer in answers.items() if answer.ok}


def write(user: User, p: dict[str, Any]) -> Optional[dict[str, Any]]:
    if not p["reference"] or not p["nonce"]:
        return None
    token_file = p["nonce"].get("token_file")
    token = Path(token_file).read_text(encoding="utf-8").strip() if token_file else ""
    answer = user.send(request(p["nonce"], {"reference": p["reference"]}, token))
    said = answer.error or "status %s" % answer.status
    return {"reference": p["reference"], "acknowledged": answer.ok, "said": None if answer.ok else said}


def resolve(name: str) -> list[str]:
    """What this host finds under a name, or the name of an address."""
    try:
        return sorted({str(entry[4][0]) for entry in socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)})
    except OSError:
        return []


def wait_for(names: list[dict[str, Any]]) -> dict[str, Any]:
    """Until each stands for what it was changed to, as this host's own resolver says; whoever kept the old answer may do so for its TTL."""
    began, found = time.monotonic(), {}
    for name in names:
        while True:
            wanted = sorted({address for value in name["values"] for address in resolve(value)})
            seen = resolve(name["record"])
            waited = time.monotonic() - began
            if (seen == wanted and seen) or waited > float(name["wait_seconds"]):
                found[name["record"]] = {"found": bool(seen) and seen == wanted, "seen": seen, "waited_seconds": round(waited, 3)}
                break
            time.sleep(0.5)
    return found


def prove(p: dict[str, Any]) -> dict[str, Any]:
    names = wait_for(p["names"])
    answers = identify(p)
    endpoint = next(iter(answers), None)
    proof: dict[str, Any] = {
        "endpoint": endpoint,
        "identities": {one: dict(answer.said) for one, answer in answers.items()},
        "login": None,
        "login_said": None,
        "nonce": None,
        "window": None,
        "window_seconds": p["window_seconds"],
        "names": names,
        "version": None,
    }
    if endpoint is None:
        return proof
    proof["version"] = answers[endpoint].said.get(p["version_name"])
    user = User(endpoint, p["ca_file"])
    proof["nonce"] = write(user, p)
    if p["login"]:
        answer = user.send(request(p["login"], dict(p["secrets"])))
        proof.update(login=answer.ok, login_said=None if answer.ok else answer.error or "status %s" % answer.status)
    if p["mix"]:
        proof["window"] = summed(run(user, [request(one) for one in p["mix"]], p["window_seconds"], p["requests_per_second"]))
    return proof


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "endpoints": {"type": "list", "elements": "str", "required": True},
            "ca_file": {"type": "str", "default": ""},
            "identity": {"type": "dict", "default": {}},
            "login": {"type": "dict", "default": {}},
            "mix": {"type": "list", "elements": "dict", "default": []},
            "nonce": {"type": "dict", "default": {}},
            "reference": {"type": "str", "default": ""},
            "version_name": {"type": "str", "default": "version"},
            "window_seconds": {"type": "float", "default": 10},
            "requests_per_second": {"type": "float", "default": 10},
            "names": {"type": "list", "elements": "dict", "default": []},
            "secrets": {"type": "dict", "default": {}, "no_log": True},
        },
    )
    try:
        module.exit_json(changed=True, proof=prove(module.params))
    except (OSError, KeyError, ValueError) as error:
        # Of a declared request: what it holds may be secret, what kind of thing is wrong is not.
        module.fail_json(
            msg="the application cannot be tried: %s: %s"
            % (type(error).__name__, getattr(error, "strerror", None) or "see dr_app_proof")
        )


if __name__ == "__main__":
    main()
