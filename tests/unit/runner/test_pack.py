"""An escape pack: what is packed comes out on a host that it is for, and nothing of it anywhere else."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pyrage
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from relevo import belongings, cli_pack, digest, escape, estate, lockfile, pack, wheels
from relevo.belongings import Kept
from relevo.console import commands
from relevo.errors import RelevoError, UsageError
from tests.house.tree import ROOT

ANA, MIRA, EVE = (pyrage.x25519.Identity.generate() for _ in range(3))
RECIPIENTS = [str(one.to_public()) for one in (ANA, MIRA)]
HOST = escape.this_host()
CLAIM = pack.Claim(
    made_at=datetime(2026, 11, 28, 8, 15, tzinfo=UTC),
    made_by="ana on ctl-a",
    commit="2ea4b15dc2ae0422b6cb9ae0ed03513e6bcc1d42",
    version="0.1.0",
    clusters=None,
    architecture=HOST.architecture,
    glibc=(2, 5),
)


def made(placed: Path | None = None, recipients: Sequence[str] = RECIPIENTS) -> pack.Made:
    sealed = {
        "project/ansible.cfg": Kept(b"[defaults]\n", 0o644),
        "project/bin/lab": Kept(b"#!/bin/sh\n", 0o755),
        "project/.relevo/keys/controller": Kept(b"a key\n", 0o600),
        "wheels/pip-1-py3-none-any.whl": Kept(b"no wheel", 0o644),
        "README.txt": Kept(b"read me\n", 0o644),
    }
    if placed is not None:
        sealed[f"root/{str(placed).lstrip('/')}"] = Kept(b"secret\n", 0o600)
    return pack.make(pack.Contents(sealed, "inventories/shop", {"combine_shares.py": b"print()\n"}), CLAIM, recipients)


@pytest.fixture
def identity(tmp_path: Path) -> Path:
    path = tmp_path / "ana.txt"
    path.write_text(f"# created\n{ANA}\n")
    return path


@pytest.fixture
def unpacked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Without the wheels, which are installed for real on bare hosts by tests/integration/test_pack.py."""
    said: list[str] = []
    monkeypatch.setattr(escape, "_install", lambda target, _version: (target / "escape/ready").touch())
    return said


def written(content: bytes, directory: Path) -> Path:
    path = directory / "pack.sh"
    path.write_bytes(content)
    return path


def refusal(name: str, *words: str, path: Path, target: Path, identity: Path, host: escape.Host | None = None) -> None:
    before = sorted(target.parent.rglob("*"))
    with pytest.raises(escape.PackError) as refused:
        escape.unpack(path, target, [identity], print, host)
    assert refused.value.name == name
    assert str(refused.value).startswith(f"{name}: ")
    for word in (*words, "observed", "expected", "Next: "):
        assert word in str(refused.value)
    assert sorted(target.parent.rglob("*")) == before


def test_what_was_packed_comes_out_with_its_modes_and_the_rest_where_it_belongs(
    tmp_path: Path, identity: Path, unpacked: list[str]
) -> None:
    placed, target = tmp_path / "etc/secrets/become_password", tmp_path / "opt/relevo"
    escape.unpack(written(made(placed).content, tmp_path), target, [identity], unpacked.append)
    assert (target / "ansible.cfg").read_text() == "[defaults]\n"
    assert (target / "escape/README.txt").read_text() == "read me\n"
    assert placed.read_text() == "secret\n"
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in (target, target / "bin/lab", placed, placed.parent)}
    assert list(modes.values()) == [0o700, 0o755, 0o600, 0o700]
    shell = subprocess.run(
        ["sh", "-c", f'. {target}/escape/environment; pwd; echo "$RELEVO_INVENTORY $RELEVO_STORE"; echo "$ANSIBLE_SSH_ARGS"'],
        capture_output=True,
        text=True,
        check=True,
    )
    assert shell.stdout.splitlines()[:2] == [str(target), f"{target}/inventories/shop {target}/.relevo"]
    assert f"-o UserKnownHostsFile={target}/escape/known_hosts" in shell.stdout
    # There is no git, but the records of runs say of which commit they were.
    assert digest.commit(target) == (CLAIM.commit, None)
    escape.unpack(tmp_path / "pack.sh", target, [identity], unpacked.append)
    assert unpacked[-1] == f"{target} holds this pack already, ready to run."


def test_the_words_of_the_environment_for_ssh_are_those_of_the_configuration() -> None:
    assert f"ssh_args = {escape._SSH_ARGUMENTS}\n" in (ROOT / "ansible.cfg").read_text()


PACKED = made()


