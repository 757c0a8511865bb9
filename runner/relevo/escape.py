"""Open an escape pack on a bare host: Python's standard library alone. This file is the clear beginning of every pack, and `relevo unpack`.

It speaks the Python of old hosts, so that they are refused with a sentence and not with a syntax error.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import io
import json
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Union

    Content = Union[bytes, memoryview]

SCHEMA = "relevo-pack/1"
LABEL_MARK, LABEL_PLACE, PAYLOAD_MARK = b"#: ", b"#: LABEL", b"\n#RELEVO-PAYLOAD\n"
SEALED, MANIFEST, POLICY = "sealed.tar.age", "manifest.json", "policy.yml"
# Below these the project lies, and files that belong elsewhere on the controller; everything else lies beside them.
PROJECT, ROOT, BESIDE = "project/", "root/", "escape"
LABEL_FILE, READY = "label.json", "ready"
REFUSED = 2
# What the label can only hold once everything was sealed.
_OF_THE_PAYLOAD = ("payload_bytes", "sha256")
# As ansible.cfg has them, which the environment replaces.
_SSH_ARGUMENTS = "-o ControlMaster=auto -o ControlPersist=60s -o ServerAliveInterval=2 -o ServerAliveCountMax=2"
_INSTALL_SECONDS = 900
_SAID_CHARACTERS = 600

DAMAGED, NO_PACK, NO_IDENTITY, WRONG_HOST, NOT_EMPTY, IN_THE_WAY, NOT_WRITABLE, NOT_INSTALLED = (
    "DAMAGED",
    "NO_PACK",
    "NO_IDENTITY",
    "WRONG_HOST",
    "NOT_EMPTY",
    "IN_THE_WAY",
    "NOT_WRITABLE",
    "NOT_INSTALLED",
)


class PackError(Exception):
    """What is wrong with a pack or with this host: a name, and a sentence."""

    def __init__(self, name: str, observed: str, expected: str, next_action: str, where: object = "the pack") -> None:
        """As every refusal: where, what was observed and expected, and what to do."""
        super().__init__(f"{name}: {where}: observed {observed}; expected {expected}. Next: {next_action}.")
        self.name = name


@dataclass(frozen=True)
class Pack:
    """A pack whose clear part holds together. label: what it says of itself; parts: its members by name; program: what it begins with."""

    label: dict[str, Any]
    parts: Mapping[str, Content]
    program: bytes


@dataclass(frozen=True)
class Host:
    """What a host is, in the pack's words. glibc: empty where there is another C library."""

    python: str
    architecture: str
    system: str
    glibc: tuple[int, ...]


