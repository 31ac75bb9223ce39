"""An image on its way into the store: its layers are unpacked while they are written.

    with store.ingest(manifest, config) as ingest:            a puller, a loader; threads as it likes
        for layer in ingest.manifest.layers:
            writer = ingest.writer(layer)                     None: the blob is here already
            ... writer.write(chunk) ... writer.commit()
        image = ingest.commit(names)                          waits for the unpacking, publishes

One thread of ours goes through the layers from the base up. It follows each blob as it grows (see
content.Follower): download, digest, decompression, diff id and unpacking run at once, while the
layers above download ahead. A layer's directory gets its name only when the blob's digest and the diff
id are right; the image gets its names only when all of it is here. An error on either side stops both:
a bad archive fails the download's next write, a download that is given up fails the unpacking.

All methods block: an event loop calls them in threads. A download that breaks off and goes on (Range)
keeps its writer; `offset` says where.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Generic, Self, TypeVar

from minipod.errors import ImageError
from minipod.image import snapshot
from minipod.image.config import parse_config
from minipod.image.content import ContentStore, Descriptor, Writer, digest_of
from minipod.image.manifest import parse_manifest
from minipod.image.stream import LayerStream

Published = TypeVar("Published")  # what the store knows an image by


class Ingest(Generic[Published]):
    """Made by `ImageStore.ingest`. Raises ImageError for a manifest or config that can't be used."""

    def __init__(
        self,
        content: ContentStore,
        layers: snapshot.Layers,
        manifest: bytes,
        config: bytes,
        *,
        publish: Callable[[Sequence[str]], Published],
    ) -> None:
        self.manifest = parse_manifest(manifest)
        expected = self.manifest.config
        if (digest_of(config), len(config)) != (expected.digest, expected.size):
            raise _wrong(f"config has digest {digest_of(config)}, expected {expected.digest}")
        self._diff_ids = parse_config(config).diff_ids
        if len(self._diff_ids) != len(self.manifest.layers):
            raise _wrong(f"{len(self.manifest.layers)} layers, {len(self._diff_ids)} diff ids")
        content.put(config)
        self._content = content
        self._layers = layers
        self._publish = publish
        self._changed = threading.Condition()
        self._writers: dict[str, Writer] = {}  # by digest
        self._closed = False
        self.refused = False  # in the end: whether it can't be used, however it is downloaded
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="unpack", daemon=True)

    def writer(self, layer: Descriptor) -> Writer | None:
        """Return where to write the blob of *layer*, from its `offset` on; None: it is here, or on its way."""
        if layer.digest in self._writers:
            return None  # images do hold one layer twice
        writer = self._content.resume(layer)
        if writer is not None:
            with self._changed:
                self._writers[layer.digest] = writer
                if self._error is not None:
                    writer.fail(self._error)
                self._changed.notify_all()
        return writer

    def commit(self, names: Sequence[str]) -> Published:
        """Wait until all is unpacked, then give the image its *names* (references). Raises ImageError."""
        with self._changed:
            self._closed = True  # a blob that nobody has begun will not come
            self._changed.notify_all()
        self._thread.join()
        if self._error is not None:
            raise self._error
        return self._publish(names)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self.refused = self._error is not None
            self._closed = True
            self._changed.notify_all()
        for writer in self._writers.values():
            writer.close()
        self._thread.join()

    def _run(self) -> None:
        """Unpack from the base up."""
        try:
            self._layers.unpack(self._diff_ids, self.manifest.layers, self._open)
        except Exception as e:  # the thread's boundary: commit raises it
            with self._changed:
                self._error = e
                self._closed = True
                for writer in self._writers.values():
                    writer.fail(e)

    def _open(self, layer: Descriptor) -> LayerStream:
        """Return the layer's archive, of the blob or of the one that is being written."""
        limit = self._layers.limits.image_layer_max
        with self._changed:
            self._changed.wait_for(
                lambda: (
                    layer.digest in self._writers
                    or self._content.size(layer.digest) is not None
                    or self._closed
                )
            )
            writer = self._writers.get(layer.digest)
        follower = None if writer is None else writer.follow()
        if follower is None:
            return LayerStream(self._content.open(layer.digest), limit=limit)
        return LayerStream(follower, limit=limit, cancel=follower.cancel)


def _wrong(why: str) -> ImageError:
    return ImageError(f"image is not valid: {why}", reason="ErrImagePull")
