"""The identities that cross layers, as types of their own."""

from __future__ import annotations

from typing import NewType

PodUid = NewType("PodUid", str)
SandboxId = NewType("SandboxId", str)  # 32 hex digits
ContainerId = NewType("ContainerId", str)  # 32 hex digits
ImageId = NewType("ImageId", str)  # "sha256:<64 hex>", the digest of the image's config
