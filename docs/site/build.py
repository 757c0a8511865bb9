"""The documentation as a site: pages gathered, the reference generated, built by Sphinx so that any warning ends it. `make docs`."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from docs.site import navigation, reference

ROOT = Path(__file__).resolve().parents[2]
START = "docs/README.md"
# The pages that give others their place, by the links that they have anyway.
LISTING = ("docs/README.md", "docs/runbooks/README.md", "docs/decisions/README.md", "docs/reference.md", "docs/reference/roles.md")
_PAGES = (
    "docs/*.md",
    "docs/runbooks/*.md",
    "docs/decisions/*.md",
    "roles/*/README.md",
    "SECURITY.md",
    "CONTRIBUTING.md",
    "LICENSE",
)
_BESIDE = ("docs/monitoring/*", "docs/site/static/*")
_FORWARD = """<!doctype html>
<meta charset="utf-8">
<title>Relevo</title>
<meta http-equiv="refresh" content="0; url=docs/README.html">
<a href="docs/README.html">Relevo</a>
"""


def main() -> int:
    """Build into build/site; 0 when every page has its place and every link leads somewhere."""
    site = ROOT / "build/site"
    code = built(gather(ROOT / "build/pages"), site, ROOT / "build/doctrees")
    if code == 0:
        sys.stdout.write(f"The documentation is in {site}: open index.html, no server is needed.\n")
    return code


def built(pages: Path, site: Path, trees: Path) -> int:
    """Sphinx's own exit code; what it warns of is on standard error."""
    shutil.rmtree(site, ignore_errors=True)
    words = [sys.executable, "-m", "sphinx", "--fail-on-warning", "--quiet", "--builder", "html"]
    words += ["--conf-dir", str(ROOT / "docs/site"), "--doctree-dir", str(trees), str(pages), str(site)]
    code = subprocess.run(words, check=False, cwd=ROOT).returncode
    if code == 0:
        (site / "index.html").write_text(_FORWARD, encoding="utf-8")
    return code


def gather(place: Path) -> Path:
    """The sources of the site in one directory: pages as they lie in the repository, and those that are made."""
    shutil.rmtree(place, ignore_errors=True)
    for pattern in (*_PAGES, *_BESIDE):
        for path in sorted(ROOT.glob(pattern)):
            target = place / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    for name, text in reference.pages(ROOT).items():
        path = place / name
        path.parent.mkdir(parents=True, exist_ok=True)
        # A role's own page comes first, its variables below it.
        path.write_text((path.read_text(encoding="utf-8") + "\n" if path.exists() else "") + text, encoding="utf-8")
    for name, listed in places(place).items():
        path = place / name
        path.write_text(navigation.with_places(path.read_text(encoding="utf-8"), listed), encoding="utf-8")
    return place


def places(place: Path) -> dict[str, list[navigation.Part]]:
    """Which page gives which others their place, the first that lists them."""
    found, placed = dict[str, list[navigation.Part]](), {place / START}
    for name in LISTING:
        path = place / name
        beside = {os.path.relpath(page, path.parent) for page in placed}
        found[name] = navigation.parts(path.read_text(encoding="utf-8") if path.exists() else "", beside)
        placed |= {Path(os.path.normpath(path.parent / page)) for part in found[name] for page in part.pages}
    return found


if __name__ == "__main__":
    sys.exit(main())
