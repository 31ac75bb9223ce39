"""persistentVolumeClaim and ephemeral volumes: from the claim to the bound volume's path on this node."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from minipod.api import placement
from minipod.errors import FailedPrecondition
from minipod.kubelet.rules.references import CLAIMS, claim_name

if TYPE_CHECKING:
    from minipod.kubelet.objects import ObjectReader
    from minipod.kubelet.rules.pods import Pod, Raw


async def bound_volume(objects: ObjectReader, pod: Pod, volume: Raw, node_name: str) -> Raw | None:
    """Return the PersistentVolume behind *volume*; None for a volume of another kind. Raises FailedPrecondition."""
    name = claim_name(pod.name, volume)
    if name is None:
        return None
    claim = await objects.get(CLAIMS, pod.namespace, name)
    if claim is None:
        raise FailedPrecondition(f'persistentvolumeclaim "{name}" not found')
    owners = claim["metadata"].get("ownerReferences") or ()
    if "ephemeral" in volume and pod.uid not in {owner["uid"] for owner in owners}:
        words = f'PVC "{name}" was not created for pod "{pod.name}" (pod is not owner)'
        raise FailedPrecondition(words)
    if (claim.get("status") or {}).get("phase") != "Bound":
        words = f"error processing PVC {pod.namespace}/{name}: PVC is not bound"
        raise FailedPrecondition(words)
    found = await objects.get("persistentvolumes", "", claim["spec"]["volumeName"])
    if found is None:
        raise FailedPrecondition(f'persistentvolume "{claim["spec"]["volumeName"]}" not found')
    # The claim is its namespace's to write, the volume is not: only that says whose it is (K8S getPVSpec).
    if (found["spec"].get("claimRef") or {}).get("uid") != claim["metadata"]["uid"]:
        words = f'persistentvolume "{claim["spec"]["volumeName"]}" is not bound to PVC {pod.namespace}/{name}'
        raise FailedPrecondition(words)
    await _check_node(objects, found, node_name)
    return found


async def _check_node(objects: ObjectReader, found: Raw, name: str) -> None:
    """A volume may be for other nodes only; where there is a scheduler, that would not have chosen this one (CheckNodeAffinity)."""
    required = (found["spec"].get("nodeAffinity") or {}).get("required")
    node = await objects.get("nodes", "", name) if required is not None else None
    if required is None or node is None or placement.selects(required, placement.node_facts(node)):
        return
    words = "node(s) had volume node affinity conflict: no matching NodeSelectorTerms"
    raise FailedPrecondition(
        f'{words} of persistentvolume "{found["metadata"]["name"]}" on node "{name}"'
    )


def path_of(found: Raw) -> str:
    """Return the directory of a PersistentVolume. Raises FailedPrecondition."""
    spec = found["spec"]
    source = spec.get("local") or spec.get("hostPath")
    if source is None:
        name = found["metadata"]["name"]
        raise FailedPrecondition(f'persistentvolume "{name}" is neither local nor hostPath')
    path = str(source["path"])
    if not os.path.isdir(path):
        raise FailedPrecondition(f"path {path!r} does not exist")
    return path
