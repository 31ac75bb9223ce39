"""Operations of a pod in a user namespace of its own (hostUsers: false; user_namespaces(7), KEP-127).

    sandbox     fork; the child unshares user, net, ipc and uts at once, so that the pod's user namespace owns the others; we write
                its maps, it becomes root in there and sets name and sysctls (those of ipc only its owner may write); we pin
    container   host's root: id-mapped sources, the overlay over id-mapped layers, both in a first copy of the mounts
                -> enter the user namespace, unshare mnt and pid in it -> fork, still as the host's uid 0 (clone3 wants it for
                the cgroup, and the way to the mount point is root's) -> attach the root, become root in there -> as ever

No device can be made in a user namespace: the host's nodes are bound. The upper directory belongs to the pod's root, for overlayfs
writes there as whoever it works for.

**Who joins is not dumpable** from before the first setns to execve. Until it has changed its user it is the host's root, and a container's
root with CAP_SYS_PTRACE may trace every dumpable process of its user namespace. It can't be made dumpable from there: the
memory belongs to the first user namespace (ptrace(2), PTRACE_MODE_ATTACH).
"""

from __future__ import annotations

import errno
import os
import signal
import socket
from dataclasses import dataclass
from typing import NoReturn

from minipod.init import sync
from minipod.init.child import run
from minipod.init.device import LINKS, NODES, keep_null
from minipod.init.namespaces import names
from minipod.init.operation import Context, Operation
from minipod.init.sources import attach_layers
from minipod.init.targets import target_directory, target_file
from minipod.linux import mount, namespaces, prctl
from minipod.linux.flags import AT_FDCWD, CloneFlag, MountFlag, MoveMount, OpenTree
from minipod.spec.bundle import RootFs
from minipod.spec.sandbox import UserNamespace

_NO_NAMESPACE = "this kernel gives no user namespace, which hostUsers: false needs (sysctl user.max_user_namespaces)"


@dataclass(frozen=True, slots=True, kw_only=True)
class MakeUserNamespace:
    """Make a user namespace and others that it owns, in a child; *inside* is done there, as its root. Opens all of them."""

    ids: UserNamespace
    flags: CloneFlag  # beside the user namespace
    kinds: tuple[str, ...]
    inside: tuple[Operation, ...] = ()
    cause: str = "spec.hostUsers"

    def describe(self) -> str:
        made = (
            f"fork, unshare user {names(self.flags)}, map {self.ids.length} ids to {self.ids.first}"
        )
        return "; ".join((made, *(f"inside: {o.describe()}" for o in self.inside)))

    def apply(self, context: Context) -> None:
        ours, theirs = sync.pair()
        ours.setblocking(True)
        child = os.fork()
        if child == 0:
            ours.close()  # or the child would not see our end
            self._child(context, theirs)
        theirs.close()
        try:
            _await_ready(ours)
            for name in ("uid_map", "gid_map"):
                _write(f"/proc/{child}/{name}", f"0 {self.ids.first} {self.ids.length}")
            ours.send(b"go")
            _await_ready(ours)
            for kind in self.kinds:
                path = f"/proc/{child}/ns/{kind}"
                context.fds[f"ns:{kind}"] = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        finally:
            ours.close()
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)

    def _child(self, context: Context, parent: sync.SyncPipe) -> NoReturn:
        try:
            try:
                namespaces.unshare(CloneFlag.CLONE_NEWUSER | self.flags)
            except OSError as e:
                raise sync.StepFailed(
                    f"unshare user {names(self.flags)}", e.errno or 0, "", cause=self.cause,
                    detail=_NO_NAMESPACE if e.errno in (errno.ENOSPC, errno.EPERM) else str(e.strerror),
                ) from None  # fmt: skip
            parent.ready()
            if parent.await_go():
                run((BecomeRoot(), *self.inside), context, "")
                parent.ready()
                parent.await_go()  # to be killed, or for the parent's end
        except sync.StepFailed as e:
            parent.failed(e)
        finally:
            os._exit(1)


def _await_ready(sock: socket.socket) -> None:
    message, _ = sync.receive(sock)
    if message is None:
        raise sync.StepFailed("user namespace", 0, "", detail="its process was killed")
    if message["t"] == "failed":
        raise sync.StepFailed(
            message["step"], message["errno"], message["subject"], cause=message["cause"], detail=message["detail"]
        )  # fmt: skip


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    except OSError as e:
        raise OSError(e.errno, e.strerror, path) from e
    finally:
        os.close(fd)


