"""The streaming server: exec, attach and port-forward of the CRI, at URLs that are good for one use.

    Exec -> http://127.0.0.1:PORT/exec/TOKEN     the client, or a kubelet for it, upgrades there (SPDY/3.1 or WebSocket)

On loopback, without TLS, as containerd does: whoever holds a token has what it names, nobody else has anything. A token lives for a
minute. Source: k8s.io/kubelet pkg/cri/streaming (request_cache.go: 8 characters, 1 minute, 1000 in flight).
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Callable
from typing import Final

from aiohttp import web

from minipod.errors import FailedPrecondition, Forbidden, MinipodError, Unavailable
from minipod.runtime.service import RuntimeService
from minipod.spec.ids import ContainerId, SandboxId
from minipod.streaming import server
from minipod.streaming.remotecommand import Wanted

LIFETIME: Final = 60.0  # seconds
IN_FLIGHT: Final = 1000

Serve = Callable[[web.Request], Awaitable[web.StreamResponse]]


class StreamingServer:
    """`start` listens, `stop` ends every stream."""

    def __init__(self, runtime: RuntimeService) -> None:
        self._runtime = runtime
        self._tokens: dict[str, Serve] = {}
        app = web.Application()
        app.add_routes([web.route("*", "/{verb}/{token}", self._serve)])
        self._runner = web.AppRunner(
            app, access_log=None, handle_signals=False, shutdown_timeout=1.0
        )
        self._base = ""

    async def start(self) -> None:
        """Listen on a free port of loopback."""
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self._base = f"http://{host}:{port}"

    async def stop(self) -> None:
        await self._runner.cleanup()

    def exec(self, container: ContainerId, command: tuple[str, ...], wanted: Wanted) -> str:
        """Return the URL at which *command* will run."""

        async def serve(request: web.Request) -> web.StreamResponse:
            return await server.remote_command(
                request,
                self._runtime,
                lambda: self._runtime.exec(container, command, tty=wanted.tty, stdin=wanted.stdin),
                wanted,
            )

        return self._url("exec", serve)

    def attach(self, container: ContainerId, wanted: Wanted) -> str:
        """Return the URL at which *container* can be attached to."""

        async def serve(request: web.Request) -> web.StreamResponse:
            return await server.remote_command(
                request,
                self._runtime,
                lambda: self._runtime.attach(container, stdin=wanted.stdin),
                wanted,
            )

        return self._url("attach", serve)

    def port_forward(self, sandbox: SandboxId) -> str:
        """Return the URL at which ports of *sandbox* can be reached."""

        async def serve(request: web.Request) -> web.StreamResponse:
            return await server.port_forward(
                request, lambda port: self._runtime.port_forward(sandbox, port)
            )

        return self._url("portforward", serve)

    def _url(self, verb: str, serve: Serve) -> str:
        if len(self._tokens) >= IN_FLIGHT:
            raise Unavailable("too many streams were asked for and not begun")
        token = secrets.token_urlsafe(12)
        self._tokens[token] = serve
        asyncio.get_running_loop().call_later(LIFETIME, self._tokens.pop, token, None)
        return f"{self._base}/{verb}/{token}"

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        serve = self._tokens.pop(request.match_info["token"], None)
        if serve is None:
            raise web.HTTPNotFound
        try:
            return await serve(request)
        except Forbidden as e:
            return web.Response(status=403, text=e.message)
        except FailedPrecondition as e:
            return web.Response(status=400, text=e.message)
        except MinipodError as e:
            return web.Response(status=500, text=e.message)