def read(path: Path) -> Pack:
    """A pack, as far as it can be judged without being opened. Raises PackError."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise PackError(NO_PACK, str(error.strerror), "a file that can be read", "give the path of the pack", path) from None
    end = content.find(PAYLOAD_MARK)
    header, start = (content, len(content)) if end < 0 else (content[:end], end + len(PAYLOAD_MARK))
    line = next((line for line in header.split(b"\n") if line.startswith(LABEL_MARK)), None)
    if line is None:
        raise PackError(NO_PACK, "a file that is none", "a pack that relevo pack wrote", "give the path of the pack", path)
    try:
        label = json.loads(line[len(LABEL_MARK) :].decode())
        sums = dict(label["sha256"])
    except (ValueError, KeyError, TypeError):
        raise _damaged(observed="a label that cannot be read") from None
    if label.get("schema") != SCHEMA:
        action = "open it with the program that it begins with: sh PACK"
        raise PackError(NO_PACK, f"a pack of the form {label.get('schema')}", SCHEMA, action, path)
    if end < 0:
        raise _damaged(observed="a pack that ends before its contents begin")
    if len(content) - start != label.get("payload_bytes"):
        raise _damaged(
            observed=f"{len(content) - start} bytes of contents, where {label.get('payload_bytes')} were packed: it was cut, or grew"
        )
    parts = _members(content, start)
    _compare(parts, sums)
    return Pack(label, parts, program(header))


def program(header: bytes) -> bytes:
    """What stands before the contents, as it was before it was labelled."""
    return b"\n".join(LABEL_PLACE if line.startswith(LABEL_MARK) else line for line in header.split(b"\n"))


def sha256(content: Content) -> str:
    """As `sha256sum` prints it."""
    return hashlib.sha256(content).hexdigest()


def _compare(files: Mapping[str, Content], sums: Mapping[str, str]) -> None:
    for name in sorted({*files, *sums}):
        if name not in files or sha256(files[name]) != sums.get(name):
            raise _damaged(observed=f"other bytes in {name}, or none")


def _damaged(observed: str) -> PackError:
    return PackError(DAMAGED, observed, "what was packed", "take another copy of the pack; nothing was written")


def _members(data: bytes, start: int = 0) -> dict[str, memoryview]:
    """Of an archive that begins there, without a copy of any: a pack is large, and a bare host may be small."""
    found: dict[str, memoryview] = {}
    stream = io.BytesIO(data)
    stream.seek(start)
    try:
        with tarfile.open(fileobj=stream, mode="r:") as archive:
            for member in archive:
                if not member.isfile() or member.name in found or member.name.startswith("/") or ".." in member.name.split("/"):
                    raise _damaged(observed="an archive with a member that no pack has")
                found[member.name] = memoryview(data)[member.offset_data : member.offset_data + member.size]
    except (tarfile.TarError, EOFError, ValueError, OSError):
        raise _damaged(observed="an archive that cannot be read") from None
    return found


# -- whether this host is one that the pack is for --


def this_host() -> Host:
    """The host that this runs on."""
    library, version = platform.libc_ver()
    numbers = tuple(int(word) for word in version.split(".")[:2] if word.isdigit()) if library == "glibc" else ()
    return Host(_python(), platform.machine(), platform.system(), numbers)


def _python() -> str:
    return "{}.{}".format(*sys.version_info[:2])


def dotted(numbers: Sequence[int]) -> str:
    """A version as people write it."""
    return ".".join(map(str, numbers))


def check_host(label: Mapping[str, Any], host: Host) -> None:
    """Raises PackError that names what this host is, and what it would have to be."""
    wanted = f"{label['system']} on {label['architecture']}, glibc {dotted(label['glibc'])} or newer, Python {' or '.join(label['pythons'])}"
    seen = None
    if host.system != label["system"]:
        seen = f"the operating system {host.system}"
    elif host.architecture != label["architecture"]:
        seen = f"the architecture {host.architecture}"
    elif host.glibc < tuple(label["glibc"]):
        seen = f"glibc {dotted(host.glibc)}" if host.glibc else "a C library that is not glibc"
    elif host.python not in label["pythons"]:
        seen = f"Python {host.python}"
    if seen is not None:
        action = "use such a host, as Debian 12 and 13 are; or make a pack on a controller of this host's kind"
        raise PackError(WRONG_HOST, seen, wanted, action, "this host")


# -- opening --


def opened(pack: Pack, identity_files: Sequence[Path]) -> tuple[dict[str, Any], dict[str, memoryview]]:
    """Everything that was sealed: the manifest, and members by name. Raises PackError; nothing stays written."""
    files = _members(_decrypted(pack, identity_files))
    try:
        manifest = json.loads(bytes(files.pop(MANIFEST)))
        sums = {name: said["sha256"] for name, said in manifest["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _damaged(observed="a sealed part without its list of files") from None
    clear = {name: content for name, content in pack.parts.items() if name != SEALED}
    told = {name: value for name, value in pack.label.items() if name not in _OF_THE_PAYLOAD}
    if (manifest.get("about"), manifest.get("program_sha256")) != (told, sha256(pack.program)):
        raise _damaged(observed="a clear part that is not the one that was packed with what is sealed")
    _compare(clear, manifest.get("clear") or {})
    _compare(files, sums)
    return manifest, files


def _decrypted(pack: Pack, identity_files: Sequence[Path]) -> bytes:
    age = _age(pack)
    keys = [key for path in identity_files for key in _identities(age, path)]
    try:
        return bytes(age.decrypt(bytes(pack.parts[SEALED]), keys))
    except age.DecryptError as error:
        if "No matching keys" in str(error):
            seen = ", ".join(map(str, identity_files))
            observed = f"an identity that is none of its {pack.label['recipients']} recipients ({seen})"
            action = (
                "give the identity file of one of them; shares are put together first, with combine_shares.py from sh PACK extract"
            )
            raise PackError(NO_IDENTITY, observed, "one of them", action) from None
        raise _damaged(observed="a sealed part that age does not open: it was cut or changed") from None


def _identities(age: Any, path: Path) -> list[Any]:
    action = "give the file that age-keygen wrote"
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise PackError(NO_IDENTITY, str(error), "an identity file", action, path) from None
    try:
        if "-----BEGIN OPENSSH PRIVATE KEY-----" in text:
            return [age.ssh.Identity.from_buffer(text.encode())]
        lines = (line.strip() for line in text.splitlines())
        found = [age.x25519.Identity.from_str(line) for line in lines if line.startswith("AGE-SECRET-KEY-")]
    except age.IdentityError:
        found = []
    if not found:
        expected = "a line that begins with AGE-SECRET-KEY-1, or a private key of OpenSSH without a passphrase"
        raise PackError(NO_IDENTITY, "no identity that can be read", expected, action, path)
    return found


def _age(pack: Pack) -> Any:
    """The library that opens it: this Python's own, else the wheel in the clear part, for the moment of its import."""
    try:
        return importlib.import_module("pyrage")
    except ImportError:
        pass
    name = next((name for name in pack.parts if name.startswith("pyrage-")), None)
    if name is None:
        raise _damaged(observed="a pack without what opens it")
    with tempfile.TemporaryDirectory(prefix="relevo-age-") as place:
        with zipfile.ZipFile(io.BytesIO(pack.parts[name])) as wheel:
            for inner in wheel.namelist():
                wheel.extract(inner, place)
        sys.path.insert(0, place)
        try:
            importlib.invalidate_caches()
            return importlib.import_module("pyrage")
        except ImportError as error:
            action = "open it by hand: sh PACK extract DIRECTORY, then age --decrypt"
            raise PackError(WRONG_HOST, f"a Python that cannot load age ({error})", "one that the pack is for", action) from None
        finally:
            sys.path.remove(place)


