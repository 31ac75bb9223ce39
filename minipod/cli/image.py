"""minipod image: its verbs, each loaded from its file when it is used."""

from __future__ import annotations

import importlib

import click

from minipod.cli import Verbs

# verb -> (file, name of its command, one line of help)
VERBS = {
    "ls": ("image_show", "list_images", "List images."),
    "inspect": ("image_show", "inspect", "Print all that is known of an image, as JSON."),
    "history": ("image_show", "history", "Show how an image was made, the newest step first."),
    "pull": ("image_transfer", "pull", "Fetch an image from its registry."),
    "push": ("image_transfer", "push", "Send an image to the registry that its name says."),
    "build": ("image_build", "build", "Build images from recipes or a Dockerfile."),
    "tag": ("image_change", "tag", "Give an image another name."),
    "rm": ("image_change", "remove", "Remove names, and images that lose their last one."),
    "prune": ("image_change", "prune", "Remove images without a name; --all: without a container."),
    "save": ("image_files", "save", "Write images to an archive (OCI and docker load)."),
    "load": ("image_files", "load", "Take images from an archive or an OCI layout."),
    "import": (
        "image_files",
        "import_tree",
        "Make an image from an archive of a root file system.",
    ),
}


LINES = {verb: line for verb, (_, _, line) in VERBS.items()}


class ImageVerbs(Verbs):
    """Imports a verb's file only for that verb."""

    verbs = LINES

    def load(self, verb: str) -> click.Command:
        file, name, _ = VERBS[verb]
        found: click.Command = getattr(importlib.import_module(f"minipod.cli.{file}"), name)
        return found


@click.command("image", cls=ImageVerbs)
def command() -> None:
    """List, build, pull, push, save, load and remove images."""
