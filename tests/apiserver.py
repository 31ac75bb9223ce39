"""An API server of the test's own, in its loop and on a unix socket: store, machinery, no kubelet, no TLS; whoever asks may everything."""

from __future__ import annotations

import io
import json
from typing import Any

import aiohttp
from aiohttp import web

from minipod.aio.local import Listener
from minipod.apiserver import kinds
from minipod.apiserver.app import Api, tell_errors
from minipod.apiserver.codec import BODY_MAX
from minipod.apiserver.resources import Registry, Resource
from minipod.apiserver.store_sqlite import SqliteStore

NODE = "node1"
SPACE = "/api/v1/namespaces/default"


class Answer:
    """What came back."""

    def __init__(self, status: int, headers: Any, body: bytes) -> None:
        self.status = status
        self.headers = headers
        self.body = body

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Server:
    """`async with Server(path) as server`; `call` sends a request."""

    def __init__(self, directory: Any, *more: Resource) -> None:
        self._directory = str(directory)
        self.store = SqliteStore(f"{directory}/store.db", Registry((*kinds.RESOURCES, *more)))
        self.api = Api(self.store, None, NODE)  # type: ignore[arg-type]  # nothing here streams
        app = web.Application(middlewares=[tell_errors], client_max_size=BODY_MAX)
        app.add_routes(self.api.routes())
        self._runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)

    async def __aenter__(self) -> Server:
        self.store.open()
        for name in ("default", "other"):
            namespace = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
            await self.store.create("namespaces", "", namespace)
        await self._runner.setup()
        self.socket = f"{self._directory}/api.sock"
        assert self._runner.server is not None
        self._listener = Listener(self.socket, self._runner.server)
        self.session = aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(self.socket, limit=0), read_bufsize=1 << 24
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.session.close()
        self.api.closing.set()
        self._listener.close()
        await self._runner.cleanup()
        self.store.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        media: str = "application/json",
        accept: str = "application/json",
    ) -> Answer:
        """Send a request; *body* is sent as it is when it is bytes, else as JSON."""
        content = (
            body
            if isinstance(body, (bytes, io.IOBase)) or body is None
            else json.dumps(body).encode()
        )
        headers = {"Content-Type": media, "Accept": accept} if media else {"Accept": accept}
        sent = self.session.request(method, f"http://x{path}", data=content, headers=headers)
        async with sent as answer:
            return Answer(answer.status, answer.headers, await answer.read())

    async def watch(self, path: str, accept: str = "application/json") -> Watching:
        """Begin a watch."""
        answer = await self.session.get(f"http://x{path}", headers={"Accept": accept})
        return Watching(answer)


class Watching:
    """A watch's events."""

    def __init__(self, answer: aiohttp.ClientResponse) -> None:
        self.answer = answer

    async def next(self) -> Any:
        line = await self.answer.content.readuntil(b"\n")
        return json.loads(line) if line else None

    async def some(self, count: int) -> list[tuple[str, str]]:
        """Return the next events as (type, name)."""
        events = [await self.next() for _ in range(count)]
        return [(e["type"], e["object"].get("metadata", {}).get("name", "")) for e in events]

    def close(self) -> None:
        self.answer.close()


def config_map(name: str, labels: Any = None, **data: str) -> dict[str, Any]:
    metadata = {"name": name, **({"labels": labels} if labels else {})}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}


def pod(name: str = "p", **container: object) -> dict[str, Any]:
    spec = {"containers": [{"name": "app", "image": "busybox:1.36", **container}]}
    return {"kind": "Pod", "apiVersion": "v1", "metadata": {"name": name}, "spec": spec}