# -- writing --


def unpack(
    path: Path, directory: Path, identity_files: Sequence[Path], say: Callable[[str], object], host: Host | None = None
) -> Path:
    """The pack as a project that is ready to run. What was interrupted goes on; what is finished is said to be. Raises PackError."""
    pack, target = read(path), directory.absolute()
    check_host(pack.label, host or this_host())
    begun = _begun(pack, target)
    if begun and (target / BESIDE / READY).exists():
        say(f"{target} holds this pack already, ready to run.")
        return target
    manifest, files = opened(pack, identity_files)
    modes = {name: int(said["mode"]) for name, said in manifest["files"].items()}
    placed = {Path("/", name[len(ROOT) :]): name for name in sorted(files) if name.startswith(ROOT)}
    for place, name in placed.items():
        _check_way(place, files[name])
    try:
        if not begun:
            say(f"Writing {target}")
            _write_target(pack, manifest, files, modes, target)
        for place, name in placed.items():
            _write(place, files[name], modes[name], parents=0o700)
    except OSError as error:
        action = "make room, or give a directory that you may write to, and start again: it goes on"
        raise PackError(NOT_WRITABLE, str(error.strerror), "a place to write to", action, error.filename or target) from None
    say("Installing; no registry is asked")
    _install(target, str(pack.label["version"]))
    return target


def _begun(pack: Pack, target: Path) -> bool:
    """Whether the directory is this very pack, being unpacked. Raises PackError when it is something else."""
    try:
        if json.loads((target / BESIDE / LABEL_FILE).read_text(encoding="utf-8")) == pack.label:
            return True
    except (OSError, ValueError):
        pass
    _need_empty(target)
    return False


