"""ImageService: one method for each RPC, named like it in snake case."""

from __future__ import annotations

import asyncio
import base64
import binascii
import time
from typing import Any

from minipod.cri import render
from minipod.cri.messages import Messages
from minipod.cri.stats import disk_usage
from minipod.errors import InvalidSpec, NotFound
from minipod.runtime.service import ImageService
from minipod.spec.registry import AuthConfig


class ImageRpcs:
    """The RPCs of one package."""

    def __init__(self, pb: Messages, images: ImageService, state_dir: str) -> None:
        self._pb = pb
        self._images = images
        self._state_dir = state_dir

    async def list_images(self, request: Any) -> Any:
        pb, name = self._pb, request.filter.image.image
        if name:
            found = await self._images.image_status(name)
            images = [found] if found is not None else []
        else:
            images = await self._images.list_images()
        return pb.ListImagesResponse(images=[render.image(pb, i) for i in images])

    async def image_status(self, request: Any) -> Any:
        """An image that is not here is an answer without one, no error (api.proto)."""
        pb = self._pb
        found = await self._images.image_status(_name(request))
        return pb.ImageStatusResponse(image=None if found is None else render.image(pb, found))

    async def pull_image(self, request: Any) -> Any:
        pulled = await self._images.pull_image(_name(request), credentials(request.auth))
        return self._pb.PullImageResponse(image_ref=pulled.id)

    async def remove_image(self, request: Any) -> Any:
        try:
            await self._images.remove_image(_name(request))
        except NotFound:
            pass  # removed already, which is no error (api.proto)
        return self._pb.RemoveImageResponse()

    async def image_fs_info(self, _: Any) -> Any:
        pb = self._pb
        usages = []
        for name in ("images", "containers"):
            used = await asyncio.to_thread(disk_usage, f"{self._state_dir}/{name}")
            usages.append(
                pb.FilesystemUsage(
                    timestamp=time.time_ns(),
                    fs_id=pb.FilesystemIdentifier(mountpoint=f"{self._state_dir}/{name}"),
                    used_bytes=pb.UInt64Value(value=used["disk"]),
                    inodes_used=pb.UInt64Value(value=used["inodes"]),
                )
            )
        return pb.ImageFsInfoResponse(
            image_filesystems=usages[:1], container_filesystems=usages[1:]
        )


def _name(request: Any) -> str:
    if not request.image.image:
        raise InvalidSpec("must not be empty", path="image.image")
    return str(request.image.image)


def credentials(auth: Any) -> AuthConfig:
    """Return an AuthConfig; `auth` is user and password in base64, as Docker's config.json has it. Raises InvalidSpec."""
    username, password = auth.username, auth.password
    if auth.auth and not username:
        try:
            plain = base64.b64decode(auth.auth, validate=True).decode()
        except (binascii.Error, ValueError) as e:
            raise InvalidSpec("is not base64", path="auth.auth") from e
        username, _, password = plain.partition(":")
    return AuthConfig(
        username=username,
        password=password.rstrip("\0"),
        identity_token=auth.identity_token,
        registry_token=auth.registry_token,
    )
