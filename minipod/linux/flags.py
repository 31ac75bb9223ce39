"""Flags of the kernel's mount, namespace and path calls, under their own names."""

from __future__ import annotations

import enum


class MountFlag(enum.IntFlag):
    """mount(2)."""

    MS_RDONLY = 1
    MS_NOSUID = 2
    MS_NODEV = 4
    MS_NOEXEC = 8
    MS_REMOUNT = 32
    MS_NOATIME = 1024
    MS_BIND = 4096
    MS_MOVE = 8192
    MS_REC = 16384
    MS_UNBINDABLE = 1 << 17
    MS_PRIVATE = 1 << 18
    MS_SLAVE = 1 << 19
    MS_SHARED = 1 << 20


class UmountFlag(enum.IntFlag):
    """umount2(2)."""

    MNT_FORCE = 1
    MNT_DETACH = 2
    UMOUNT_NOFOLLOW = 8


class MountAttr(enum.IntFlag):
    """mount_setattr(2), fsmount(2)."""

    RDONLY = 0x1
    NOSUID = 0x2
    NODEV = 0x4
    NOEXEC = 0x8
    IDMAP = 0x100000
    NOSYMFOLLOW = 0x200000


class AT(enum.IntFlag):
    """The *at() calls; FDCWD is a file descriptor, not a flag."""

    SYMLINK_NOFOLLOW = 0x100
    EMPTY_PATH = 0x1000
    RECURSIVE = 0x8000


AT_FDCWD = -100
OVL_MAX_STACK = 500  # lower layers that overlayfs takes (fs/overlayfs/params.h)


class OpenTree(enum.IntFlag):
    """open_tree(2), with the AT_ flags it takes."""

    CLONE = 1
    CLOEXEC = 0o2000000
    AT_EMPTY_PATH = 0x1000
    AT_RECURSIVE = 0x8000
    AT_SYMLINK_NOFOLLOW = 0x100


class MoveMount(enum.IntFlag):
    """move_mount(2)."""

    F_EMPTY_PATH = 0x4
    T_EMPTY_PATH = 0x40
    BENEATH = 0x200


class CloneFlag(enum.IntFlag):
    """unshare(2), setns(2), clone(2): namespaces, and clone3's cgroup."""

    CLONE_NEWTIME = 0x80
    CLONE_FS = 0x200
    CLONE_NEWNS = 0x20000
    CLONE_NEWCGROUP = 0x02000000
    CLONE_NEWUTS = 0x04000000
    CLONE_NEWIPC = 0x08000000
    CLONE_NEWUSER = 0x10000000
    CLONE_NEWPID = 0x20000000
    CLONE_NEWNET = 0x40000000


class Resolve(enum.IntFlag):
    """openat2(2)."""

    NO_XDEV = 0x01
    NO_MAGICLINKS = 0x02
    NO_SYMLINKS = 0x04
    BENEATH = 0x08
    IN_ROOT = 0x10
    CACHED = 0x20
