from __future__ import annotations

import subprocess
from pathlib import Path

from relevo import digest


def commit(project: Path, file: str, content: str) -> str:
    (project / file).parent.mkdir(parents=True, exist_ok=True)
    (project / file).write_text(content)
    git = ["git", "-C", str(project), "-c", "user.name=x", "-c", "user.email=x@example.org"]
    for words in (["add", "-A"], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
    done = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_commits_with_the_same_runbooks_are_told_from_others(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    first = commit(tmp_path, "playbooks/failover.yml", "1")
    page = commit(tmp_path, "docs/page.md", "1")
    role = commit(tmp_path, "roles/dr_app/tasks/check.yml", "1")
    assert digest.same_code(tmp_path, first, page) is True
    assert digest.same_code(tmp_path, first, role) is False
    assert digest.same_code(tmp_path, first, "0" * 40) is None
    assert digest.same_code(tmp_path / "nowhere", first, page) is None
