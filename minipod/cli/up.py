"""minipod up: start the node."""

from __future__ import annotations

import click

from minipod.cli import options


@click.command("up")
@click.option("--foreground", is_flag=True, help="Stay, as a service manager wants it.")
@click.pass_context
def command(ctx: click.Context, foreground: bool) -> None:
    """Start the node and wait until it is ready."""
    from minipod.daemon import outdated
    from minipod.daemon.node import start_node

    instance = options.instance(ctx)
    if start_node(instance, foreground=foreground):
        if not foreground:
            click.echo(f"node {instance.name} is up")
    else:
        click.echo(f"node {instance.name} runs already")
        if note := outdated.told(instance):
            click.echo(note, err=True)
