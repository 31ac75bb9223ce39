"""What tests look for in an image store: files of an image, and leftovers."""

import os

from minipod.image.store import ImageStore


def content(store: ImageStore, image, path: str) -> bytes:
    """Return a file of an unpacked image."""
    for layer in store.layers(image):
        if os.path.exists(f"{layer}/{path}"):
            with open(f"{layer}/{path}", "rb") as file:
                return file.read()
    raise FileNotFoundError(path)


def nothing_left(store: ImageStore) -> bool:
    """Whether the store is as empty as a new one."""
    found = [
        n for d in ("blobs/sha256", "ingest", "layers") for n in os.listdir(f"{store.root}/{d}")
    ]
    return not found and not store.list()
