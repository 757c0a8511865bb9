"""Write what people hold who can open the laboratory's escrow into a directory: an identity, its public part, and shares of another one."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ansible_collections.relevo.dr.plugins.module_utils import clock
from ansible_collections.relevo.dr.plugins.plugin_utils import escrow_pack, escrow_shares

SHARES, ENOUGH = 5, 3


def write(place: Path) -> None:
    """As the inventory of the laboratory looks for them."""
    secret, recipient = escrow_pack.new_identity()
    (place / "operator.txt").write_text(secret + "\n")
    (place / "recipients").write_text(recipient + "\n")
    public, shares = escrow_shares.deal(SHARES, ENOUGH)
    for share in shares:
        (place / f"share-{share.number}").write_text(share.text() + "\n")
    (place / "shares.json").write_text(json.dumps({**public, "dealt_at": clock.utc_now()}))


if __name__ == "__main__":
    write(Path(sys.argv[1]))