@settings(max_examples=60)
@given(place=st.integers(0, len(PACKED.content) - 1), by=st.integers(1, 255))
def test_a_pack_that_was_changed_anywhere_writes_nothing_else_than_what_was_packed(place: int, by: int) -> None:
    changed = bytearray(PACKED.content)
    changed[place] ^= by
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory)
        (top / "id").write_text(str(ANA))
        with suppress(escape.PackError):
            manifest, files = escape.opened(escape.read(written(bytes(changed), top)), [top / "id"])
            # Blanks of the label may be others: they say nothing.
            assert json.loads(json.dumps(manifest["about"])) == {
                name: value for name, value in PACKED.label.items() if name not in {"payload_bytes", "sha256"}
            }
            assert files == escape.opened(escape.read(written(PACKED.content, top)), [top / "id"])[1]


@settings(max_examples=40)
@given(length=st.integers(0, len(PACKED.content) - 1))
def test_a_pack_that_was_cut_anywhere_is_refused_by_name(length: int) -> None:
    with tempfile.TemporaryDirectory() as directory, pytest.raises(escape.PackError) as refused:
        escape.read(written(PACKED.content[:length], Path(directory)))
    assert refused.value.name in {escape.DAMAGED, escape.NO_PACK}


def relabelled(content: bytes, **changes: object) -> bytes:
    lines = content.split(b"\n", 20)
    place = next(number for number, line in enumerate(lines) if line.startswith(escape.LABEL_MARK))
    label = json.loads(lines[place][len(escape.LABEL_MARK) :])
    lines[place] = escape.LABEL_MARK + json.dumps({**label, **changes}, sort_keys=True).encode()
    return b"\n".join(lines)


def test_a_label_that_says_something_else_than_what_is_sealed_is_refused(tmp_path: Path, identity: Path) -> None:
    content = relabelled(PACKED.content, commit="f" * 40)
    refusal("DAMAGED", "a clear part", path=written(content, tmp_path), target=tmp_path / "t", identity=identity)


def test_a_program_that_is_another_is_refused_by_whoever_has_the_right_one(tmp_path: Path, identity: Path) -> None:
    content = PACKED.content.replace(b"def this_host", b"def that_host", 1)
    refusal("DAMAGED", "a clear part", path=written(content, tmp_path), target=tmp_path / "t", identity=identity)


def test_a_clear_part_that_was_changed_together_with_its_sum_is_refused(tmp_path: Path, identity: Path) -> None:
    parts = {**escape.read(written(PACKED.content, tmp_path)).parts, "combine_shares.py": b"send(shares)\n"}
    payload = pack._tar(parts)
    start = PACKED.content.partition(escape.PAYLOAD_MARK)[0] + escape.PAYLOAD_MARK + payload
    sums = {name: escape.sha256(content) for name, content in parts.items()}
    content = relabelled(start, sha256=sums, payload_bytes=len(payload))
    refusal("DAMAGED", "combine_shares.py", path=written(content, tmp_path), target=tmp_path / "t", identity=identity)


def test_somebody_elses_sealed_part_under_an_honest_label_is_refused(tmp_path: Path, identity: Path) -> None:
    mine, other = escape.read(written(PACKED.content, tmp_path)), escape.read(written(made().content, tmp_path))
    mixed = replace(mine, parts={**mine.parts, escape.SEALED: other.parts[escape.SEALED]})
    with pytest.raises(escape.PackError, match=r"DAMAGED: .* a clear part"):
        escape.opened(mixed, [identity])


@pytest.mark.parametrize(
    ("host", "seen"),
    [
        (replace(HOST, python="3.9"), "Python 3.9"),
        (replace(HOST, python="3.14"), "Python 3.14"),
        (replace(HOST, architecture="aarch64"), "the architecture aarch64"),
        (replace(HOST, system="Darwin"), "the operating system Darwin"),
        (replace(HOST, glibc=(2, 4)), "glibc 2.4"),
        (replace(HOST, glibc=()), "a C library that is not glibc"),
    ],
)
def test_a_host_that_it_is_not_for_is_refused_by_name(host: escape.Host, seen: str, tmp_path: Path, identity: Path) -> None:
    refusal("WRONG_HOST", seen, path=written(PACKED.content, tmp_path), target=tmp_path / "t", identity=identity, host=host)


