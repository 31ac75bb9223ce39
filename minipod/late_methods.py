"""Dataclasses whose methods are compiled when they are first called.

@dataclass writes the source of up to seven methods for each class and compiles them at once, 0.5 ms in all. 200 classes were a
quarter of the CPU of a daemon's start, and most of these methods (`__repr__`, the `__setattr__` that refuses, `__eq__`) nobody ever
calls. Inside `late_methods()` each is a stub that puts the compiled method into its place at the first call.

It takes the place of `dataclasses._create_fn`, which CPython 3.11 and 3.12 have. Another version compiles at once, as ever.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

COMPILE = "_create_fn"  # (name, args, body, *, globals, locals, return_type) -> function
Method = Callable[..., Any]


@contextmanager
def late_methods() -> Iterator[None]:
    """Compile no method of the dataclasses that are made here, that is of modules that are imported here."""
    make: Callable[..., Method] | None = getattr(dataclasses, COMPILE, None)
    if make is None:
        yield
        return

    def late(name: str, args: list[str], body: list[str], **scope: Any) -> Method:
        return _late(make, name, (",".join(args), "\n  ".join(body)), scope)

    setattr(dataclasses, COMPILE, late)
    try:
        yield
    finally:
        setattr(dataclasses, COMPILE, make)


def _late(
    make: Callable[..., Method], name: str, source: tuple[str, str], scope: dict[str, Any]
) -> Method:
    """Return a stub of the method that *make* compiles from its arguments and body: as one text each, they take less memory."""
    compiled: Method | None = (
        None  # for who holds the stub itself, as the wrapper around __repr__ does
    )

    def method(self: object, /, *args: Any, **kwargs: Any) -> Any:
        nonlocal compiled
        if compiled is None:
            compiled = make(name, source[:1], source[1:], **scope)
            compiled.__qualname__ = method.__qualname__
            for cls in type(self).__mro__:
                if cls.__dict__.get(name) is method:
                    setattr(cls, name, compiled)
        return compiled(self, *args, **kwargs)

    method.__name__ = name
    return method
