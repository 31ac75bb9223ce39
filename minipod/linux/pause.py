"""The smallest pid 1: a static ELF program of some 200 bytes that ignores SIGCHLD, so that the kernel reaps its orphans
(wait(2), "if SIGCHLD is ignored"), and sleeps for ever.

A pod that shares one pid namespace needs such a process; an interpreter would cost megabytes for each. Signals without a
handler do not reach a pid 1 from within (pid_namespaces(7)); from outside SIGKILL ends it. Assembled by hand below.
"""

from __future__ import annotations

import struct

from minipod.linux.libc import MACHINE

_BASE, _HEADERS = 0x400000, 64 + 56  # where it is loaded; ELF header and one program header
# struct kernel_sigaction: SIG_IGN, flags, restorer, mask
_IGNORE = struct.pack("<QQQQ", 1, 0, 0, 0)

_X86_64 = bytes.fromhex(
    "b80d000000"  # mov eax, 13 (rt_sigaction)
    "bf11000000"  # mov edi, 17 (SIGCHLD)
    "488d3517000000"  # lea rsi, [rip + 23] (_IGNORE)
    "31d2"  # xor edx, edx
    "41ba08000000"  # mov r10d, 8 (size of the mask)
    "0f05"  # syscall
    "b822000000"  # again: mov eax, 34 (pause)
    "0f05"  # syscall
    "ebf7"  # jmp again
    "00000000"  # up to 40
)
_AARCH64 = struct.pack(
    "<14I",
    0xD2800220,  # mov x0, 17 (SIGCHLD)
    0x100001A1,  # adr x1, +52 (_IGNORE)
    0xAA1F03E2,  # mov x2, xzr
    0xD2800103,  # mov x3, 8 (size of the mask)
    0xD28010C8,  # mov x8, 134 (rt_sigaction)
    0xD4000001,  # svc 0
    0xAA1F03E0,  # again: mov x0, xzr
    0xAA1F03E1,  # mov x1, xzr
    0xAA1F03E2,  # mov x2, xzr
    0xAA1F03E3,  # mov x3, xzr
    0xD2800928,  # mov x8, 73 (ppoll)
    0xD4000001,  # svc 0
    0x17FFFFFA,  # b again
    0,  # up to 56
)
_CODE = {"x86_64": (62, _X86_64), "aarch64": (183, _AARCH64)}  # e_machine, instructions


def program(machine: str = MACHINE) -> bytes:
    """Return the executable file's bytes (elf(5))."""
    number, code = _CODE[machine]
    body = code + _IGNORE
    size = _HEADERS + len(body)
    ident = b"\x7fELF" + bytes((2, 1, 1)) + bytes(9)  # 64 bits, little endian, version 1
    header = ident + struct.pack(
        "<HHIQQQIHHHHHH", 2, number, 1, _BASE + _HEADERS, 64, 0, 0, 64, 56, 1, 0, 0, 0
    )
    load = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)  # PT_LOAD, r-x
    return header + load + body
