"""`python -m relevo.messenger FILE NOTICE`: tell everybody in FILE; without arguments: deliver whatever waits. See courier.py."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from relevo import notify, paths, targets
from relevo.errors import RelevoError
from relevo.notice import Notice

# Beside a failover that is measured: whoever waits for this word waits a second more.
_LOWEST_PRIORITY = 19


def main(arguments: list[str]) -> int:
    """Print the reason of each who could not be told; 0 when there is none."""
    os.nice(_LOWEST_PRIORITY)
    try:
        if arguments:
            file, letter = map(Path, arguments)
            notice = Notice(**json.loads(letter.read_text(encoding="utf-8")))
            reasons = [reason for target in targets.read(file) if (reason := target.send(notice))]
        else:
            reasons = list(notify.deliver(paths.find_place(os.environ)).waiting)
    except RelevoError as error:
        reasons = [str(error)]
    sys.stdout.write("; ".join(reasons) + "\n")
    return 1 if reasons else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
