"""Dataclasses whose methods are compiled when they are first called.

@dataclass writes the source of up to seven methods for each class and compiles them at once, 0.5 ms in all. 200 classes were a
quarter of the CPU of a daemon's start, and most of these methods (`__repr__`, the `__setattr__` that refuses, `__eq__`) nobody ever
calls. Inside `late_methods()` each is a `Late` that puts the compiled method into its place at the first call, or, of a constructor, when
there is time for it: `compile_constructors`.

It takes the place of `dataclasses._create_fn`, which CPython 3.11 and 3.12 have. Another version compiles at once, as ever.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import MethodType, SimpleNamespace
from typing import Any

COMPILE = "_create_fn"  # (name, args, body, *, globals, locals, return_type) -> function
Method = Callable[..., Any]


class Late:
    """A method that is not compiled yet. Its arguments and its body are one text each: 1,000 of them are held for as long as we run."""

    __slots__ = ("__name__", "_args", "_body", "_compiled", "_make", "_scope")

    def __init__(
        self, make: Callable[..., Method], name: str, source: tuple[str, str], scope: dict[str, Any]
    ) -> None:
        self.__name__ = name
        self._make = make
        self._args, self._body = source
        self._scope = scope
        # for who holds this, as the wrapper around __repr__ does
        self._compiled: Method | None = None

    def __get__(self, instance: object, owner: type) -> Any:
        return self if instance is None else MethodType(self, instance)

    def __call__(self, instance: object, /, *args: Any, **kwargs: Any) -> Any:
        return (self._compiled or self.put_into(*type(instance).__mro__))(instance, *args, **kwargs)

    def put_into(self, *classes: type) -> Method:
        """Compile it, and replace it in those of the classes that have it."""
        compiled = self._compiled = self._make(
            self.__name__, [self._args], [self._body], **self._scope
        )
        for cls in classes:
            if cls.__dict__.get(self.__name__) is self:
                compiled.__qualname__ = f"{cls.__qualname__}.{self.__name__}"
                setattr(cls, self.__name__, compiled)
        return compiled


@contextmanager
def late_methods() -> Iterator[None]:
    """Compile no method of the dataclasses that are made here, that is of modules that are imported here."""
    make: Callable[..., Method] | None = getattr(dataclasses, COMPILE, None)
    if make is None:
        yield
        return

    def late(name: str, args: list[str], body: list[str], **scope: Any) -> Late:
        return Late(make, name, (",".join(args), "\n  ".join(body)), scope)

    # The text of a class without a docstring asks for the signature of a constructor, which is none yet.
    put = {COMPILE: late, "inspect": SimpleNamespace(signature=lambda _: "")}
    before = {name: getattr(dataclasses, name) for name in put}
    vars(dataclasses).update(put)
    try:
        yield
    finally:
        vars(dataclasses).update(before)


def compile_constructors(package: str) -> Iterator[None]:
    """Compile the constructors that the modules of *package* have, one before each item."""
    modules = [m for n, m in list(sys.modules.items()) if n.partition(".")[0] == package]
    for module in modules:
        for cls in list(vars(module).values()):
            if isinstance(cls, type) and isinstance(method := vars(cls).get("__init__"), Late):
                method.put_into(cls)
                yield
