"""What the RUN steps of earlier builds made, found by what they were made of.

    sha256(id of the image so far, command, build arguments) -> digest of the layer, "" for a step that wrote nothing

The id of the image so far stands for all before the step: base, files that COPY brought, configuration. An image that was
built here has the keys of its RUN steps in its configuration (RUNS), so the cache is the images of the store, names or none, and
goes with them. COPY and ADD need no cache: the same files make the same layer.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence

from minipod.image.content import Descriptor
from minipod.image.store import ImageStore

RUNS = "org.minipod.runs"  # in an image's configuration: key -> digest


def run_key(image: str, command: Sequence[str], variables: Mapping[str, str]) -> str:
    """Return the key of a step that runs *command* in *image* with the values of ARG."""
    text = json.dumps([image, list(command), dict(variables)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


class RunCache:
    """The steps of all images in *store*, read when the first is asked for; none unless *used*."""

    def __init__(self, store: ImageStore, *, used: bool) -> None:
        self._store = store
        self._known: dict[str, list[Descriptor]] | None = None if used else {}

    def layers(self, key: str) -> list[Descriptor] | None:
        """Return the layers that the step made: one, or none; None: nobody ran it."""
        if self._known is None:
            self._known = self._read()
        return self._known.get(key)

    def _read(self) -> dict[str, list[Descriptor]]:
        found = {}
        for image in self._store.list():
            runs = self._store.raw_config(image).get(RUNS)
            if isinstance(runs, dict):
                layers = {layer.digest: [layer] for layer in self._store.manifest(image).layers}
                found.update({key: layers.get(digest, []) for key, digest in runs.items()})
        return found
