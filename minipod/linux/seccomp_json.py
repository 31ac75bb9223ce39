"""Seccomp profiles in the JSON that container runtimes share, compiled to classic BPF.

    {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": [
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}],
         "includes": {"caps": ["CAP_SYS_ADMIN"], "arches": ["amd64"]}, "excludes": {...}}]}

The semantics are libseccomp's: conditions of one rule are joined by "and", rules for one call by "or", a rule without
conditions covers what the others leave, arguments are compared as 64 bits without sign. A call newer than the newest that a
refusing profile names answers ENOSYS, so that libc falls back. Other architectures than the machine's are killed, listed or
not; SCMP_ACT_NOTIFY is refused (nobody would answer).
"""

from __future__ import annotations

import errno
import json
from functools import cache
from typing import Any

from minipod.errors import InvalidSpec
from minipod.linux.libc import GOARCH, MACHINE
from minipod.linux.seccomp import ALLOWED, UNKNOWN, Body, Instruction, assemble
from minipod.linux.syscalls import table

_ACTIONS = {  # SECCOMP_RET_* of seccomp(2)
    "SCMP_ACT_KILL": 0x00000000, "SCMP_ACT_KILL_THREAD": 0x00000000, "SCMP_ACT_KILL_PROCESS": 0x80000000,
    "SCMP_ACT_TRAP": 0x00030000, "SCMP_ACT_ERRNO": 0x00050000, "SCMP_ACT_TRACE": 0x7FF00000,
    "SCMP_ACT_LOG": 0x7FFC0000, "SCMP_ACT_ALLOW": 0x7FFF0000,
}  # fmt: skip
_WITH_DATA = ("SCMP_ACT_ERRNO", "SCMP_ACT_TRACE")
_LD_ABS, _JEQ, _JGT, _JGE, _AND, _RET = 0x20, 0x15, 0x25, 0x35, 0x54, 0x06
_ARGS = 16  # struct seccomp_data: int nr; u32 arch; u64 ip; u64 args[6]
_NEXT, _HIT = -1, -2  # where a comparison goes: the next rule, the rest of this one
_MASK32 = (1 << 32) - 1

Rule = tuple[tuple[dict[str, Any], ...], int]  # conditions, return value


def check(text: str) -> None:
    """Raises InvalidSpec when *text* is no profile that can be compiled."""
    compile_json(text, frozenset())


@cache
def compile_json(text: str, capabilities: frozenset[str], machine: str = MACHINE) -> bytes:
    """Compile; *capabilities* without CAP_. Raises InvalidSpec."""
    try:
        profile = json.loads(text)
        default = _action(profile, "defaultAction", "defaultErrnoRet")
        numbers, rules = table(machine), _rules(profile, capabilities, machine)
        named = {n for item in profile.get("syscalls") or [] for n in _names(item)}
    except (ValueError, KeyError, TypeError, AttributeError) as e:
        raise InvalidSpec(f"not a seccomp profile: {type(e).__name__}: {e}") from e
    by_number = {
        numbers[name]: _body(listed, default) for name, listed in rules.items() if name in numbers
    }
    rest: Body = ((_RET, 0, 0, default),)
    newest = max((numbers[n] for n in named if n in numbers), default=0)
    beyond = rest if rest == ALLOWED or default in _lenient() else UNKNOWN
    return assemble(by_number, newest, rest=rest, beyond=beyond, machine=machine)