def test_who_is_no_recipient_and_what_is_no_identity_is_refused(tmp_path: Path) -> None:
    path, wrong = written(PACKED.content, tmp_path), tmp_path / "eve.txt"
    wrong.write_text(str(EVE))
    refusal("NO_IDENTITY", "none of its 2 recipients", str(wrong), path=path, target=tmp_path / "t", identity=wrong)
    wrong.write_text("AGE-SECRET-KEY-1MISTYPED\n")
    refusal("NO_IDENTITY", "no identity", path=path, target=tmp_path / "t", identity=wrong)
    refusal("NO_IDENTITY", "No such file", path=path, target=tmp_path / "t", identity=tmp_path / "nowhere")


def test_a_directory_with_something_in_it_is_refused(tmp_path: Path, identity: Path) -> None:
    target = tmp_path / "opt"
    target.mkdir()
    (target / "somebody's").touch()
    refusal("NOT_EMPTY", str(target), path=written(PACKED.content, tmp_path), target=target, identity=identity)


def test_another_file_where_one_belongs_is_refused_and_the_same_one_is_not(
    tmp_path: Path, identity: Path, unpacked: list[str]
) -> None:
    placed = tmp_path / "secrets/become_password"
    placed.parent.mkdir()
    placed.write_text("another\n")
    path = written(made(placed).content, tmp_path)
    refusal("IN_THE_WAY", str(placed), path=path, target=tmp_path / "t", identity=identity)
    placed.write_text("secret\n")
    escape.unpack(path, tmp_path / "t", [identity], unpacked.append)


