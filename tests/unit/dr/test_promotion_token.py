"""A token is believed only when it answers this host's fresh challenge and every fence in it holds."""

from __future__ import annotations

import subprocess
from dataclasses import replace

import pytest
from ansible_collections.relevo.dr.plugins.module_utils import promotion_token as tokens
from hypothesis import given
from hypothesis import strategies as st

HOSTS = ({"host": "a-db1", "address": "192.0.2.11", "port": 5432, "class": "powered_off", "probes": 3},)
TOKEN = tokens.Token("run-1", "n0nce", "7400", "b-db1", HOSTS, ())
CHALLENGE = {"nonce": "n0nce", "run_id": "run-1", "old_hosts": ["a-db1"]}


def believed(token=TOKEN, run_id="run-1", host="b-db1", system="7400", challenge=None, age=1.0):
    tokens.check(token, run_id, host, system, challenge or CHALLENGE, age, 300)


def test_a_fresh_answer_is_believed():
    believed()


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"token": replace(TOKEN, nonce="other")}, "last challenge"),
        ({"token": replace(TOKEN, run_id="run-0")}, "run run-0"),
        ({"challenge": {**CHALLENGE, "run_id": "run-0"}}, "this is run run-1"),
        ({"age": 301.0}, "301 s old"),
        ({"age": -1.0}, "old"),
        ({"host": "b-db2"}, "this is b-db2"),
        ({"system": "7401"}, "system 7401"),
        ({"token": replace(TOKEN, hosts=())}, "no fence"),
        ({"challenge": {**CHALLENGE, "old_hosts": ["a-db1", "a-db2"]}}, "a-db2"),
        ({"token": replace(TOKEN, hosts=({**HOSTS[0], "class": "unknown"},))}, "'unknown'"),
        ({"token": replace(TOKEN, hosts=({**HOSTS[0], "class": "attested"},))}, "'attested'"),
    ],
)
def test_anything_else_is_not(changed, says):
    with pytest.raises(tokens.TokenError, match=says):
        believed(**changed)


STOPPED = ({**HOSTS[0], "class": "stopped"},)
HANDOVER = {"run_id": "run-0", "nonce": "5f", "from_lsn": "0/1", "message_lsn": "0/2", "shutdown_lsn": "0/3", "timeline": 1}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({}, "no hand-over of run-1 or run-0"),
        ({"handover": {**HANDOVER, "run_id": "run-9"}}, "no hand-over of"),
        ({"handover": HANDOVER, "hosts": HOSTS}, "stopped, and nothing less"),
        ({"handover": HANDOVER}, None),
    ],
    ids=["no message", "another run's message", "powered off", "handed over"],
)
def test_a_planned_run_needs_the_old_primarys_own_word(changed, says):
    challenge = {**CHALLENGE, "handover_of": ["run-1", "run-0"]}
    token = replace(TOKEN, **{"hosts": STOPPED, **changed})
    if says is None:
        believed(token=token, challenge=challenge)
        assert tokens.parse(tokens.canonical(token)) == token
        return
    with pytest.raises(tokens.TokenError, match=says):
        believed(token=token, challenge=challenge)


def test_a_persons_word_counts_only_when_accepted_by_name():
    believed(token=replace(TOKEN, hosts=({**HOSTS[0], "class": "attested"},), accepted_classes=("attested",)))
    lease = ({**HOSTS[0], "class": "lease_expired"},)
    believed(token=replace(TOKEN, hosts=lease, accepted_classes=("lease_expired",)))
    for accepted, hosts in ((("unknown",), ({**HOSTS[0], "class": "unknown"},)), (("attested",), lease), ((), lease)):
        with pytest.raises(tokens.TokenError):
            believed(token=replace(TOKEN, hosts=hosts, accepted_classes=accepted))


@given(st.text(), st.text(), st.text())
def test_what_is_signed_reads_back(run_id, nonce, host):
    token = replace(TOKEN, run_id=run_id, nonce=nonce, promote_host=host)
    assert tokens.parse(tokens.canonical(token)) == token


def keygen(path):
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
    return path.with_suffix(".pub").read_text().split()[:2]


def test_only_a_known_controllers_signature_over_these_bytes_is_valid(tmp_path):
    known, stranger = tmp_path / "known", tmp_path / "stranger"
    public = keygen(known)
    keygen(stranger)
    signers = tmp_path / "allowed_signers"
    signers.write_text(f'{tokens.PRINCIPAL} namespaces="{tokens.NAMESPACE}" {" ".join(public)}\n')
    text = tokens.canonical(TOKEN)
    tokens.verify_signature(text, tokens.sign(text, str(known)), str(signers))
    with pytest.raises(tokens.TokenError):
        tokens.verify_signature(text, tokens.sign(text, str(stranger)), str(signers))
    with pytest.raises(tokens.TokenError):
        tokens.verify_signature(text.replace("powered_off", "isolated"), tokens.sign(text, str(known)), str(signers))
    with pytest.raises(tokens.TokenError):
        tokens.verify_signature(text, "", str(signers))