def _need_empty(directory: Path) -> None:
    if os.path.lexists(directory) and not (directory.is_dir() and not any(directory.iterdir())):
        expected = "a directory that is empty or not there"
        raise PackError(NOT_EMPTY, "something there", expected, "give another directory; nothing was written", directory)


def _check_way(place: Path, content: Content) -> None:
    """What belongs elsewhere on this host must not be something else there already."""
    try:
        same = place.read_bytes() == content
    except FileNotFoundError:
        return
    except OSError:
        same = False
    if not same:
        action = "move it away if this host is to take over; nothing was written"
        raise PackError(IN_THE_WAY, "another file there", "none, or the same as in the pack", action, place)


def _write_target(
    pack: Pack, manifest: Mapping[str, Any], files: Mapping[str, Content], modes: Mapping[str, int], target: Path
) -> None:
    draft = target.with_name(f"{target.name}.unpacking")
    if draft.exists():
        shutil.rmtree(draft)  # of an unpacking that was interrupted
    draft.mkdir(mode=0o700, parents=True)
    for name in sorted(files):
        if not name.startswith(ROOT):
            place = draft / name[len(PROJECT) :] if name.startswith(PROJECT) else draft / BESIDE / name
            _write(place, files[name], modes[name])
    _write(draft / BESIDE / "environment", _environment(str(manifest["inventory"]), target, policy=POLICY in files).encode(), 0o600)
    _write(draft / BESIDE / LABEL_FILE, json.dumps(pack.label).encode(), 0o600)
    if target.is_dir():
        target.rmdir()
    draft.rename(target)


def _environment(inventory: str, target: Path, *, policy: bool) -> str:
    judge = f"export RELEVO_POLICY='{target}/{BESIDE}/{POLICY}'\n" if policy else ""
    return (
        f"# Read by a shell: . {target}/{BESIDE}/environment\n"
        f"export PATH='{target}/.venv/bin':\"$PATH\"\n"
        f"export RELEVO_PROJECT='{target}' RELEVO_STORE='{target}/.relevo' RELEVO_INVENTORY='{target}/{inventory}'\n"
        f"{judge}export ANSIBLE_CONFIG='{target}/ansible.cfg'\n"
        # Before all that the inventory says, since ssh takes the first word; ansible.cfg's own words with it.
        f"export ANSIBLE_SSH_ARGS='{_SSH_ARGUMENTS} -o UserKnownHostsFile={target}/{BESIDE}/known_hosts'\n"
        f"cd '{target}'\n"
    )


def _write(place: Path, content: Content, mode: int, parents: int = 0o755) -> None:
    """As a whole or not at all, and at no moment readable by more than it should be."""
    if not place.parent.is_dir():
        place.parent.mkdir(mode=parents, parents=True)
    draft = place.with_name(f".{place.name}.unpacking")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as out:
        out.write(content)
    draft.chmod(mode)
    draft.rename(place)


def _install(target: Path, version: str) -> None:
    """A virtual environment without pip, since a bare Debian can make no other, filled by the pip of the pack from its wheels."""
    beside, environment, wheels = target / BESIDE, target / ".venv", target / BESIDE / "wheels"
    inner, site = environment / "bin/python3", environment / f"lib/python{_python()}/site-packages"
    shutil.rmtree(environment, ignore_errors=True)
    _run([sys.executable, "-m", "venv", "--without-pip", str(environment)])
    pip = next(iter(sorted(wheels.glob("pip-*.whl"))))
    words = [
        "install",
        "--quiet",
        "--no-input",
        "--disable-pip-version-check",
        "--no-index",
        "--no-deps",
        "--no-cache-dir",
        "--no-compile",  # what is used is compiled when it is used
        "--require-hashes",
    ]
    requirements = beside / "requirements" / f"{_python()}.txt"
    _run([str(inner), "-m", "pip", *words, "--find-links", str(wheels), "-r", str(requirements)], PYTHONPATH=str(pip))
    # The project is used from where it lies, as in a checkout, under the name that pip would give it.
    _write(site / "relevo.pth", f"{target / 'runner'}\n".encode(), 0o644)
    about = f"Metadata-Version: 2.1\nName: relevo\nVersion: {version}\n"
    _write(site / f"relevo-{version}.dist-info/METADATA", about.encode(), 0o644)
    _write(environment / "bin/relevo", f"#!{inner}\nfrom relevo.cli import app\n\napp()\n".encode(), 0o755)
    _run([str(environment / "bin/relevo"), "--version"])
    _write(beside / READY, b"", 0o600)


