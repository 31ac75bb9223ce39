"""bpf(2) for device control on a unified cgroup hierarchy: assemble, load, attach a BPF_PROG_TYPE_CGROUP_DEVICE program.

The program reads struct bpf_cgroup_dev_ctx {u32 access_type; u32 major; u32 minor}, access_type = (access << 16) | type, and returns
1 to allow. Instructions are struct bpf_insn: u8 code, u4 dst, u4 src, s16 off, s32 imm.
"""

from __future__ import annotations

import ctypes
import struct

from minipod.linux.libc import syscall

BPF_PROG_LOAD = 5
BPF_PROG_ATTACH = 8
BPF_PROG_TYPE_CGROUP_DEVICE = 15
BPF_CGROUP_DEVICE = 6
BPF_F_ALLOW_MULTI = 2

TYPES = {"b": 1, "c": 2}
ACCESS = {"m": 1, "r": 2, "w": 4}

_LDX_W, _MOV_X, _MOV_K, _AND_K, _RSH_K = 0x61, 0xBF, 0xB7, 0x57, 0x77
_JNE_K, _EXIT = 0x55, 0x95


def _insn(code: int, dst: int = 0, src: int = 0, off: int = 0, imm: int = 0) -> bytes:
    return struct.pack("<BBhi", code, dst | src << 4, off, imm)


def device_program(rules: tuple[tuple[str, int, int, str], ...]) -> bytes:
    """Assemble a program that allows *rules* (kind, major, minor, access; -1 is any) and denies the rest."""
    program = [
        _insn(_LDX_W, 2, 1, 0),  # r2 = access_type
        _insn(_MOV_X, 3, 2),
        _insn(_RSH_K, 3, imm=16),  # r3 = access
        _insn(_AND_K, 2, imm=0xFFFF),  # r2 = type
        _insn(_LDX_W, 4, 1, 4),  # r4 = major
        _insn(_LDX_W, 5, 1, 8),  # r5 = minor
    ]
    for rule in rules:
        program += _rule(*rule)
    program += [_insn(_MOV_K, 0, imm=0), _insn(_EXIT)]
    return b"".join(program)


def _rule(kind: str, major: int, minor: int, access: str) -> list[bytes]:
    """Return the test of one rule: each condition that fails jumps behind it."""
    denied = 7 & ~sum(ACCESS[a] for a in access)
    conditions: list[tuple[int, int]] = [(2, TYPES[kind])]
    if major >= 0:
        conditions.append((4, major))
    if minor >= 0:
        conditions.append((5, minor))
    body: list[bytes] = [_insn(_MOV_K, 0, imm=1), _insn(_EXIT)]
    if denied:  # r6 = access & denied; must be 0
        body = [_insn(_JNE_K, 6, off=len(body), imm=0), *body]
        body = [_insn(_MOV_X, 6, 3), _insn(_AND_K, 6, imm=denied), *body]
    for register, value in reversed(conditions):
        body = [_insn(_JNE_K, register, off=len(body), imm=value), *body]
    return body


def load_device_program(program: bytes) -> int:
    """BPF_PROG_LOAD; return its fd. The kernel's verifier log is not asked for."""
    code = ctypes.create_string_buffer(program, len(program))
    licence = ctypes.create_string_buffer(b"Apache-2.0")
    attr = struct.pack(
        "<IIQQIIQII",
        BPF_PROG_TYPE_CGROUP_DEVICE, len(program) // 8, ctypes.addressof(code), ctypes.addressof(licence),
        0, 0, 0, 0, 0,
    )  # fmt: skip
    return _bpf(BPF_PROG_LOAD, attr)


def attach_device_program(cgroup_fd: int, program_fd: int) -> None:
    """BPF_PROG_ATTACH to a cgroup; it stays as long as the cgroup does."""
    _bpf(BPF_PROG_ATTACH, attach_arguments(cgroup_fd, program_fd))


def attach_arguments(cgroup_fd: int, program_fd: int) -> bytes:
    """Return what `attach_device_program` gives to the kernel, for those who make the call themselves."""
    return struct.pack("<IIII", cgroup_fd, program_fd, BPF_CGROUP_DEVICE, BPF_F_ALLOW_MULTI)


def _bpf(command: int, attr: bytes) -> int:
    buffer = ctypes.create_string_buffer(attr, 128)
    return syscall("bpf", command, ctypes.byref(buffer), 128)
