"""Images: an OCI store on disk, unpacked layers, and the recipes that build images from Debian packages.

    registry, archive, recipe, Dockerfile --ingest, put_manifest--> blobs, layers/<chain id>/fs --> index.json (names)

What is where: `reference` parses names, `content` keeps blobs, `manifest` reads what points to them, `tags`
keeps names, `stream` decompresses, `tar` and `tarheader` read archives, `unpack` applies them within `limits` (`xattrs`: attributes),
`snapshot` keeps unpacked layers (`view` mounts those below), `ingest` brings an image in while it comes, `config`
and `passwd` read what an image says about itself, `store` ties these together, `gc` makes room, `archive` is images
as files. Images are made by `build` (`recipe`, `packages`, `debian`) and `dockerbuild` (`dockerfile`, `dockerlines`,
`context`, `adding`, `buildcache`); `layer` packs what they wrote. `registry/` pulls and pushes, the only asynchronous
code here.

It does not mount a container's root file system and starts no process of an image on its own (the one
exception: a build asks the busybox it took from Debian for the names of its applets).

Invariants: a blob's name is its sha256, checked before the name exists; a layer directory is complete
or has a name that begins with a dot; index.json names only images whose blobs were all there, and is
replaced as a whole. Whoever changes something holds the store's flock; readers take no lock.
All other code here is synchronous: callers in an event loop use asyncio.to_thread.
"""
