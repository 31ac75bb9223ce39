"""minipod image ls, inspect, history: what is in the store."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from minipod.cli import options
from minipod.errors import NotFound

if TYPE_CHECKING:
    from minipod.image.store import Image, ImageStore

CREATED_BY_WIDTH = 60  # of history's column, but with --no-trunc


def open_store(ctx: click.Context) -> ImageStore:
    """Open the store of the node that the global options mean."""
    from minipod.image import store

    return store.of_node(options.instance(ctx))


def found(store: ImageStore, name: str) -> Image:
    """Return the image called *name*. Raises NotFound."""
    image = store.resolve(name)
    if image is None:
        raise NotFound(f"no image {name}", hint="minipod image ls")
    return image


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


@click.command("ls")
@click.option("-q", "--quiet", is_flag=True, help="Print ids only.")
@click.option("--digests", is_flag=True, help="Show the digest that each name is pinned by.")
@click.option("--no-trunc", is_flag=True, help="Print whole ids.")
@click.pass_context
def list_images(ctx: click.Context, quiet: bool, digests: bool, no_trunc: bool) -> None:
    """List images: one line for each name; SIZE is that of the (compressed) blobs."""
    images = open_store(ctx).list()
    if quiet:
        for image in images:
            click.echo(image.id if no_trunc else short(image.id))
        return
    rows = [["IMAGE", *(["DIGEST"] if digests else []), "ID", "SIZE"]]
    for image in images:
        pins = dict(digest.split("@") for digest in image.digests)
        for name in image.tags or image.digests or ("<none>",):
            repository = name.partition("@")[0].rpartition(":")[0] if image.tags else ""
            pin = [pins.get(repository, "<none>")] if digests else []
            shown = image.id if no_trunc else short(image.id)
            rows.append([name, *pin, shown, f"{image.size / 1e6:.1f}MB"])
    options.print_rows(rows)


@click.command("inspect")
@click.argument("names", nargs=-1, required=True)
@click.pass_context
def inspect(ctx: click.Context, names: tuple[str, ...]) -> None:
    """Print all that is known of images, as JSON."""
    store = open_store(ctx)
    click.echo(json.dumps([_described(store, found(store, name)) for name in names], indent=4))


def _described(store: ImageStore, image: Image) -> dict[str, Any]:
    """Return names, parts, places and the configuration as it is written."""
    manifest, raw = store.manifest(image), store.raw_config(image)
    return {
        "id": image.id,
        "repoTags": image.tags,
        "repoDigests": image.digests,
        "manifest": image.manifest,
        "size": image.size,
        "layers": [
            {"digest": layer.digest, "diffId": diff_id, "mediaType": layer.media_type, "size": layer.size}
            for layer, diff_id in zip(manifest.layers, raw["rootfs"]["diff_ids"], strict=True)
        ],
        "directories": store.layers(image),
        "config": raw,
    }  # fmt: skip


def _words(text: object) -> str:
    """Return what an image says in one line, without what a terminal would obey."""
    line = " ".join(str(text or "").split())
    return "".join(c if c.isprintable() else "?" for c in line)


@click.command("history")
@click.argument("name")
@click.option("--no-trunc", is_flag=True, help="Print whole commands.")
@click.pass_context
def history(ctx: click.Context, name: str, no_trunc: bool) -> None:
    """Show how an image was made, the newest step first."""
    store = open_store(ctx)
    image = found(store, name)
    sizes = [layer.size for layer in store.manifest(image).layers]
    steps = store.raw_config(image).get("history") or [{} for _ in sizes]
    rows = []
    for step in steps:
        size = 0 if step.get("empty_layer") or not sizes else sizes.pop(0)
        made_by = _words(step.get("created_by"))
        made_by = made_by if no_trunc else made_by[:CREATED_BY_WIDTH]
        created = _words(step.get("created"))[:19].replace("T", " ")
        rows.append([created, made_by, f"{size / 1e6:.1f}MB", _words(step.get("comment"))])
    options.print_rows([["CREATED", "CREATED BY", "SIZE", "COMMENT"], *reversed(rows)])
