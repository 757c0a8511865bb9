"""`relevo dashboard`: every cluster, test and run as pages, in a directory or on this machine's own address."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from relevo import dashboard, dashboard_directory, dashboard_server, overview, present
from relevo.console import AsJson, PolicyFile, PresentInventory, commands, explained, load_policy, open_store, output, print_json
from relevo.dashboard_pages import DATA, Site
from relevo.errors import Exit, UsageError


@commands.command("dashboard")
@explained
def show_dashboard(
    directory: Annotated[
        Path | None,
        typer.Option("--out", "-o", help="Write the pages there, as a whole; a directory that is empty or an earlier one."),
    ] = None,
    serve: Annotated[bool, typer.Option("--serve", help="Show them on this machine's loopback address until Ctrl-C.")] = False,
    port: Annotated[int, typer.Option(min=0, max=65535, help="With --serve; 0: any that is free.")] = 8765,
    runs: Annotated[
        int, typer.Option(min=1, help="So many of the newest runs of each cluster have a page; and those that another page names.")
    ] = dashboard.RUNS,
    sources: PresentInventory = None,
    file: PolicyFile = None,
    as_json: AsJson = False,
) -> Exit:
    """Show every cluster, test and run as web pages that need no network: the fleet, each cluster, each run, the calendar."""
    if directory is None and not serve:
        message = "Where to? Give --out DIRECTORY, or --serve to look at it now."
        raise UsageError(message)

    def look() -> dashboard.Board:
        loaded, store = load_policy(file), open_store()
        now = present.look(sources, datetime.now(UTC))
        with store.one_view():
            return dashboard.board(overview.gather(store, loaded.policy, now), loaded.document(), runs)

    if directory is not None:
        site = Site(look())
        size = dashboard_directory.write(directory, site)
        if as_json:
            print_json({"directory": str(directory), "at": site.board.at, "files": len(site.paths), "bytes": size})
        else:
            output.print(
                f"Written to {directory}: {len(site.paths)} files. Open index.html; {DATA} has the numbers.", highlight=False
            )
    if serve:
        _serve(dashboard_server.Fresh(look), port, as_json=as_json)
    return Exit.PASSED


def _serve(fresh: dashboard_server.Fresh, port: int, *, as_json: bool) -> None:
    """Until somebody has seen enough."""
    with dashboard_server.bind(fresh, port) as server:
        url = f"http://{dashboard_server.ADDRESS}:{server.server_address[1]}/"
        if as_json:
            print_json({"url": url})
        else:
            output.print(f"{url} (Ctrl-C ends it)", highlight=False)
        output.file.flush()
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return
