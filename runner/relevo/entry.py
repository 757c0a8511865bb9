"""Where the command `relevo` begins: a key that asks for completion is answered at once, everything else goes on to the command line."""

from __future__ import annotations

import os
from importlib import import_module

from relevo import completion


def main() -> None:
    """Entry point."""
    asked = os.environ.get(completion.VARIABLE, "")
    if asked.startswith("complete_"):
        raise SystemExit(completion.answer(asked.removeprefix("complete_"), os.environ))
    # Only now: it takes a second to load all that commands need.
    import_module("relevo.cli").app()