def _lenient() -> tuple[int, ...]:
    return tuple(_ACTIONS[a] for a in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG", "SCMP_ACT_TRACE"))


def _action(item: dict[str, Any], key: str, data: str) -> int:
    name = item[key]
    if name not in _ACTIONS:
        raise InvalidSpec(f"seccomp profile: {key} {name!r} is not supported")
    if name not in _WITH_DATA:
        return _ACTIONS[name]
    number = item.get(data)
    return _ACTIONS[name] | (errno.EPERM if number is None else int(number)) & 0xFFFF


def _rules(
    profile: dict[str, Any], capabilities: frozenset[str], machine: str
) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for item in profile.get("syscalls") or []:
        if not _applies(item, capabilities, machine):
            continue
        value = _action(item, "action", "errnoRet")
        conditions = tuple(item.get("args") or ())
        for name in _names(item):
            found.setdefault(name, []).append((conditions, value))
    return found


def _names(item: dict[str, Any]) -> list[str]:
    return item.get("names") or [item["name"]]


def _applies(item: dict[str, Any], capabilities: frozenset[str], machine: str) -> bool:
    includes, excludes = item.get("includes") or {}, item.get("excludes") or {}
    arch = GOARCH[machine]
    held = {f"CAP_{c}" for c in capabilities}
    if includes.get("arches") and arch not in includes["arches"]:
        return False
    if not set(includes.get("caps") or ()) <= held:
        return False
    return arch not in (excludes.get("arches") or ()) and not held & set(excludes.get("caps") or ())


def _body(rules: list[Rule], default: int) -> Body:
    """Return what one call meets: rules with conditions in their order, then the one without, then the default."""
    last = next((value for conditions, value in rules if not conditions), default)
    body: list[Instruction] = []
    for conditions, value in rules:
        if conditions:
            body += _rule(conditions, value)
    return (*body, (_RET, 0, 0, last))


def _rule(conditions: tuple[dict[str, Any], ...], value: int) -> list[Instruction]:
    """Return the code of one rule; a condition that fails jumps behind it."""
    parts = [_condition(c) for c in conditions]
    code = [i for part in parts for i in part] + [(_RET, 0, 0, value)]
    linked, start = [], 0
    for part in parts:
        end = start + len(part)
        for at, (op, jt, jf, k) in enumerate(part, start):
            targets = {_NEXT: len(code) - at - 1, _HIT: end - at - 1}
            linked.append((op, targets.get(jt, jt), targets.get(jf, jf), k))
        start = end
    return [*linked, code[-1]]


def _condition(condition: dict[str, Any]) -> list[Instruction]:
    """Compare one 64-bit argument: the high word decides unless it is equal."""
    index, op = int(condition["index"]), condition["op"]
    value, second = int(condition.get("value", 0)), int(condition.get("valueTwo", 0))
    if not 0 <= index < 6:
        raise InvalidSpec(f"seccomp profile: argument index {index} is not 0 to 5")
    low, high = (_LD_ABS, 0, 0, _ARGS + 8 * index), (_LD_ABS, 0, 0, _ARGS + 8 * index + 4)
    upper, lower = (value >> 32) & _MASK32, value & _MASK32
    match op:
        case "SCMP_CMP_EQ":
            return [high, (_JEQ, 0, _NEXT, upper), low, (_JEQ, _HIT, _NEXT, lower)]
        case "SCMP_CMP_NE":
            return [high, (_JEQ, 0, _HIT, upper), low, (_JEQ, _NEXT, _HIT, lower)]
        case "SCMP_CMP_MASKED_EQ":  # value is the mask, valueTwo what must be left
            wanted_high, wanted_low = (second >> 32) & _MASK32, second & _MASK32
            return [
                high, (_AND, 0, 0, upper), (_JEQ, 0, _NEXT, wanted_high),
                low, (_AND, 0, 0, lower), (_JEQ, _HIT, _NEXT, wanted_low),
            ]  # fmt: skip
    more, less = (_HIT, _NEXT) if op in ("SCMP_CMP_GT", "SCMP_CMP_GE") else (_NEXT, _HIT)
    last = {"SCMP_CMP_GT": _JGT, "SCMP_CMP_LE": _JGT, "SCMP_CMP_GE": _JGE, "SCMP_CMP_LT": _JGE}
    if op not in last:
        raise InvalidSpec(f"seccomp profile: comparison {op!r} is not supported")
    return [
        high, (_JGT, more, 0, upper), (_JEQ, 0, less, upper), low, (last[op], more, less, lower),
    ]  # fmt: skip
