"""The vault: a mount namespace in which the pods' namespaces and their /dev/shm are pinned, so that no process has to hold them.

    <run_dir>/vault        pins the vault itself
    /<sandbox>             in it: one tmpfs for each pod, whose end is the end of the rest
      net ipc uts [user]   mounts of the namespaces' nsfs files
      shm                  a directory: the pod's /dev/shm

It is outside of every tree that a container copies with its mount namespace (a copy costs 2 ms at 3,000 mounts), and holds nothing of the
host. `make_vault` makes it at a node's first start; `PinNamespaces` is the last step of a sandbox, `OpenPins` one of the first of each
container. How pins are dropped, without a process in there: `minipod.runtime.vault`. `open_bare` makes another one with nothing in it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
from collections.abc import Hashable
from dataclasses import dataclass

from minipod.init.operation import Context, Repeats
from minipod.linux import mount, namespaces, prctl
from minipod.linux.flags import AT_FDCWD, CloneFlag, MountFlag, MoveMount, OpenTree, UmountFlag
from minipod.linux.program import Call, Text

PINS = 4096  # bytes of a tmpfs that holds empty files alone


@dataclass(frozen=True, slots=True, kw_only=True)
class PinNamespaces:
    """Keep this process' namespaces in the vault, and a directory for /dev/shm; no process pins them.

    All is on one tmpfs, whose end is the end of the rest. The pod's mount of shm shows nothing else of it.
    """

    sandbox_id: str
    kinds: tuple[str, ...]
    shm_size: int  # bytes; 0 for no /dev/shm of the pod's own (host ipc)
    shm_owner: int = 0  # its user and group, as the host counts
    cause: str = ""

    def describe(self) -> str:
        owner = f" of {self.shm_owner}" if self.shm_owner else ""
        shm = f"; tmpfs{owner} size={self.shm_size} for /dev/shm" if self.shm_size else ""
        return f"pin {' '.join(self.kinds)} in the vault{shm}"

    def apply(self, context: Context) -> None:
        for kind in self.kinds:
            fd = context.fds.get(f"ns:{kind}", -1)  # of a pod in a user namespace: opened there
            if fd < 0:
                fd = os.open(f"/proc/thread-self/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC)
                context.fds[f"ns:{kind}"] = fd
            # An nsfs file may be cloned from anywhere, though it is in no mount namespace (open_tree(2)).
            context.fds[f"tree:{kind}"] = mount.open_tree(
                fd, "", OpenTree.CLONE | OpenTree.CLOEXEC | OpenTree.AT_EMPTY_PATH
            )
        namespaces.setns(context.vault_fd, CloneFlag.CLONE_NEWNS)
        directory = f"/{self.sandbox_id}"
        os.mkdir(directory, 0o700)
        flags = MountFlag.MS_NOSUID | MountFlag.MS_NODEV | MountFlag.MS_NOEXEC
        mount.mount("shm", directory, "tmpfs", flags, f"mode=700,size={self.shm_size or PINS}")
        for kind in self.kinds:
            target = f"{directory}/{kind}"
            os.close(os.open(target, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600))
            tree = context.fds[f"tree:{kind}"]
            mount.move_mount(tree, "", AT_FDCWD, target, MoveMount.F_EMPTY_PATH)
        if self.shm_size:
            os.mkdir(f"{directory}/shm")
            os.chmod(f"{directory}/shm", 0o1777)  # noqa: S103 as /dev/shm is
            os.chown(f"{directory}/shm", self.shm_owner, self.shm_owner)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenPins(Repeats):
    """Visit the vault: open the pod's pinned namespaces and a clone of its /dev/shm, come back."""

    sandbox_id: str
    kinds: tuple[str, ...]
    shm: bool
    cause: str = ""

    def describe(self) -> str:
        return f"open pins of sandbox {self.sandbox_id}: {' '.join(self.kinds)}" + (
            " shm" if self.shm else ""
        )

    def apply(self, context: Context) -> None:
        home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        namespaces.setns(context.vault_fd, CloneFlag.CLONE_NEWNS)
        try:
            for kind in self.kinds:
                context.fds[f"ns:{kind}"] = os.open(
                    f"/{self.sandbox_id}/{kind}", os.O_RDONLY | os.O_CLOEXEC
                )
            if self.shm:
                context.fds["shm"] = mount.open_tree(
                    AT_FDCWD, f"/{self.sandbox_id}/shm", OpenTree.CLONE | OpenTree.CLOEXEC
                )
        finally:
            namespaces.setns(home, CloneFlag.CLONE_NEWNS)
            os.close(home)

    def calls(self, context: Context) -> list[Call]:
        """The way home is open already."""
        found = [Call("setns", (context.vault_fd, int(CloneFlag.CLONE_NEWNS)))]
        found.append(Call("chdir", (*self.texts(context),)))
        for kind in self.kinds:
            found.append(Call("openat", (AT_FDCWD, kind.encode(), os.O_RDONLY | os.O_CLOEXEC)))
            context.fds[f"ns:{kind}"] = context.numbers.open()
        if self.shm:
            flags = int(OpenTree.CLONE | OpenTree.CLOEXEC)
            found.append(Call("open_tree", (AT_FDCWD, b"shm", flags)))
            context.fds["shm"] = context.numbers.open()
        home = context.fds.pop("home")
        back = Call("setns", (home, int(CloneFlag.CLONE_NEWNS)))
        return [*found, back, *map(context.numbers.close, (context.vault_fd, home))]

    def shape(self) -> Hashable:
        return type(self), self.kinds, self.shm

    def texts(self, context: Context) -> list[Text]:
        return [Text(f"/{self.sandbox_id}".encode())]