def test_what_was_interrupted_goes_on(tmp_path: Path, identity: Path, unpacked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path, target = written(PACKED.content, tmp_path), tmp_path / "t"
    # While files were written: what lies there is of nobody, and goes.
    (tmp_path / "t.unpacking/half").mkdir(parents=True)
    with monkeypatch.context() as cut:
        cut.setattr(escape, "_install", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            escape.unpack(path, target, [identity], unpacked.append)
    assert not (target / "half").exists() and not (target / "escape/ready").exists()
    escape.unpack(path, target, [identity], unpacked.append)
    assert (target / "escape/ready").exists()
    # Another pack does not go on with it.
    refusal("NOT_EMPTY", path=written(made().content, tmp_path), target=target, identity=identity)


def test_the_pack_itself_is_the_program_that_opens_it(tmp_path: Path) -> None:
    path = written(relabelled(PACKED.content, pythons=[HOST.python, "3.11", "3.12", "3.13"]), tmp_path)
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["sh", str(path), *words], capture_output=True, text=True, check=False, env=environment)

    checked = run("check")
    assert checked.returncode == 0 and "It is whole, and for this host" in checked.stdout, checked.stderr
    assert "minimarket" not in checked.stdout
    assert run("extract", str(tmp_path / "parts")).returncode == 0
    assert sorted(one.name for one in (tmp_path / "parts").iterdir()) == ["combine_shares.py", "sealed.tar.age"]
    path.write_bytes(PACKED.content[:-1])
    cut = run("check")
    assert cut.returncode == 2 and cut.stderr.startswith("DAMAGED: ") and "Traceback" not in cut.stderr
    path.write_bytes(PACKED.content[:12000])
    cut = run("check")
    assert cut.returncode == 2 and cut.stderr.startswith("DAMAGED: ") and "Traceback" not in cut.stderr


def test_nothing_that_is_sealed_can_be_read_in_the_pack(tmp_path: Path) -> None:
    content = made(tmp_path / "become_password").content
    assert not any(secret in content for secret in (b"secret\n", b"a key\n", b"become_password", b"inventories/shop"))


def test_one_recipient_is_too_few_but_for_the_identity_of_shares(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"A pack for 1 recipients: .* at least 2"):
        made(recipients=RECIPIENTS[:1])
    with pytest.raises(UsageError, match="is no recipient"):
        made(recipients=[*RECIPIENTS, "age1nobody"])
    shared = pack.make(pack.Contents({}, "i", {}), CLAIM, [], RECIPIENTS[0])
    (tmp_path / "id").write_text(str(ANA))
    assert escape.opened(escape.read(written(shared.content, tmp_path)), [tmp_path / "id"])[1] == {}


# -- what is packed --


def test_each_python_gets_its_own_ansible_and_nothing_that_only_developers_need() -> None:
    pins = lockfile.parse((ROOT / "requirements.lock").read_text())
    wanted = ["ansible-core", "psycopg[binary]", "pip", "pyrage", "weasyprint"]
    for python, ansible in (("3.11", "2.19."), ("3.12", "2.21."), ("3.13", "2.21.")):
        found = {pin.name: pin for pin in lockfile.needed(pins, wanted, python)}
        assert found["ansible-core"].version.startswith(ansible)
        assert {"jinja2", "psycopg-binary", "cffi", "pillow"} <= set(found)
        assert not {"pytest", "ansible", "ruff", "molecule"} & set(found)
        assert all(pin.hashes for pin in found.values())
    with pytest.raises(RelevoError, match=r"does not hold nowhere for Python 3\.11"):
        lockfile.needed(pins, ["nowhere"], "3.11")
    with pytest.raises(RelevoError, match="without a hash"):
        lockfile.parse("pyrage==1.4.0\n    # via relevo\n")


def wheel(directory: Path, name: str) -> Path:
    path = directory / name
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("package.py", name)
    return path


def test_a_wheel_counts_when_it_fits_the_python_and_is_the_one_of_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = wheel(tmp_path, "thing-1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl")
    new = wheel(tmp_path, "thing-1.0-cp313-cp313-manylinux_2_28_x86_64.whl")
    wheel(tmp_path, "thing-1.0-cp312-cp312-manylinux_2_28_x86_64.whl")
    hashes = tuple(f"sha256:{escape.sha256(path.read_bytes())}" for path in (old, new))
    pin = lockfile.Pin(lockfile.canonicalize_name("thing"), "1.0", None, hashes, frozenset())
    asked: list[str] = []
    monkeypatch.setattr(wheels, "_fetch", lambda _directory, pins, python, _architecture: asked.append(f"{python} {pins[0].name}"))
    assert wheels.gather(tmp_path, [pin], "3.11", "x86_64") == [old]
    assert wheels.gather(tmp_path, [pin], "3.13", "x86_64") == [new]
    assert asked == []
    for python, architecture in (("3.12", "x86_64"), ("3.13", "aarch64")):
        with pytest.raises(RelevoError, match=f"No wheel of thing for Python {python} on {architecture}"):
            wheels.gather(tmp_path, [pin], python, architecture)
    assert asked == ["3.12 thing", "3.13 thing"]
    assert wheels.glibc_of([old.name, new.name, "pure-1-py3-none-any.whl"]) == (2, 28)


def git(directory: Path, *words: str) -> None:
    names = {f"GIT_{who}_{what}": "ana@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    subprocess.run(["git", *words], cwd=directory, check=True, capture_output=True, env={**os.environ, **names})


def test_the_project_is_packed_at_its_commit_and_never_with_changes_that_are_in_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is no git checkout"):
        belongings.project(tmp_path)
    git(tmp_path, "init", "-q")
    (tmp_path / "ansible.cfg").write_text("[defaults]\n")
    (tmp_path / ".gitignore").write_text("secrets\n")
    (tmp_path / "secrets").write_text("geheim\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    commit, files = belongings.project(tmp_path)
    assert len(commit) == 40 and set(files) == {"ansible.cfg", ".gitignore"}
    (tmp_path / "ansible.cfg").write_text("[changed]\n")
    with pytest.raises(UsageError, match="has changes that are in no commit"):
        belongings.project(tmp_path)


def test_an_inventory_comes_without_its_secrets_and_to_where_the_project_looks(tmp_path: Path) -> None:
    source = tmp_path / "elsewhere/shop"
    for name in ("hosts.yml", "group_vars/all.yml", "policy.yml", "secrets/become_password", ".git/config"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    where, files = belongings.inventory(tmp_path / "project", str(source))
    names = ("group_vars/all.yml", "hosts.yml", "policy.yml")
    assert (where, sorted(files)) == ("inventories/shop", [f"inventories/shop/{name}" for name in names])
    where, files = belongings.inventory(tmp_path / "elsewhere", str(source / "hosts.yml"))
    assert where == "shop/hosts.yml" and "shop/group_vars/all.yml" in files
    with pytest.raises(UsageError, match="a list of hosts and no file"):
        belongings.inventory(tmp_path, "a,b")
    with pytest.raises(UsageError, match="dr_pack_files names /nowhere"):
        belongings.controller_files(["/nowhere"])


def packed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *words: str, beside: str | None = None, environment: str | None = None
) -> Path:
    """`relevo pack` in a small project, without the wheels and the printed runbooks. beside: a policy beside the inventory, in no commit."""
    root = tmp_path / "project"
    inventory = root / "inventories/shop"
    for path, text in (
        (root / "ansible.cfg", "[defaults]\n"),
        (root / ".gitignore", "inventories/\n"),
        (root / "playbooks/check.yml", ""),
        (root / cli_pack._SHARES, ""),
        (inventory / "hosts.yml", "all: {}\n"),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    for line in ("init -q", "add .", "commit -qm first"):
        git(root, *line.split())
    if beside is not None:
        (inventory / "policy.yml").write_text(beside)
    hosts = [estate.Host("localhost", "localhost", None, None, None, True, "w", (), "shop", dict.fromkeys(cli_pack._ASKED))]
    monkeypatch.chdir(root)
    monkeypatch.setenv("RELEVO_STORE", str(tmp_path / "state"))
    monkeypatch.delenv("RELEVO_PROJECT", raising=False)
    monkeypatch.delenv("RELEVO_POLICY", raising=False)
    if environment is not None:
        monkeypatch.setenv("RELEVO_POLICY", environment)
    monkeypatch.setattr(estate, "look", lambda *_: hosts)
    monkeypatch.setattr(cli_pack, "_wheels", lambda *_: ([], ""))
    monkeypatch.setattr(cli_pack, "_runbooks", lambda *_: {})
    recipients = [word for one in RECIPIENTS for word in ("--recipient", one)]
    done = CliRunner().invoke(
        commands, ["pack", "-i", str(inventory / "hosts.yml"), "-o", str(tmp_path / "packs"), *recipients, *words]
    )
    assert done.exit_code == 0, done.output
    return next((tmp_path / "packs").iterdir())


POLICY = "escape_pack: {fresh_for: 3 months}\n"


@pytest.mark.parametrize("named", ["--policy", "RELEVO_POLICY", "beside the inventory"])
def test_the_policy_that_judges_here_judges_where_the_pack_is_opened(
    named: str, tmp_path: Path, identity: Path, unpacked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere, target = tmp_path / "elsewhere.yml", tmp_path / "opt/relevo"
    elsewhere.write_text(POLICY)
    words = ("--policy", str(elsewhere)) if named == "--policy" else ()
    environment = str(elsewhere) if named == "RELEVO_POLICY" else None
    path = packed(
        tmp_path, monkeypatch, *words, environment=environment, beside=POLICY if named == "beside the inventory" else None
    )
    escape.unpack(path, target, [identity], unpacked.append)
    shell = subprocess.run(
        ["sh", "-c", f'. {target}/escape/environment; echo "$RELEVO_POLICY"; cat "$RELEVO_POLICY"'],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert shell.stdout == f"{target}/escape/policy.yml\n{POLICY}"
    assert "escape/policy.yml (RELEVO_POLICY)" in (target / "escape/README.txt").read_text()


def test_without_a_policy_of_ones_own_nothing_is_named_where_the_pack_is_opened(
    tmp_path: Path, identity: Path, unpacked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "opt/relevo"
    escape.unpack(packed(tmp_path, monkeypatch), target, [identity], unpacked.append)
    assert not (target / "escape/policy.yml").exists()
    assert "RELEVO_POLICY" not in (target / "escape/environment").read_text()
    assert "policy            the built-in one" in (target / "escape/README.txt").read_text()


def test_host_keys_are_packed_as_ssh_itself_would_find_them(tmp_path: Path) -> None:
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(tmp_path / "key")], check=True)
    key = " ".join((tmp_path / "key.pub").read_text().split()[:2])
    (tmp_path / "known_hosts").write_text(f"192.0.2.11 {key}\n192.0.2.99 {key}\n")
    subprocess.run(["ssh-keygen", "-q", "-H", "-f", str(tmp_path / "known_hosts")], check=True, capture_output=True)
    options = {"ansible_ssh_common_args": f"-o UserKnownHostsFile={tmp_path}/known_hosts -o GlobalKnownHostsFile=/dev/null"}

    def host(name: str, address: str) -> estate.Host:
        return estate.Host(name, address, "sre", None, None, False, "b", (), "minimarket", options)

    lines, unpinned = belongings.known_hosts([host("b-db1", "192.0.2.11"), host("b-app1", "192.0.2.12")])
    assert unpinned == ("b-app1",)
    assert lines.decode().count("\n") == 1 and key in lines.decode()


def test_an_inventory_is_read_with_its_templates_filled_in_and_without_any_secret() -> None:
    found = {host.name: host for host in estate.look(ROOT, [str(ROOT / "inventories/example")], ["dr_address", "dr_app_unit"])}
    database = found["a-db1"]
    assert (database.address, database.user, database.site, database.local) == ("a-db1.example.org", "sre", "a", False)
    assert database.variables == {"dr_address": "a-db1.example.org", "dr_app_unit": None}
    assert found["localhost"].local
    assert estate.clusters(list(found.values())) == ("minimarket",)
    assert estate.common(list(found.values()), "dr_app_unit") == "minimarket.service"
    with pytest.raises(UsageError, match="says different things of dr_address"):
        estate.common(list(found.values()), "dr_address")
