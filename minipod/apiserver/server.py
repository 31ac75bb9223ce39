"""The API server: one aiohttp application on the instance's unix socket (0600), and its end.

Nothing listens elsewhere. `extra` routes are the daemon's own (status, stop).
"""

from __future__ import annotations

import os

from aiohttp import web

from minipod.apiserver.app import BODY_MAX, Api, tell_errors
from minipod.apiserver.store_sqlite import SqliteStore
from minipod.apiserver.streams import NodeStreams
from minipod.spec.instance import Instance


class ApiServer:
    """`start` serves until `stop`."""

    def __init__(
        self,
        instance: Instance,
        store: SqliteStore,
        streams: NodeStreams,
        node_name: str,
        extra: list[web.RouteDef],
    ) -> None:
        self._path = instance.api_socket
        self._api = Api(store, streams, node_name)
        self._app = web.Application(middlewares=[tell_errors], client_max_size=BODY_MAX)
        self._app.add_routes([*extra, *self._api.routes()])
        self._runner = web.AppRunner(
            self._app, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )

    async def start(self) -> None:
        """Serve. The socket's name is taken over only now: a request reaches a daemon that is ready."""
        await self._runner.setup()
        temporary = f"{self._path}.new"
        try:
            os.unlink(temporary)
        except FileNotFoundError:
            pass
        old = os.umask(0o177)
        try:
            await web.UnixSite(self._runner, temporary).start()
        finally:
            os.umask(old)
        os.rename(temporary, self._path)

    async def stop(self) -> None:
        """End watches at once, then everything else (aiohttp would wait for them)."""
        self._api.closing.set()
        await self._runner.cleanup()
