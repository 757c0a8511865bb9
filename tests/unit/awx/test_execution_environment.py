"""The image of AWX's jobs: its definition is one that ansible-builder takes, and holds what this project is locked to."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml

from tests.house.tree import ROOT

AWX = ROOT / "awx"
PIN = re.compile(r"^([a-z0-9.-]+)==([^\s;\\]+)", re.MULTILINE)


def built(definition: Path, context: Path) -> subprocess.CompletedProcess[str]:
    """What ansible-builder says of a definition."""
    beside = Path(sys.executable).parent
    command = [beside / "ansible-builder", "create", "-f", definition, "-c", context, "--output-filename", "Containerfile"]
    return subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": str(beside)})


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The build context that ansible-builder makes of the definition."""
    made = tmp_path_factory.mktemp("image") / "context"
    command = [
        Path(sys.executable).with_name("ansible-builder"),
        "create",
        "-f",
        AWX / "execution-environment.yml",
        "-c",
        made,
        "--output-filename",
        "Containerfile",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={"PATH": str(Path(sys.executable).parent)})
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def test_ansible_builder_makes_a_context_with_all_that_a_job_needs(context: Path) -> None:
    build = (context / "Containerfile").read_text()
    assert "COPY _build/relevo /tmp/relevo" in build
    assert "RUN $PYCMD -m pip install --no-cache-dir --no-deps /tmp/relevo" in build
    given = context / "_build"
    assert (given / "requirements.txt").read_text() == (AWX / "requirements.txt").read_text()
    assert yaml.safe_load((given / "requirements.yml").read_text())["collections"][0]["name"] == "awx.awx"
    for command in ("git-core", "openssh-clients"):
        assert f"{command} [platform:rpm]" in (given / "bindep.txt").read_text()


def test_the_package_can_be_installed_from_the_context(context: Path) -> None:
    """What pip finds there is the whole package, with its data."""
    project = tomllib.loads((context / "_build/relevo/pyproject.toml").read_text())
    (where,) = project["tool"]["setuptools"]["packages"]["find"]["where"]
    package = context / "_build/relevo" / where / "relevo"
    source = ROOT / "runner/relevo"
    shipped = {path.relative_to(source) for path in source.rglob("*") if path.is_file() and "__pycache__" not in path.parts}
    assert {path for path in shipped if not (package / path).is_file()} == set()
    assert (context / "_build/relevo" / project["project"]["readme"]).is_file()


def pins(path: Path) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for name, version in PIN.findall(path.read_text()):
        found.setdefault(name, set()).add(version)
    return found


def test_the_image_has_the_versions_that_were_tested() -> None:
    locked, image = pins(ROOT / "requirements.lock"), pins(AWX / "requirements.txt")
    assert {
        f"{name}=={version}" for name, versions in image.items() for version in versions if version not in locked.get(name, set())
    } == set()
    definition = yaml.safe_load((AWX / "execution-environment.yml").read_text())["dependencies"]
    for part in ("ansible_core", "ansible_runner"):
        name, _, version = definition[part]["package_pip"].partition("==")
        assert version in locked[name]
        assert version == max(locked[name], key=lambda text: [int(number) for number in text.split(".")])


def test_the_image_has_everything_that_the_package_depends_on() -> None:
    wanted = {
        re.split(r"[\[<>=]", one)[0] for one in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    }
    assert wanted - {"ansible-core", "ansible-runner"} <= set(pins(AWX / "requirements.txt"))


def test_an_odd_word_in_the_definition_is_refused(tmp_path: Path) -> None:
    """So that a definition that passes was really read."""
    wrong = tmp_path / "execution-environment.yml"
    wrong.write_text("version: 3\nimages: {base_image: {name: x}}\ndependencies: {pythons: requirements.txt}\n")
    done = built(wrong, tmp_path / "context")
    assert done.returncode != 0
    assert "pythons" in done.stdout + done.stderr
