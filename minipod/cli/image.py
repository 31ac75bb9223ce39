"""minipod image: list, build and remove images; pull and push are in image_transfer."""

from __future__ import annotations

import os

import click

from minipod.cli import image_transfer, options
from minipod.errors import NotFound


@click.group("image")
def command() -> None:
    """List, build, pull, push and remove images."""


command.add_command(image_transfer.pull)
command.add_command(image_transfer.push)


def _store(ctx: click.Context):  # type: ignore[no-untyped-def]  # noqa: ANN202 imported below
    from minipod.image.store import ImageStore

    state = options.instance(ctx).state_dir
    os.makedirs(state, 0o700, exist_ok=True)
    return ImageStore(f"{state}/images")


@command.command("ls")
@click.pass_context
def list_images(ctx: click.Context) -> None:
    """List images."""
    rows = [["IMAGE", "ID", "SIZE"]]
    for image in _store(ctx).list():
        rows += [
            [tag, image.id.removeprefix("sha256:")[:12], f"{image.size / 1e6:.1f}MB"]
            for tag in image.tags
        ]
    options.print_rows(rows)


@command.command("build")
@click.argument("recipes", nargs=-1, type=click.Path(exists=True, file_okay=False))
@click.pass_context
def build(ctx: click.Context, recipes: tuple[str, ...]) -> None:
    """Build images from recipe directories; without any, the built-in ones."""
    from minipod.image import build as builder

    store = _store(ctx)
    if recipes:
        images = [builder.build(recipe, store) for recipe in recipes]
    else:
        here = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
        images = builder.build_all(f"{here}/images", store)
    for image in images:
        click.echo(f"built {', '.join(image.tags)}")


@command.command("rm")
@click.argument("names", nargs=-1, required=True)
@click.pass_context
def remove(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Remove images that no container uses."""
    store = _store(ctx)
    for name in names:
        if store.resolve(name) is None:
            raise NotFound(f"no image {name}", hint="minipod image ls")
        store.remove(name, in_use=used_images(ctx).__contains__)
        click.echo(f"removed {name}")


def used_images(ctx: click.Context) -> set[str]:
    """Return the ids of images that containers are made from, by their records."""
    import json

    directory = f"{options.instance(ctx).run_dir}/containers"
    used = set()
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        try:
            with open(f"{directory}/{name}/container.json", encoding="utf-8") as f:
                used.add(json.load(f)["image_id"])
        except FileNotFoundError:
            continue
    return used
