"""Dataclasses whose methods are compiled when they are first called.

@dataclass writes the source of up to seven methods for each class and compiles them at once, 0.5 ms in all. 200 classes were a
quarter of the CPU of a daemon's start, and most of these methods (`__repr__`, the `__setattr__` that refuses, `__eq__`) nobody ever
calls. Inside `late_methods()` each is a stub that puts the compiled method into its place at the first call, or, of a constructor, when
there is time for it: `compile_constructors`.

It takes the place of `dataclasses._create_fn`, which CPython 3.11 and 3.12 have. Another version compiles at once, as ever.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

COMPILE = "_create_fn"  # (name, args, body, *, globals, locals, return_type) -> function
PUT = "put_into"  # the attribute of a constructor's stub that compiles it for a class
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
    # for who holds the stub itself, as the wrapper around __repr__ does
    compiled: Method | None = None

    def method(self: object, /, *args: Any, **kwargs: Any) -> Any:
        return (compiled or put_into(*type(self).__mro__))(self, *args, **kwargs)

    def put_into(*classes: type) -> Method:
        nonlocal compiled
        compiled = make(name, source[:1], source[1:], **scope)
        compiled.__qualname__ = method.__qualname__
        for cls in classes:
            if cls.__dict__.get(name) is method:
                setattr(cls, name, compiled)
        return compiled

    method.__name__ = name
    if name == "__init__":
        setattr(method, PUT, put_into)
    return method


def compile_constructors(package: str) -> Iterator[None]:
    """Compile the constructors that the modules of *package* have, one before each item."""
    modules = [m for n, m in list(sys.modules.items()) if n.partition(".")[0] == package]
    for module in modules:
        for cls in list(vars(module).values()):
            if isinstance(cls, type) and (put := getattr(vars(cls).get("__init__"), PUT, None)):
                put(cls)
                yield
