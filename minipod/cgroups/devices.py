"""Which devices a container may use: the runtime-spec's default list, or all when privileged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rule:
    """Allow *access* (of "rwm") to a device; -1 is any number."""

    kind: str  # "c" or "b"
    major: int
    minor: int
    access: str

    def v1(self) -> str:
        """Return it as devices.allow wants it."""
        numbers = ["*" if n < 0 else str(n) for n in (self.major, self.minor)]
        return f"{self.kind} {numbers[0]}:{numbers[1]} {self.access}"


# mknod of any device is allowed, using it is not (runtime-spec, config-linux.md, "Default Devices").
DEFAULT_RULES = (
    Rule("c", -1, -1, "m"), Rule("b", -1, -1, "m"),
    Rule("c", 1, 3, "rwm"), Rule("c", 1, 5, "rwm"), Rule("c", 1, 7, "rwm"),  # null zero full
    Rule("c", 1, 8, "rwm"), Rule("c", 1, 9, "rwm"),  # random urandom
    Rule("c", 5, 0, "rwm"), Rule("c", 5, 1, "rwm"), Rule("c", 5, 2, "rwm"),  # tty console ptmx
    Rule("c", 136, -1, "rwm"),  # pts
    Rule("c", 10, 200, "rwm"),  # net/tun
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class DevicePolicy:
    """The devices of one container."""

    rules: tuple[Rule, ...]
    allow_all: bool = False

    @classmethod
    def of(cls, *, privileged: bool, extra: tuple[Rule, ...] = ()) -> DevicePolicy:
        return cls(rules=(*DEFAULT_RULES, *extra), allow_all=privileged)
