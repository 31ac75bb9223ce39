"""minipod down: stop pods gracefully, then the node."""

from __future__ import annotations

import click

from minipod.cli import options


@click.command("down")
@click.option(
    "--keep-pods", is_flag=True, help="Stop only our processes; the next `up` adopts the pods."
)
@click.option(
    "--by-systemd", is_flag=True, hidden=True, help="As ExecStop: a restart keeps the pods."
)
@click.pass_context
def command(ctx: click.Context, keep_pods: bool, by_systemd: bool) -> None:
    """Stop the pods (each with its grace period), then the node. Fails with the names of pods that stay two minutes longer."""
    from minipod.daemon.node import node_status, stop_node

    instance = options.instance(ctx)
    if by_systemd:
        from minipod.daemon.systemd import restarting

        keep_pods = restarting(instance)
    if not keep_pods and (pods := node_status(instance).get("pods")):
        click.echo(f"stopping the pods ({pods}), each with its grace period", err=True)
    stop_node(instance, keep_pods=keep_pods)
    click.echo(f"node {instance.name} is down" + (", its pods run on" if keep_pods else ""))
