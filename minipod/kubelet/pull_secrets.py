"""The credentials with which a pod's images may be pulled: of its Secrets, of its service account's, of the node.

Secrets of the types kubernetes.io/dockerconfigjson and kubernetes.io/dockercfg count, read anew for each pull.
The service account's names are used when the pod has none: with an API server that copies them into pods
it is the same. The node's own are in <registries>/config.json. A Secret that is missing or broken
is told by an event and left out: the pull may work without it.
Source: K8S pkg/kubelet/kubelet_pods.go (getPullSecretsForPod), pkg/credentialprovider/secrets.
"""

from __future__ import annotations

import base64
import binascii
import logging
from typing import TYPE_CHECKING, Any

from minipod.errors import ImageError, InvalidSpec, NotFound
from minipod.image import reference
from minipod.image.registry import keyring
from minipod.image.registry.keyring import Keyring

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.pods import Pod
    from minipod.spec.registry import AuthConfig

logger = logging.getLogger(__name__)


async def credentials(context: Context, pod: Pod, image: str) -> list[AuthConfig]:
    """Return what fits *image*, the most specific first; [] to pull as anybody."""
    ring, missing = Keyring(), []
    for name in await _names(context, pod):
        try:
            secret = await context.store.get("secrets", pod.namespace, name)
            add_secret(ring, secret)
        except (NotFound, InvalidSpec) as e:
            logger.info("pod %s: image pull secret %s: %s", pod.full_name, name, e.message)
            missing.append(name)
    if missing:
        message = (
            f"Unable to retrieve some image pull secrets ({', '.join(missing)}); "
            "attempting to pull the image may not succeed."
        )
        context.recorder.warning(pod, "FailedToRetrieveImagePullSecret", message)
    _add_node(ring, f"{context.instance.registries}/config.json")
    try:
        return ring.lookup(reference.parse(image))
    except ImageError:  # the pull says it
        return []


async def _names(context: Context, pod: Pod) -> list[str]:
    own = pod.raw.get("spec", {}).get("imagePullSecrets")
    if not own:
        try:
            account = await context.store.get(
                "serviceaccounts", pod.namespace, pod.service_account_name or "default"
            )
        except NotFound:
            return []
        own = account.get("imagePullSecrets")
    return list(dict.fromkeys(entry["name"] for entry in own or () if entry.get("name")))


def add_secret(ring: Keyring, secret: dict[str, Any]) -> None:
    """Add a Secret's credentials; one of another type has none. Raises InvalidSpec."""
    name = secret["metadata"]["name"]
    for kind, key, add in (
        ("kubernetes.io/dockerconfigjson", ".dockerconfigjson", keyring.add_docker_config),
        ("kubernetes.io/dockercfg", ".dockercfg", keyring.add_docker_cfg),
    ):
        encoded = (secret.get("data") or {}).get(key)
        if secret.get("type") != kind or not encoded:
            continue
        try:
            content = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError) as e:
            raise InvalidSpec("not valid base64", path=f"secret {name}: data[{key}]") from e
        add(ring, content, f"secret {name}: data[{key}]")


def _add_node(ring: Keyring, path: str) -> None:
    try:
        with open(path, "rb") as file:
            keyring.add_docker_config(ring, file.read(), path)
    except FileNotFoundError:
        return
    except (OSError, InvalidSpec) as e:
        logger.warning("credentials of the node not used: %s", e)