@dataclass(frozen=True, slots=True, kw_only=True)
class EnterUserNamespace:
    """Enter the pod's user namespace, and make in it the namespaces of the container's own, which it owns then."""

    flags: CloneFlag
    cause: str = "spec.hostUsers"

    def describe(self) -> str:
        return f"not dumpable; setns user; unshare {names(self.flags)}"

    def apply(self, context: Context) -> None:
        prctl.set_dumpable(False)
        user = context.fds.pop("ns:user")
        namespaces.setns(user, CloneFlag.CLONE_NEWUSER)
        os.close(user)
        namespaces.unshare(self.flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class BecomeRoot:
    """Be the user namespace's root: until now this process was the host's, without a name in there."""

    cause: str = "spec.hostUsers"

    def describe(self) -> str:
        return "uid=0 gid=0 groups=[] of the user namespace"

    def apply(self, context: Context) -> None:
        os.setgroups(())
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        # the change of the user may have reset it (sysctl fs.suid_dumpable)
        prctl.set_dumpable(False)


@dataclass(frozen=True, slots=True, kw_only=True)
class MountMappedRoot:
    """Mount the overlay over id-mapped layers, like `MountRoot`. They are on a tmpfs below it, out of sight."""

    root: RootFs
    cause: str = ""

    def describe(self) -> str:
        return f"mount overlay at {self.root.mountpoint}: {len(self.root.lower)} layers, id-mapped"

    def apply(self, context: Context) -> None:
        root = self.root
        lower = ":".join(attach_layers(context, root.lower, root.mountpoint))
        os.chdir(root.mountpoint)
        options = f"volatile,lowerdir={lower},upperdir={root.upper},workdir={root.work}"
        mount.mount("overlay", root.mountpoint, "overlay", MountFlag(0), options)
        os.chdir("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneRoot:
    """Take the root as a detached tree: the one in the copied mounts is locked, and can't become `/` (mount_namespaces(7))."""

    mountpoint: str
    cause: str = ""

    def describe(self) -> str:
        return f"open_tree {self.mountpoint}"

    def apply(self, context: Context) -> None:
        flags = OpenTree.CLONE | OpenTree.CLOEXEC
        context.fds["root:tree"] = mount.open_tree(AT_FDCWD, self.mountpoint, flags)
        if (copied := context.fds.pop("root", -1)) >= 0:
            os.close(copied)


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachRoot:
    """Attach the root in the container's own mount namespace."""

    mountpoint: str
    cause: str = ""

    def describe(self) -> str:
        return f"move_mount the root to {self.mountpoint}"

    def apply(self, context: Context) -> None:
        tree = context.fds.pop("root:tree")
        mount.move_mount(tree, "", AT_FDCWD, self.mountpoint, MoveMount.F_EMPTY_PATH)
        os.close(tree)
        flags = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
        context.fds["root"] = os.open(self.mountpoint, flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class CloneDevices:
    """Open nodes of the host's /dev as detached trees."""

    sources: tuple[str, ...]
    cause: str = ""

    def describe(self) -> str:
        return f"open_tree {' '.join(self.sources)}"

    def apply(self, context: Context) -> None:
        for source in self.sources:
            flags = OpenTree.CLONE | OpenTree.CLOEXEC
            context.fds[f"dev:{source}"] = mount.open_tree(AT_FDCWD, source, flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class BindDevices:
    """Bind nodes of the host: (source, target) each. They belong to nobody in there, with the host's mode."""

    devices: tuple[tuple[str, str], ...]
    cause: str = ""

    def describe(self) -> str:
        return f"bind {' '.join(target for _, target in self.devices)} of the host"

    def apply(self, context: Context) -> None:
        for source, path in self.devices:
            tree = context.fds.pop(f"dev:{source}")
            target = target_file(context, path)
            flags = MoveMount.F_EMPTY_PATH | MoveMount.T_EMPTY_PATH
            mount.move_mount(tree, "", target, "", flags)
            os.close(tree)
            os.close(target)


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkDevices:
    """The links that every container has in /dev."""

    cause: str = ""

    def describe(self) -> str:
        return f"symlink /dev/{{{','.join(LINKS)}}}"

    def apply(self, context: Context) -> None:
        dev = target_directory(context, "/dev")
        for name, target in LINKS.items():
            os.symlink(target, name, dir_fd=dev)
        keep_null(context, dev)
        os.close(dev)


NODE_PATHS = tuple(f"/dev/{name}" for name in NODES)
