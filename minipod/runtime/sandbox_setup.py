"""Makes a sandbox's cgroup, namespaces and pins in a thread of the daemon: no process is forked for them.

    build                at once, for a pod that asked
    prepare, furnish     what is the same for every pod, while nobody asks; then what only the pod can say (`runtime.prepared_sandboxes`),
                         where `runtime.furnishing` can't do it by a program of system calls

The thread unshares, pins what it has in the vault and ends (`runtime.threads`). What must be made by a process of its own goes through the
supervisor, as containers do: a process with threads can't unshare a user namespace (unshare(2)).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from minipod.cgroups.hierarchy import Hierarchy
from minipod.errors import SetupFailed
from minipod.linux.flags import CloneFlag
from minipod.spec.bundle import SandboxBundle

if TYPE_CHECKING:
    from minipod.init.operation import Context, Operation

KINDS = ("net", "uts", "ipc")  # that a sandbox owns when it shares none with the node


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A sandbox that has been set up. *network*, *uts* are fds of its namespaces, the receiver's to close; -1 where it needs none."""

    namespaces: dict[str, int]  # kind -> inode number
    network: int = -1
    uts: int = -1  # of a prepared one, which gets its name later


def build(bundle: SandboxBundle, hierarchy: Hierarchy, vault: str) -> Made:
    """Build it in the calling thread, which must end behind it; *vault* is the pin of the vault. Raises SetupFailed."""
    from minipod.init.sandbox import sandbox_plan

    with _context(bundle.id, hierarchy) as context:
        _unshare(context, sandbox_plan(bundle).outer, vault, bundle.fail_at)
        return Made(namespaces=_numbers(context), network=context.fds.pop("ns:net", -1))


def prepare(sandbox: str, shm_size: int, hierarchy: Hierarchy, vault: str) -> Made:
    """Make and pin the namespaces of a sandbox that is nobody's yet, in a thread that ends behind it. Raises SetupFailed."""
    from minipod.init.namespaces import Unshare
    from minipod.init.vault import PinNamespaces

    flags = CloneFlag.CLONE_NEWNET | CloneFlag.CLONE_NEWUTS | CloneFlag.CLONE_NEWIPC
    pin = PinNamespaces(sandbox_id=sandbox, kinds=KINDS, shm_size=shm_size)
    with _context(sandbox, hierarchy) as context:
        _unshare(context, (Unshare(flags=flags), pin), vault, "")
        fds = context.fds
        return Made(namespaces=_numbers(context), network=fds.pop("ns:net"), uts=fds.pop("ns:uts"))


def furnish(bundle: SandboxBundle, uts: int, hierarchy: Hierarchy) -> None:
    """Make a prepared sandbox the pod's: its cgroup, its name. In a thread that ends behind it: it enters *uts*. Raises SetupFailed."""
    from minipod.init.cgroup import CreateCgroup
    from minipod.init.child import run
    from minipod.init.namespaces import SetHostname
    from minipod.linux import namespaces

    with _context(bundle.id, hierarchy) as context:
        namespaces.setns(uts, CloneFlag.CLONE_NEWUTS)
        cgroup = CreateCgroup(path=bundle.cgroup, resources=bundle.resources)
        run((cgroup, SetHostname(name=bundle.hostname)), context, bundle.fail_at)


@contextmanager
def _context(sandbox: str, hierarchy: Hierarchy) -> Iterator[Context]:
    """Close in the end what a set-up opened; whatever it raises is told as SetupFailed."""
    from minipod.init.operation import Context
    from minipod.init.sync import StepFailed, Unheard

    context = Context(sync=Unheard(), hierarchy=hierarchy)
    try:
        yield context
    except StepFailed as e:
        raise SetupFailed(
            e.step, errno=e.errno, subject=e.subject, cause=e.cause, detail=e.detail
        ) from None
    except OSError as e:
        raise SetupFailed(
            "sandbox", errno=e.errno or 0, subject=os.fsdecode(e.filename or sandbox)
        ) from e
    finally:
        for fd in context.fds.values():
            os.close(fd)


def _unshare(context: Context, operations: tuple[Operation, ...], vault: str, fail_at: str) -> None:
    from minipod.init.child import run
    from minipod.linux import namespaces

    context.vault_fd = context.fds["vault"] = os.open(vault, os.O_RDONLY | os.O_CLOEXEC)
    namespaces.unshare(CloneFlag.CLONE_FS)
    run(operations, context, fail_at)


def _numbers(context: Context) -> dict[str, int]:
    return {k[3:]: os.fstat(fd).st_ino for k, fd in context.fds.items() if k.startswith("ns:")}
