"""What of a living pod the node need not keep: instances beyond the last two of a container, with their logs, and old sandboxes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.kubelet import logs
from minipod.kubelet.translate import pod_log_directory
from minipod.spec.ids import ContainerId, SandboxId

if TYPE_CHECKING:
    from minipod.kubelet.context import Context
    from minipod.kubelet.rules.observed import Observed
    from minipod.kubelet.rules.pods import Pod
    from minipod.kubelet.termination import Messages

_KEPT_INSTANCES = 2  # per container: the newest and the one before, for its log


async def prune(context: Context, messages: Messages, pod: Pod, observed: Observed) -> None:
    """Remove them."""
    instance = context.instance
    kept_sandboxes = {observed.sandboxes[0].id} if observed.sandboxes else set()
    for container in pod.all_containers:
        instances = observed.instances(container.name)
        kept_sandboxes |= {i.sandbox_id for i in instances[:_KEPT_INSTANCES]}
        for old in instances[_KEPT_INSTANCES:]:
            await context.runtime.remove_container(ContainerId(old.id))
            messages.forget(old.id)
            directory = f"{pod_log_directory(instance.log_dir, pod)}/{container.name}"
            logs.remove(directory, instance.log_link_dir, pod, old)
    for sandbox in observed.sandboxes:
        if sandbox.id not in kept_sandboxes:
            await context.runtime.remove_pod_sandbox(SandboxId(sandbox.id))
