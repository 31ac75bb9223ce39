"""Images from and to registries: the client's half of the OCI distribution specification, and of Docker's API v2.

    reference, AuthConfig -> hosts: endpoints in order (mirrors, then the server; local OCI layouts too)
        -> source: manifest by tag or digest -> index: our platform's -> blobs, some at once -> ImageStore

What is where: `hosts` reads hosts.toml, `keyring` finds credentials, `auth` answers a registry's challenge,
`http` sends requests (retries, redirects, `proxy`), `remote` and `layout` are the two kinds of source,
`index` and `platform` read what they give, `download` verifies blobs on their way in, `pull` and `push`
tell the story (and `progress` to who waits), `flights` lets ten pods that ask for one image wait for one download.

Not here: which pod may pull and when it is tried again (kubelet), what a layer holds (unpack).

Invariants: nothing of a registry is believed before its digest fits; a password or token goes only to
the registry it is meant for, and to the token server that this registry names; an interrupted download leaves nothing in the store.
aiohttp and ssl are imported when the first request is made: they cost 170 ms.
Source: opencontainers/distribution-spec, spec.md; distribution/docs/spec/auth/token.md.
"""
