"""Pid 1 of a pod whose containers share one pid namespace (NamespaceMode.POD).

It is a container like any other for the supervisor (own cgroup, record, adoption, exit), with a root file system that holds one
program of 200 bytes (`linux.pause`), no capability and no log; nobody above the runtime sees it. The other containers
join its pid namespace. When it ends, the kernel ends everything in the namespace, and the sandbox is no longer ready.
"""

from __future__ import annotations

import os

from minipod.errors import FailedPrecondition
from minipod.image.config import ImageConfig
from minipod.linux import pause
from minipod.runtime.bundle import ImageFacts
from minipod.runtime.state import Container, State
from minipod.spec.container import ContainerSpec, Security
from minipod.spec.ids import SandboxId

NAME = ""  # no container of a pod can have it
_NOBODY = 65535

SPEC = ContainerSpec(
    name=NAME,
    image="",
    oom_score_adj=-998,  # the kubelet's for pause
    security=Security(
        run_as_user=_NOBODY,
        run_as_group=_NOBODY,
        drop_capabilities=("ALL",),
        no_new_privs=True,
        readonly_rootfs=True,
    ),
)


def image(run_dir: str) -> ImageFacts:
    """Return the root file system, written at its first use. Runs in a thread."""
    layer = f"{run_dir}/pause"
    path = f"{layer}/pause"
    if not os.path.exists(path):
        os.makedirs(layer, 0o755, exist_ok=True)
        fd = os.open(f"{path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o755)
        os.write(fd, pause.program())
        os.close(fd)
        os.rename(f"{path}.new", path)
    config = ImageConfig(entrypoint=("/pause",))
    return ImageFacts(id="", ref="", config=config, layers=(layer,), of_node=True)


def of(state: State, sandbox: SandboxId) -> Container | None:
    """Return the sandbox's living pid 1."""
    found = (c for c in state.containers_of(sandbox) if c.record.spec.name == NAME)
    return next((c for c in found if not c.ended.is_set()), None)


def pid_of(state: State, sandbox: SandboxId) -> int:
    """Return its pid. Raises FailedPrecondition."""
    init = of(state, sandbox)
    if init is None:
        raise FailedPrecondition(f"the pid namespace of sandbox {sandbox} has ended")
    return init.pid
