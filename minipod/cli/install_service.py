"""minipod install-service: run the node under systemd."""

from __future__ import annotations

import os
import sys

import click

from minipod.cli import options


@click.command("install-service")
@click.option("--now", is_flag=True, help="Enable and start it, too.")
@click.option("--remove", is_flag=True, help="Stop the service and remove its unit.")
@click.pass_context
def command(ctx: click.Context, now: bool, remove: bool) -> None:
    """Write a systemd unit for the node: a restart of it keeps the pods, a stop ends them gracefully."""
    from minipod.daemon import systemd
    from minipod.daemon.node import require_root

    require_root()
    instance = options.instance(ctx)
    if remove:
        click.echo(f"{systemd.uninstall(instance)} removed")
        return
    program = os.path.join(os.path.dirname(sys.executable), "minipod")
    name = systemd.install(instance, program, ctx.find_root().params.get("config_file"))
    click.echo(f"{name} installed")
    if now:
        systemd.enable(instance)
        click.echo(f"{name} enabled and started")
    else:
        click.echo(f"start it: systemctl enable --now {name}")
