"""minipod image save, load, import: images to files and back. `-` and no file mean stdout and stdin."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from minipod.cli.image_show import open_store, short
from minipod.errors import FailedPrecondition, ImageError

if TYPE_CHECKING:
    from typing import BinaryIO


@contextlib.contextmanager
def _opened(source: str) -> Iterator[BinaryIO]:
    """Open *source*; what is wrong with its content is told with its name."""
    try:
        fd = os.dup(sys.stdin.fileno()) if source == "-" else os.open(source, os.O_RDONLY)
        file = os.fdopen(fd, "rb")
    except OSError as e:
        raise FailedPrecondition(f"{source}: {(e.strerror or '').lower()}") from e
    with file:
        try:
            yield file
        except ImageError as e:
            raise ImageError(f"{source}: {e.message}", reason=e.reason, hint=e.hint) from e


@click.command("save")
@click.argument("names", nargs=-1, required=True)
@click.option("-o", "--output", default="-", metavar="FILE", help="Default: stdout.")
@click.option("--layout", is_flag=True, help="Write an OCI layout, a directory, instead.")
@click.pass_context
def save(ctx: click.Context, names: tuple[str, ...], output: str, layout: bool) -> None:
    """Write images to one archive, which docker load and every OCI tool read."""
    from minipod.image import archive

    store = open_store(ctx)
    if layout:
        if output == "-":
            raise click.UsageError("--layout needs a directory: -o DIR")
        archive.save_layout(store, names, output)
    elif output != "-":
        partial = f"{output}.{os.getpid()}"
        try:
            with open(partial, "wb") as out:
                archive.save(store, names, out)
            os.rename(partial, output)
        except BaseException:
            os.unlink(partial)
            raise
    elif sys.stdout.isatty():
        raise FailedPrecondition(
            "an archive on a terminal helps nobody", hint="use -o FILE, or a pipe"
        )
    else:
        archive.save(store, names, sys.stdout.buffer)


@click.command("load")
@click.argument("source", default="-", metavar="[FILE|DIRECTORY]")
@click.option(
    "-i", "--input", "option", default="", metavar="FILE", help="The same, as docker has it."
)
@click.pass_context
def load(ctx: click.Context, source: str, option: str) -> None:
    """Take the images of an archive (docker save, OCI; gzip, zstd or plain) or of an OCI layout.

    An image that has but a tag in there is called like the file.
    """
    from minipod.image import archive

    source = option or source
    base = os.path.basename(os.path.abspath(source)).split(".")[0].lower() if source != "-" else ""
    store = open_store(ctx)
    if os.path.isdir(source):
        images = archive.load(store, source, base=base)
    else:
        with _opened(source) as file:
            images = archive.load(store, file, base=base)
    for image in images:
        click.echo(f"loaded {', '.join(image.tags) or short(image.id)}")


@click.command("import")
@click.argument("source", metavar="FILE")
@click.argument("name")
@click.option(
    "-c",
    "--change",
    multiple=True,
    metavar="INSTRUCTION",
    help="CMD, ENV, USER ... as in a Dockerfile.",
)
@click.pass_context
def import_tree(ctx: click.Context, source: str, name: str, change: tuple[str, ...]) -> None:
    """Make the image NAME from an archive of a root file system, such as docker export or tar make."""
    from minipod.image import archive, dockerfile

    config = dockerfile.config_of(change)
    with _opened(source) as file:
        image = archive.import_tree(open_store(ctx), file, [name], config)
    click.echo(f"imported {', '.join(image.tags)}")
