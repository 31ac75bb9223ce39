"""minipod completion: a script for the shell; names of pods are completed live."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from minipod.cli import group


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a completion script: source <(minipod completion bash)."""
    kind = get_completion_class(shell)
    assert kind is not None
    click.echo(kind(group, {}, "minipod", "_MINIPOD_COMPLETE").source())
