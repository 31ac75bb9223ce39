"""AppArmor: the profile that the next execve(2) of this task enters, and the default profile's text.

    /proc/thread-self/attr/apparmor/exec   "exec NAME" (attr/exec before Linux 5.8); the task's own file, for its own next execve

A process in a container must not be led astray by what its image or its volumes have at /proc (CVE-2019-16884, CVE-2019-19921):
the file is opened below a procfs, over no other mount. See apparmor_parser(8), aa_change_onexec(2).
"""

from __future__ import annotations

import errno
import os
import struct

from minipod.linux.files import PROC_SUPER_MAGIC, file_system, openat2
from minipod.linux.flags import Resolve
from minipod.linux.program import Call, Result

DEFAULT = "minipod-default"
PARSER = "/sbin/apparmor_parser"
_ENABLED = "/sys/module/apparmor/parameters/enabled"
_FILES = ("thread-self/attr/apparmor/exec", "thread-self/attr/exec")

# What every container may do is left to capabilities, seccomp and namespaces; this takes away what would change the node.
PROFILE = """
abi <abi/3.0>,

profile minipod-default flags=(attach_disconnected, mediate_deleted) {
  network,
  capability,
  file,
  umount,
  unix,
  dbus,
  signal (receive) peer=unconfined,
  signal (send, receive) peer=minipod-default,
  ptrace (trace, read, tracedby, readby) peer=minipod-default,
  ptrace (readby, tracedby) peer=unconfined,

  deny mount,
  deny /proc/sysrq-trigger rwklx,
  deny /proc/kcore rwklx,
  deny /proc/{acpi,asound,bus,fs,irq,scsi,tty}/** wklx,
  deny /proc/sys/{abi,debug,dev,vm}/** wklx,
  deny /proc/sys/kernel/{core_pattern,modprobe,hotplug,poweroff_cmd,sysrq,kptr_restrict,yama/**} wklx,
  deny /sys/{block,bus,class,dev,devices,firmware,hypervisor,module,power}/** wklx,
  deny /sys/firmware/** rwklx,
  deny /sys/kernel/security/** rwklx,
  deny /sys/kernel/debug/** rwklx,
}
"""


def enabled() -> bool:
    """Whether this kernel enforces AppArmor."""
    try:
        with open(_ENABLED, encoding="ascii") as file:
            return file.read(1) == "Y"
    except FileNotFoundError:
        return False


def has_default() -> bool:
    """Whether the daemon gives the kernel the default profile."""
    return enabled() and os.path.exists(PARSER)


def change_on_exec(profile: str) -> None:
    """Have the next execve of the calling task enter *profile*. Raises OSError; ENOENT: it is not loaded."""
    proc = os.open("/proc", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        if file_system(proc) != PROC_SUPER_MAGIC:
            raise OSError(errno.EINVAL, "no procfs is mounted there", "/proc")
        fd = _open_own(proc)
    finally:
        os.close(proc)
    try:
        os.write(fd, f"exec {profile}".encode())
    finally:
        os.close(fd)


def calls_on_exec(profile: str, proc: int) -> list[Call]:
    """Return what `change_on_exec` does, for a child in another root; *proc* is an fd of a procfs that has the child, closed behind it."""
    path = next((p for p in _FILES if os.path.exists(f"/proc/{p}")), _FILES[0])
    resolve = Resolve.NO_XDEV | Resolve.NO_MAGICLINKS
    how = struct.pack("<QQQ", os.O_WRONLY | os.O_CLOEXEC, 0, resolve)  # struct open_how
    fd, words = Result(), f"exec {profile}".encode()
    return [
        Call("openat2", (proc, os.fsencode(path), how, len(how)), gives=fd),
        Call("close", (proc,)),
        Call("write", (fd, words, len(words))),
    ]


def _open_own(proc: int) -> int:
    flags = os.O_WRONLY | os.O_CLOEXEC
    for path in _FILES:
        try:
            return openat2(proc, path, flags, 0, Resolve.NO_XDEV | Resolve.NO_MAGICLINKS)
        except FileNotFoundError:
            continue
    raise OSError(errno.ENOTSUP, "AppArmor is not enabled on the host", "AppArmor")
