"""minipod cri: serve the CRI, for a kubelet or crictl."""

from __future__ import annotations

import click

from minipod.cli import options


@click.command("cri")
@click.option("--detach", is_flag=True, help="Start it in the background.")
@click.pass_context
def command(ctx: click.Context, detach: bool) -> None:
    """Serve the CRI (runtime.v1) on a unix socket, with an instance of its own (default: cri). Its pods outlive it.

    minipod --instance cri status, down and reset concern it, as they do a node.
    """
    import dataclasses

    from minipod.daemon.node import start_node

    chosen = ctx.find_root().obj
    chosen["name"] = chosen.get("name") or "cri"
    instance = dataclasses.replace(options.instance(ctx), face="cri")
    click.echo(f"unix://{instance.cri_socket}")
    start_node(instance, foreground=not detach)
