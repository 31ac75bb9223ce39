"""minipod image tag, rm, prune: names, and what goes with the last one."""

from __future__ import annotations

import json
import os

import click

from minipod.cli import options
from minipod.cli.image_show import found, open_store, short


@click.command("tag")
@click.argument("name")
@click.argument("names", nargs=-1, required=True)
@click.pass_context
def tag(ctx: click.Context, name: str, names: tuple[str, ...]) -> None:
    """Give the image NAME other names."""
    store = open_store(ctx)
    found(store, name)
    store.tag(name, *names)


@click.command("rm")
@click.argument("names", nargs=-1, required=True)
@click.pass_context
def remove(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Remove names (by an id, all of the image's), and images that lose their last one.

    An image that a container is made from stays.
    """
    store = open_store(ctx)
    for name in names:
        found(store, name)
        store.remove(name, in_use=lambda: used_images(ctx))
        click.echo(f"removed {name}")


@click.command("prune")
@click.option("-a", "--all", "everything", is_flag=True, help="Also images that have a name.")
@click.pass_context
def prune(ctx: click.Context, everything: bool) -> None:
    """Remove images without a name, with --all also those without a container; and what broken-off pulls left."""
    store = open_store(ctx)
    wanted = [i.id for i in store.list() if everything or not (i.tags or i.digests)]
    gone = store.drop(wanted, in_use=lambda: used_images(ctx))
    for image in gone:
        click.echo(f"removed {', '.join(image.tags or image.digests) or short(image.id)}")
    store.sweep(partials=0.0)


def used_images(ctx: click.Context) -> set[str]:
    """Return the ids of images that containers are made from or have mounted, by their records."""
    directory = f"{options.instance(ctx).run_dir}/containers"
    used: set[str] = set()
    for name in os.listdir(directory) if os.path.isdir(directory) else ():
        try:
            with open(f"{directory}/{name}/container.json", encoding="utf-8") as f:
                record = json.load(f)
        except FileNotFoundError:
            continue
        used.update((record["image_id"], *record.get("mounted_images", ())))
    return used