def _run(command: Sequence[str], **more: str) -> None:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "PYTHON"))}
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=_INSTALL_SECONDS,
            env={**kept, **more},
            check=False,
        )
        said, failed = done.stdout.decode(errors="replace").strip(), done.returncode != 0
    except (OSError, subprocess.TimeoutExpired) as error:
        said, failed = str(error), True
    if failed:
        observed = f"{Path(command[0]).name} said: {said[-_SAID_CHARACTERS:] or 'nothing'}"
        action = "mend what it names, or use another bare host; start again, it goes on"
        raise PackError(NOT_INSTALLED, observed, "an installation without a registry", action, "this host")


def extract(path: Path, directory: Path) -> None:
    """The clear parts and what is sealed, for whoever opens it with age alone. Raises PackError."""
    pack = read(path)
    _need_empty(directory)
    for name in sorted(pack.parts):
        _write(directory / name, pack.parts[name], 0o600, parents=0o700)


def described(label: Mapping[str, Any]) -> str:
    """The clear label for a person."""
    return (
        f"Escape pack {label['pack_id']}, made at {label['made_at']} by {label['made_by']}\n"
        f"  project    {label['version']}, commit {label['commit']}\n"
        f"  clusters   {', '.join(label['clusters']) if label['clusters'] else 'not said here'}\n"
        f"  opened by  any one of {label['recipients']} recipients, with their identity of age\n"
        f"  runs on    {label['system']} {label['architecture']}, glibc {dotted(label['glibc'])} or newer, "
        f"Python {' or '.join(label['pythons'])}; no registry is asked\n"
    )


def _say(sentence: str) -> None:
    # At once: whoever keeps what is said in a file sees where it stands, too.
    sys.stdout.write(f"{sentence}\n")
    sys.stdout.flush()


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line of a pack: 0, or 2 when it refuses."""
    parser = argparse.ArgumentParser(prog="sh PACK", description="An escape pack of Relevo.")
    parser.add_argument("pack", type=Path, help=argparse.SUPPRESS)
    verbs = parser.add_subparsers(dest="verb")
    verbs.add_parser("check", help="whether it is whole, and for this host")
    verb = verbs.add_parser("unpack", help="make it ready to run, in a directory that is empty or not there")
    verb.add_argument("directory", type=Path)
    verb.add_argument(
        "-i", "--identity", type=Path, action="append", required=True, help="an identity file of age, or a key of OpenSSH"
    )
    verb = verbs.add_parser("extract", help="only what is needed to open it with age alone")
    verb.add_argument("directory", type=Path)
    given = parser.parse_args(arguments)
    try:
        if given.verb == "unpack":
            target = unpack(given.pack, given.directory, given.identity, _say)
            sys.stdout.write(f"Ready. Next: . {target}/{BESIDE}/environment; then read {target}/{BESIDE}/README.txt\n")
        elif given.verb == "extract":
            extract(given.pack, given.directory)
        else:
            label = read(given.pack).label
            sys.stdout.write(described(label))
            check_host(label, this_host())
            sys.stdout.write("It is whole, and for this host. Next: sh PACK unpack DIRECTORY -i IDENTITY_FILE\n")
    except PackError as error:
        sys.stderr.write(f"{error}\n")
        return REFUSED
    return 0


if __name__ == "__main__":
    sys.exit(main())
