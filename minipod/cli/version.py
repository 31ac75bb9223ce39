"""minipod version."""

from __future__ import annotations

import click

from minipod import __version__


@click.command("version")
def command() -> None:
    """Print the version."""
    click.echo(f"minipod {__version__}")
