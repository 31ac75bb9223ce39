"""TLS on 127.0.0.1 and on the pods' gateway addresses. Nothing listens elsewhere unless `api_addresses` asks for it.

HTTP/1.1 only: kubectl and client-go take what ALPN leaves them. A client certificate is verified if one is shown; who shows none may
still have a token.
"""

from __future__ import annotations

import ssl

from aiohttp import web

from minipod.apiserver.auth import ports
from minipod.apiserver.auth.pki import Pki
from minipod.spec.instance import Instance


def context(pki: Pki) -> ssl.SSLContext:
    """Return the server's side of TLS."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    load(made, pki)
    made.load_verify_locations(pki.path("ca.crt"))
    made.verify_mode = ssl.CERT_OPTIONAL
    made.set_alpn_protocols(["http/1.1"])
    return made


def load(tls: ssl.SSLContext, pki: Pki) -> None:
    """Use the server's certificate for connections from now on."""
    tls.load_cert_chain(pki.path("server.crt"), pki.path("server.key"))


async def listen(runner: web.AppRunner, instance: Instance, tls: ssl.SSLContext) -> None:
    """Listen on every address where this runner does not yet. Raises Unavailable that names the one that can't be had."""
    port = instance.api_port
    held = {site.name for site in runner.sites}
    for address in ports.addresses(instance):
        site = web.TCPSite(runner, address, port, ssl_context=tls)
        if site.name in held:
            continue
        try:
            await site.start()
        except OSError as e:
            # aiohttp has noted the site already, and would try to close it at the end.
            await site.stop()
            raise ports.refusal(instance, address, e) from e
