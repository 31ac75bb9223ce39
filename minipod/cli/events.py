"""minipod events: list events, oldest first."""

from __future__ import annotations

import click

from minipod.cli import options
from minipod.cli.client import TABLE


@click.command("events")
@options.namespace_option
@click.option("-A", "--all-namespaces", is_flag=True)
@click.option("--for", "about", default="", help="pod/NAME")
@click.option("-w", "--watch", is_flag=True)
@click.pass_context
def command(
    ctx: click.Context, namespace: str, all_namespaces: bool, about: str, watch: bool
) -> None:
    """List what happened."""
    client = options.client(ctx)
    query = {}
    if about:
        query["fieldSelector"] = f"involvedObject.name={about.rpartition('/')[2]}"
    path = client.path("events", None if all_namespaces else namespace)
    table = client.request("GET", path, query=query, accept=TABLE)
    widths = options.print_table(table, wide=False)
    if watch:
        version = table["metadata"]["resourceVersion"]
        for event in client.watch(path, {**query, "resourceVersion": version}, accept=TABLE):
            if event["type"] != "DELETED":
                options.print_table(event["object"], wide=False, headers=False, widths=widths)
