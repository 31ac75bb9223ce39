"""The API server: one aiohttp application on the instance's unix socket (0600) and over TLS (`auth.listen`), and its end.

`prepare` makes the certificates, beside whatever else starts; `listen` serves whoever comes over TLS, `open` all others. `extra` routes
are the daemon's own (status, stop).
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from typing import Any

from aiohttp import web

from minipod.aio.local import Listener
from minipod.aio.tasks import run_root
from minipod.api.certificates import GROUP, RESOURCE
from minipod.apiserver.app import Api, Handler, tell_errors
from minipod.apiserver.auth import certificates, kubeconfig, listen, roles
from minipod.apiserver.auth.authn import Authenticator
from minipod.apiserver.auth.authorizer import Authorizer
from minipod.apiserver.auth.escalation import Escalation
from minipod.apiserver.auth.gate import Gate
from minipod.apiserver.auth.reviews import Reviews
from minipod.apiserver.auth.signing import Certificates
from minipod.apiserver.auth.tokens import Tokens
from minipod.apiserver.call import Call
from minipod.apiserver.codec import BODY_MAX
from minipod.apiserver.store_sqlite import SqliteStore
from minipod.apiserver.streams import NodeStreams
from minipod.errors import Unavailable
from minipod.spec.instance import Instance

logger = logging.getLogger(__name__)

DAY = 86400.0
IDLE = 90.0  # seconds that a connection may say nothing, or not finish a request's head (kube-apiserver's IdleTimeout)
HEAD_MAX = (
    1 << 20
)  # bytes of a line of a request's head: the words of an exec are in its first (net/http, DefaultMaxHeaderBytes)
RETRY = 5.0  # seconds between tries to get a port that another program has


class ApiServer:
    """`prepare`, `listen` while `run` runs, `open`; it serves until `stop`."""

    def __init__(  # noqa: PLR0913 the composition root names each part
        self,
        instance: Instance,
        store: SqliteStore,
        streams: NodeStreams,
        tokens: Tokens,
        node_name: str,
        extra: list[web.RouteDef],
        handlers: Mapping[tuple[str, str], Handler] | None = None,
    ) -> None:
        self._instance = instance
        self._path = instance.api_socket
        self._new_path = f"{self._path}.new"
        self._pki = certificates.pki_of(instance)
        self._leaves = (certificates.server_leaf(instance, node_name), certificates.ADMIN)
        self._store = store
        self._authorizer = Authorizer(store)
        gate = Gate(Authenticator(tokens), self._authorizer)
        self._started = asyncio.Event()
        self._listening = False
        self._local: Listener | None = None
        reviews = Reviews(tokens, self._authorizer).handlers()
        self._api = Api(store, streams, node_name, {**reviews, **(handlers or {})})
        self.certificates = Certificates(self._pki.path(""), self._authorizer)
        self._guards = (Escalation(self._authorizer).check, self.certificates.check)
        self._api.endpoints.guard = self._guard
        self._api.endpoints.examiners[f"{RESOURCE}.{GROUP}"] = self.certificates.examine
        self._api.endpoints.may_create = gate.require_create
        self._app = web.Application(
            middlewares=[tell_errors, gate.middleware()], client_max_size=BODY_MAX
        )
        self._app.add_routes([*extra, *self._api.routes()])
        self._runner = web.AppRunner(
            self._app, access_log=None, handle_signals=False, shutdown_timeout=1.0, keepalive_timeout=IDLE,
            max_line_size=HEAD_MAX, max_field_size=HEAD_MAX,
        )  # fmt: skip

    def _guard(self, call: Call, obj: dict[str, Any]) -> None:
        for check in self._guards:
            check(call, obj)

    @property
    def ca(self) -> str:
        """The CA's certificate (PEM), after `prepare`."""
        return self._pki.read("ca.crt").decode()

    async def prepare(self) -> None:
        """Make the default roles, and certificates and kubeconfig where they are missing, foreign, or about to end."""
        await roles.bootstrap(self._store)
        await self._certify()

    async def _certify(self) -> None:
        await self._pki.ensure(self._leaves)
        kubeconfig.write_kubeconfig(
            self._instance, self._pki, certificates.ADMIN, self._instance.kubeconfig
        )

    async def run(self) -> None:
        """Follow the roles, look after ports and certificates, until cancelled."""
        await run_root(("roles", self._authorizer.run()), ("tls", self._keep_tls()))

    async def _keep_tls(self) -> None:
        """Get the ports that `start` did not get, and renew the certificates in time.

        A port that another program took while no daemon ran must not keep the pods without a kubelet: the error is
        logged, and tried again. Connections that are open keep their certificate when it is renewed.
        """
        await self._started.wait()
        while not self._listening:
            await asyncio.sleep(RETRY)
            await self._listen()
        while True:
            due = min(self._pki.next_renewal(leaf) for leaf in self._leaves)
            await asyncio.sleep(min(max(due - time.time(), 1.0), DAY))
            if time.time() >= due:
                await self._certify()
                listen.load(self._tls, self._pki)
                logger.info("renewed the certificates below %s", self._pki.path(""))

    async def _listen(self) -> None:
        try:
            await listen.listen(self._runner, self._instance, self._tls)
        except Unavailable as e:
            logger.error("%s; %s", e.message, e.hint)  # noqa: TRY400 the message is all there is
        else:
            self._listening = True

    async def listen(self) -> None:
        """Get everything that others can be kept waiting by: the roles, the ports, and the socket under another name."""
        await self._authorizer.synced()
        await self._runner.setup()
        self._tls = listen.context(self._pki)
        await self._listen()
        self._started.set()
        try:
            os.unlink(self._new_path)
        except FileNotFoundError:
            pass
        old = os.umask(0o177)
        try:
            assert self._runner.server is not None
            self._local = Listener(self._new_path, self._runner.server)
        finally:
            os.umask(old)

    def open(self) -> None:
        """Take the socket's name over: a request there reaches a daemon that is ready."""
        os.rename(self._new_path, self._path)

    async def stop(self) -> None:
        """End watches at once, then everything else (aiohttp would wait for them)."""
        self._api.closing.set()
        if self._local is not None:
            self._local.close()
        await self._runner.cleanup()
