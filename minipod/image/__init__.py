"""Images: an OCI store on disk, unpacked layers, and the recipes that build images from Debian packages.

    recipe.toml --build--> blobs + manifest --ImageStore.put--> index.json (tags)
                                                   |
                                                   +--unpack--> layers/<chain id>/fs  (overlay lowerdirs)

What is where: `reference` parses names, `content` keeps blobs, `tags` keeps names, `tar` reads archives,
`unpack` applies them, `snapshot` keeps unpacked layers, `config` and `passwd` read what an image says
about itself, `store` ties these together, `recipe`, `packages` and `build` make images.

It does not mount a container's root file system and starts no process of an image on its own (the one
exception: a build asks the busybox it took from Debian for the names of its applets).

Invariants: a blob's name is its sha256, checked before the name exists; a layer directory is complete
or has a name that begins with a dot; index.json names only images whose blobs were all there, and is
replaced as a whole. Whoever changes something holds the store's flock; readers take no lock.
All code here is synchronous: callers in an event loop use asyncio.to_thread.
"""
