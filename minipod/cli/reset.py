"""minipod reset: remove all state of the node."""

from __future__ import annotations

import click

from minipod.cli import options


@click.command("reset")
@click.option("-y", "--yes", is_flag=True, help="Do not ask.")
@click.pass_context
def command(ctx: click.Context, yes: bool) -> None:
    """Stop the node and its pods, and remove everything of it: objects, images, logs of this instance, network, cgroups."""
    from minipod.daemon.node import reset_node

    instance = options.instance(ctx)
    if not yes:
        click.confirm(f"remove all pods, images and settings of node {instance.name}?", abort=True)
    reset_node(instance)
    click.echo(f"node {instance.name} is reset")
