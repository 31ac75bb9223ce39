"""RuntimeClasses: which handler runs a pod (K8S pkg/kubelet/runtimeclass). All handlers that a node knows are this runtime.

Which fields a class adds to a pod is admission's business (`apiserver.admission_runtime`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.errors import NotFound

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.pods import Pod


async def check_handler(context: Context, pod: Pod) -> None:
    """Find the handler of the pod's class. Raises NotFound: there is no such class, or no such handler on this node."""
    name = pod.runtime_class_name
    if not name:
        return
    found = await context.objects.get("runtimeclasses", "", name)
    if found is None:
        raise NotFound(f'RuntimeClass "{name}" not found')
    handler = str(found.get("handler", ""))
    if handler not in context.instance.runtime_handlers:
        raise NotFound(f'no runtime for "{handler}" is configured')
