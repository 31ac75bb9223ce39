"""What a container's environment is made from, gathered from the store and the pod's volumes. The rules are `rules.env`."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING

from minipod.errors import InvalidSpec
from minipod.kubelet.rules import env, references

if TYPE_CHECKING:
    from collections.abc import Mapping

    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.pods import Container, Pod, Raw
    from minipod.kubelet.volumes.mounted import MountedVolume

ENV_FILE_MAX = 64 << 10  # bytes of a file that fileKeyRef names


async def variables(
    context: Context,
    pod: Pod,
    container: Container,
    facts: env.NodeFacts,
    volumes: Mapping[str, MountedVolume],
) -> dict[str, str]:
    """Return the variables; what envFrom had to skip becomes an event. Raises InvalidSpec."""
    sources = env.Sources(
        facts=facts,
        objects=await context.objects.read(pod.namespace, references.of_environment(container)),
        links=await _links(context, pod),
        files=await _files(container, volumes),
    )
    found = env.environment(pod, container, sources)
    for source, names in found.skipped:
        words = (
            f"Keys [{', '.join(names)}] from the EnvFrom {source} were skipped since they are"
            " considered invalid environment variable names."
        )
        context.recorder.warning(pod, "InvalidEnvironmentVariableNames", words, container)
    return found.variables


async def _links(context: Context, pod: Pod) -> dict[str, str]:
    services = await context.objects.services(pod.namespace)
    return env.service_links(services, _master(context), enabled=pod.enable_service_links)


def _master(context: Context) -> Raw:
    """The API server as the service `kubernetes`, where the store has none."""
    instance = context.instance
    port = {"name": "https", "protocol": "TCP", "port": instance.api_port}
    return {
        "metadata": {"name": "kubernetes", "namespace": "default"},
        "spec": {"clusterIP": context.api_address, "ports": [port]},
    }


async def _files(
    container: Container, volumes: Mapping[str, MountedVolume]
) -> dict[tuple[str, str], dict[str, str]]:
    found: dict[tuple[str, str], dict[str, str]] = {}
    for entry in container.env:
        ref = (entry.get("valueFrom") or {}).get("fileKeyRef")
        if ref and (ref["volumeName"], ref["path"]) not in found:
            volume = volumes.get(ref["volumeName"])
            if volume is None or not volume.path:
                raise InvalidSpec(f"volume {ref['volumeName']} can't hold a file of variables")
            text = await asyncio.to_thread(_read, volume.path, ref)
            found[ref["volumeName"], ref["path"]] = env.parse_env_file(text)
    return found


def _read(volume: str, ref: Raw) -> str:
    """Read a file of a volume; the containers that wrote it can lead nowhere else by a symlink."""
    from minipod.linux import files  # ctypes: only for those that ask

    root = os.open(volume, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fd = files.open_file_in_root(root, ref["path"])
    except FileNotFoundError:
        if ref.get("optional"):
            return ""
        words = f"file {ref['path']} not found in volume {ref['volumeName']}"
        raise InvalidSpec(words) from None
    except OSError as e:
        words = f"file {ref['path']} of volume {ref['volumeName']}: {(e.strerror or '').lower()}"
        raise InvalidSpec(words) from None
    finally:
        os.close(root)
    with open(fd, "rb") as file:
        return file.read(ENV_FILE_MAX).decode("utf-8", "replace")
