"""Profiles in JSON as BPF programs, run by an interpreter of the few instructions that are used. Excluded: the kernel's own verdict."""

from __future__ import annotations

import errno
import json
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.errors import InvalidSpec
from minipod.linux import credentials, seccomp, seccomp_json
from minipod.linux.syscalls import table

ARCH = 0xC000003E
ALLOW, EPERM, ENOSYS = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS


def run(program: bytes, number: int, *args: int) -> int:
    """Execute a program for one call; return its verdict."""
    data = struct.pack("<iIQ6Q", number, ARCH, 0, *args, *(0,) * (6 - len(args)))
    code = list(struct.iter_unpack("<HBBI", program))
    accumulator = at = 0
    while True:
        op, jt, jf, k = code[at]
        at += 1
        if op == 0x20:
            accumulator = struct.unpack_from("<I", data, k)[0]
        elif op == 0x54:
            accumulator &= k
        elif op == 0x06:
            return k
        elif op == 0x05:
            at += k
        elif op == 0x45:
            at += jt if accumulator & k else jf
        else:
            holds = {0x15: accumulator == k, 0x25: accumulator > k, 0x35: accumulator >= k}[op]
            at += jt if holds else jf


@pytest.mark.parametrize("capabilities", [frozenset(), credentials.DEFAULT, {"SYS_ADMIN"}])
def test_the_default_profile_says_of_each_number_what_is_decided_for_its_name(capabilities) -> None:
    decided, numbers = seccomp.decisions(frozenset(capabilities)), table("x86_64")
    program = seccomp.compile_profile(frozenset(capabilities), "x86_64")
    names = {number: name for name, number in numbers.items()}
    newest = max(names)
    for number in range(newest + 3):
        body = decided.get(names.get(number, ""), seccomp.DENIED)
        alone = as_bytes(seccomp.UNKNOWN if number > newest else body)
        for argument in (0, 2, 8, 40, 0x10000000):
            args = (argument,) * 6
            assert run(program, number, *args) == run(alone, number, *args), (number, args)


def as_bytes(body: seccomp.Body) -> bytes:
    return b"".join(struct.pack("<HBBI", *instruction) for instruction in body)


@given(st.dictionaries(st.integers(0, 300), st.integers(0, 9), max_size=300))
def test_a_search_finds_each_body_however_far_it_is(chosen: dict[int, int]) -> None:
    """Bodies of up to 130 instructions: a conditional jump reaches 255."""
    bodies = [
        (*((0x15, 0, 0, n) for n in range(15 * index)), (0x06, 0, 0, 1000 + index))
        for index in range(10)
    ]
    program = seccomp.assemble(
        {number: bodies[index] for number, index in chosen.items()},
        300, rest=seccomp.DENIED, beyond=seccomp.UNKNOWN, machine="x86_64",
    )  # fmt: skip
    for number in range(303):
        other = ENOSYS if number > 300 else EPERM
        assert run(program, number) == (1000 + chosen[number] if number in chosen else other)


def verdict(
    profile: dict[str, Any], name: str, *args: int, caps: frozenset[str] = frozenset()
) -> int:
    text = json.dumps(profile)
    return run(seccomp_json.compile_json(text, caps, "x86_64"), table("x86_64")[name], *args)


def with_condition(**condition: Any) -> dict[str, Any]:
    rule = {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, **condition}]}
    return {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [rule]}


BIG = 5 << 32


