"""minipod status: whether the node runs, and how. Exit code 1 when it does not."""

from __future__ import annotations

import errno
import os

import click

from minipod.cli import options


@click.command("status")
@click.option("-o", "--output", type=click.Choice(["json", "yaml"]))
@click.pass_context
def command(ctx: click.Context, output: str | None) -> int:
    """Show whether the node runs, and its processes."""
    from minipod.daemon import outdated
    from minipod.daemon.node import node_status

    instance = options.instance(ctx)
    if os.path.isdir(instance.run_dir) and not os.access(instance.run_dir, os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), instance.run_dir)
    found = node_status(instance)
    if output:
        options.print_object(found, output)
    elif not found["running"]:
        click.echo(f"node {found['instance']} is not running")
    else:
        options.print_rows([[key, _shown(key, value)] for key, value in found.items()])
        if note := outdated.told(instance):
            click.echo(note, err=True)
    return 0 if found["running"] else 1


def _shown(key: str, value: object) -> str:
    if key == "started_at" and isinstance(value, float):
        from datetime import datetime  # only here: keeps the CLI's start short

        return datetime.fromtimestamp(value).astimezone().isoformat(sep=" ", timespec="seconds")
    return ", ".join(value) if isinstance(value, list) else str(value)