def pinned(vault_fd: int) -> list[str]:
    """Return the sandboxes that have pins in the vault. Forks: nobody else may enter a mount namespace."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            namespaces.setns(vault_fd, CloneFlag.CLONE_NEWNS)
            os.write(writer, "\n".join(os.listdir("/")).encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as f:
        names = f.read().split()
    os.waitpid(child, 0)
    return names


def make_vault(pin: str, stage: str) -> None:
    """Make the vault and pin it at *pin* (a file on a private mount); *stage* is an empty directory.

    The vault holds one tmpfs and nothing of the host, so no file system of the host stays busy through it.

    The kernel pins no mount namespace with a lower number than ours (fs/namespace.c, mnt_ns_loop), and newer ones number them from a
    range for each CPU. Where ours is a young one, a child on another CPU may make one that is pinned. Raises OSError.
    """
    ways = range(-1, os.cpu_count() or 0)
    for cpu in ways:
        try:
            _make_vault(pin, stage, cpu)
        except OSError as e:
            if os.path.exists(pin):
                os.unlink(pin)  # or the next start took the file for the vault
            if e.errno != errno.EINVAL or cpu == ways[-1]:
                raise
        else:
            return


def _make_vault(pin: str, stage: str, cpu: int) -> None:
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _vault_child(writer, stage, cpu)
    os.close(writer)
    made = os.read(reader, 1)
    os.close(reader)
    try:
        if made != b"1":
            raise OSError(5, "the vault's mount namespace could not be made", pin)
        os.close(os.open(pin, os.O_CREAT | os.O_RDONLY | os.O_CLOEXEC, 0o600))
        mount.mount(f"/proc/{child}/ns/mnt", pin, "", MountFlag.MS_BIND)
        # A volume of "/" would copy the pin, and the kernel attaches no tree that holds a mount namespace (ELOOP, move_mount(2)).
        mount.mount("", pin, "", MountFlag.MS_UNBINDABLE)
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


def open_bare(stage: str) -> int:
    """Return an fd of a new mount namespace that holds an empty, read-only directory alone: containers begin with a copy of it, for one of
    the host's would have to be left, and the end of what is unmounted waits for an RCU grace period (fs/namespace.c, namespace_unlock).

    This process visits it, *stage* is an empty directory. Raises OSError.
    """
    home = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
    try:
        namespaces.unshare(CloneFlag.CLONE_NEWNS)
        try:
            bare = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            flags = (
                MountFlag.MS_RDONLY | MountFlag.MS_NOSUID | MountFlag.MS_NODEV | MountFlag.MS_NOEXEC
            )
            _leave_host("bare", stage, flags, "mode=0555,size=0,nr_inodes=1")
        finally:
            namespaces.setns(home, CloneFlag.CLONE_NEWNS)
    finally:
        os.close(home)
    return bare


def _leave_host(name: str, stage: str, flags: MountFlag, options: str) -> None:
    """Make a tmpfs the only mount of this process' mount namespace, a new copy of the host's."""
    mount.mount("", "/", "", MountFlag.MS_REC | MountFlag.MS_PRIVATE)
    mount.mount(name, stage, "tmpfs", flags, options)
    os.chdir(stage)
    mount.pivot_root(".", ".")
    mount.umount2(".", UmountFlag.MNT_DETACH)


def _vault_child(writer: int, stage: str, cpu: int) -> None:
    """Become the vault's first and last process: unshare (on *cpu*, -1: any), an empty root, wait to be killed."""
    try:
        if cpu >= 0:
            with contextlib.suppress(OSError):  # not ours to use
                os.sched_setaffinity(0, {cpu})
        prctl.set_pdeathsig(9)
        namespaces.unshare(CloneFlag.CLONE_NEWNS)
        _leave_host("vault", stage, MountFlag.MS_NOSUID, "mode=0700")
        os.write(writer, b"1")
        signal.pause()
    finally:
        os._exit(1)
