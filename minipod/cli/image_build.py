"""minipod image build: recipes, and directories with a Dockerfile."""

from __future__ import annotations

import os

import click

from minipod.cli.image_show import open_store


@click.command("build")
@click.argument("directories", nargs=-1, type=click.Path(exists=True, file_okay=False))
@click.pass_context
def build(ctx: click.Context, directories: tuple[str, ...]) -> None:
    """Build images from recipe directories; without any, the built-in ones."""
    from minipod.image import build as builder

    store = open_store(ctx)
    if directories:
        images = [builder.build(directory, store) for directory in directories]
    else:
        here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        images = builder.build_all(f"{here}/images", store)
    for image in images:
        click.echo(f"built {', '.join(image.tags)}")