@pytest.mark.parametrize(
    ("op", "value", "allowed", "refused"),
    [
        ("EQ", BIG + 1, [BIG + 1], [1, BIG, BIG + 2]),
        ("NE", BIG + 1, [1, BIG, BIG + 2], [BIG + 1]),
        ("GT", BIG + 1, [BIG + 2, BIG << 1], [0, BIG, BIG + 1]),
        ("GE", BIG + 1, [BIG + 1, BIG + 2, BIG << 1], [0, 7, BIG]),
        ("LT", BIG + 1, [0, 7, BIG], [BIG + 1, BIG + 2, BIG << 1]),
        ("LE", BIG + 1, [0, 7, BIG, BIG + 1], [BIG + 2, BIG << 1]),
    ],
)
def test_arguments_are_compared_as_64_bits(
    op: str, value: int, allowed: list[int], refused: list[int]
) -> None:
    profile = with_condition(op=f"SCMP_CMP_{op}", value=value)
    assert {verdict(profile, "ioctl", 0, a) for a in allowed} == {ALLOW}
    assert {verdict(profile, "ioctl", 0, a) for a in refused} == {EPERM}


def test_a_mask_is_applied_before_comparing() -> None:
    profile = with_condition(op="SCMP_CMP_MASKED_EQ", value=0xF0, valueTwo=0x20)
    assert verdict(profile, "ioctl", 0, 0x2F) == ALLOW
    assert verdict(profile, "ioctl", 0, 0x3F) == EPERM


def test_conditions_of_a_rule_are_joined_by_and_rules_by_or() -> None:
    def equal(index: int, value: int) -> dict[str, Any]:
        return {"index": index, "value": value, "op": "SCMP_CMP_EQ"}

    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [equal(0, 1), equal(1, 2)]},
            {"names": ["ioctl"], "action": "SCMP_ACT_ALLOW", "args": [equal(0, 7)]},
        ],
    }
    assert verdict(profile, "ioctl", 1, 2) == verdict(profile, "ioctl", 7, 9) == ALLOW
    assert verdict(profile, "ioctl", 1, 3) == verdict(profile, "ioctl", 2, 2) == EPERM


def test_capabilities_and_architectures_choose_rules() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [
            {
                "names": ["mount"],
                "action": "SCMP_ACT_ALLOW",
                "includes": {"caps": ["CAP_SYS_ADMIN"]},
            },
            {
                "names": ["ptrace"],
                "action": "SCMP_ACT_ALLOW",
                "excludes": {"caps": ["CAP_SYS_PTRACE"]},
            },
            {
                "names": ["arch_prctl"],
                "action": "SCMP_ACT_ALLOW",
                "includes": {"arches": ["amd64"]},
            },
            {"names": ["uname"], "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["s390x"]}},
        ],
    }
    held = frozenset({"SYS_ADMIN", "SYS_PTRACE"})
    assert (verdict(profile, "mount"), verdict(profile, "mount", caps=held)) == (EPERM, ALLOW)
    assert (verdict(profile, "ptrace"), verdict(profile, "ptrace", caps=held)) == (ALLOW, EPERM)
    assert (verdict(profile, "arch_prctl"), verdict(profile, "uname")) == (ALLOW, EPERM)


def test_a_call_newer_than_the_profile_is_not_implemented() -> None:
    profile = {
        "defaultAction": "SCMP_ACT_ERRNO",
        "syscalls": [{"names": ["openat2"], "action": "SCMP_ACT_ALLOW"}],
    }
    assert verdict(profile, "openat2") == ALLOW
    assert verdict(profile, "mount") == EPERM
    program = seccomp_json.compile_json(json.dumps(profile), frozenset(), "x86_64")
    assert run(program, table("x86_64")["openat2"] + 1) == ENOSYS


def test_the_profile_of_other_runtimes_compiles() -> None:
    with open("/usr/share/containers/seccomp.json", encoding="utf-8") as f:
        text = f.read()
    program = seccomp_json.compile_json(text, frozenset(), "x86_64")
    assert run(program, table("x86_64")["read"]) == ALLOW
    assert run(program, table("x86_64")["bpf"]) == EPERM
    assert run(program, table("x86_64")["personality"], 8) == ALLOW


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"defaultAction": "SCMP_ACT_NOTIFY"}', '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{}]}'],
)  # fmt: skip
def test_what_is_no_profile_is_refused(text: str) -> None:
    with pytest.raises(InvalidSpec):
        seccomp_json.check(text)
