"""Makes a sandbox's cgroup, namespaces and pins in a thread of the daemon: no process is forked for them.

The thread unshares, pins what it has in the vault and ends (`runtime.threads`). What must be made by a process of its own goes through the
supervisor, as containers do: a process with threads can't unshare a user namespace (unshare(2)).
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from minipod.cgroups.hierarchy import Hierarchy
from minipod.errors import SetupFailed
from minipod.linux.flags import CloneFlag
from minipod.spec.bundle import SandboxBundle


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A sandbox that has been set up. *network* is an fd of its network namespace, the receiver's to close; -1 for the node's."""

    namespaces: dict[str, int]  # kind -> inode number
    network: int


def build(bundle: SandboxBundle, hierarchy: Hierarchy, vault: str) -> Made:
    """Build it in the calling thread, which must end behind it; *vault* is the pin of the vault. Raises SetupFailed."""
    from minipod.init.child import run
    from minipod.init.operation import Context
    from minipod.init.sandbox import sandbox_plan
    from minipod.init.sync import StepFailed, Unheard
    from minipod.linux import namespaces

    context = Context(sync=Unheard(), hierarchy=hierarchy)
    try:
        context.vault_fd = context.fds["vault"] = os.open(vault, os.O_RDONLY | os.O_CLOEXEC)
        namespaces.unshare(CloneFlag.CLONE_FS)
        run(sandbox_plan(bundle).outer, context, bundle.fail_at)
        numbers = {
            k[3:]: os.fstat(fd).st_ino for k, fd in context.fds.items() if k.startswith("ns:")
        }
        return Made(namespaces=numbers, network=context.fds.pop("ns:net", -1))
    except StepFailed as e:
        raise SetupFailed(
            e.step, errno=e.errno, subject=e.subject, cause=e.cause, detail=e.detail
        ) from None
    except OSError as e:
        raise SetupFailed(
            "sandbox", errno=e.errno or 0, subject=os.fsdecode(e.filename or bundle.id)
        ) from e
    finally:
        for fd in context.fds.values():
            os.close(fd)
