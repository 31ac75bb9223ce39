"""The daemon's own routes for images: a pull whose progress is streamed, so that the command line shares the kubelet's downloads.

POST /minipod/images/pull {"image", "platform", "auth"}
-> lines of JSON: {"digest", "state", "done", "total"} ..., at the end {"image"} or {"error", "reason", "hint"}
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import asdict
from typing import Any

from aiohttp import web

from minipod.errors import MinipodError
from minipod.image.registry.progress import LayerProgress
from minipod.runtime.service import ImageService
from minipod.spec.registry import AuthConfig


class ImageRoutes:
    """Handlers over the runtime's images."""

    def __init__(self, images: ImageService) -> None:
        self._images = images

    def routes(self) -> list[web.RouteDef]:
        return [web.post("/minipod/images/pull", self._pull)]

    async def _pull(self, request: web.Request) -> web.StreamResponse:
        asked = await request.json()
        news: asyncio.Queue[LayerProgress | None] = asyncio.Queue()
        pull = asyncio.ensure_future(
            self._images.pull_image(
                asked["image"],
                AuthConfig(**asked.get("auth") or {}),
                platform=asked.get("platform") or "",
                tell=news.put_nowait,
            )
        )
        pull.add_done_callback(lambda _: news.put_nowait(None))
        response = web.StreamResponse(headers={"Content-Type": "application/x-ndjson"})
        await response.prepare(request)
        try:
            while (one := await news.get()) is not None:
                await response.write(_line(asdict(one)))
            await response.write(_line(await _end(pull)))
        except ConnectionError:
            pass  # nobody reads any more
        finally:
            pull.cancel()  # others who wait for the same image keep it going
        return response


async def _end(pull: asyncio.Future[Any]) -> dict[str, Any]:
    try:
        return {"image": asdict(await pull)}
    except MinipodError as e:
        reason = getattr(e, "reason", "")
        return {"error": e.message, "reason": reason, "hint": e.hint}


def _line(value: dict[str, Any]) -> bytes:
    return json.dumps(value).encode() + b"\n"
