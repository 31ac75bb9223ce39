"""minipod why POD: why it is not ready, restarting or pending: the chain of causes, from the node's journal."""

from __future__ import annotations

import time

import click

from minipod.cli import options
from minipod.cli.explanation import Facts, explain


@click.command("why")
@click.argument("name", shell_complete=options.complete_names)
@options.namespace_option
@click.pass_context
def command(ctx: click.Context, name: str, namespace: str) -> None:
    """Explain a pod's state: what waits for what, since when, by which rule."""
    client = options.client(ctx)
    pod = client.request("GET", client.path("pods", namespace, name.removeprefix("pod/")))
    told = client.request("GET", f"/minipod/pods/{pod['metadata']['uid']}/why")
    facts = Facts(pod=pod, records=told["records"], probes=told["probes"])
    click.echo("\n".join(explain(facts, time.time())))
