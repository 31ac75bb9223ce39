"""A volume that is ready to be mounted into a container."""

from __future__ import annotations

from dataclasses import dataclass

from minipod.errors import FailedPrecondition


@dataclass(frozen=True, slots=True, kw_only=True)
class MountedVolume:
    """*path* on the host, or an *image* whose files are the volume."""

    path: str = ""
    image: str = ""
    readonly: bool = False  # whatever the container asks for
    mapped: bool = False  # its owners are ids of the pod's user namespace


def mount_failure(volume: str, why: str) -> FailedPrecondition:
    """The kubelet's words for a volume that could not be set up."""
    return FailedPrecondition(f'MountVolume.SetUp failed for volume "{volume}" : {why}')
