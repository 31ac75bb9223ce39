"""What @dataclass makes inside `late_methods` behaves as what it makes outside."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest

from minipod.late_methods import COMPILE, compile_constructors, late_methods


def define() -> tuple[type[Any], type[Any]]:
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Base:
        name: str
        words: list[str] = field(default_factory=list)
        size: int = 3

    @dataclass(frozen=True, slots=True, kw_only=True)
    class Derived(Base):
        inner: Base | None = None

        def __post_init__(self) -> None:
            if self.size < 0:
                raise ValueError(self.size)

    return Base, Derived


def described(base: type[Any], derived: type[Any]) -> list[object]:
    """Return what such classes do, each of it twice: a stub is there at the first call only."""
    one = derived(name="a", inner=base(name="b", words=["w"]))
    mistakes: tuple[Callable[[], object], ...] = (
        derived,
        lambda: derived(name="a", unknown=1),
        lambda: derived("a"),
        lambda: derived(name="a", size=-1),
        lambda: setattr(one, "name", "z"),
        lambda: delattr(one, "name"),
        lambda: hash(one),
    )
    seen: list[object] = []
    for _ in range(2):
        same, other = dataclasses.replace(one), dataclasses.replace(one, size=4)
        seen += [repr(one), one == same, one == other, one == base(name="a")]
        seen += [
            dataclasses.asdict(one),
            hash(base(name="c", words=())) == hash(base(name="c", words=())),
        ]
        for mistake in mistakes:
            with pytest.raises((TypeError, ValueError, AttributeError)) as caught:
                mistake()
            seen.append((caught.type, str(caught.value)))
    return seen


def test_late_methods_do_what_methods_that_were_compiled_at_once_do() -> None:
    eager = described(*define())
    with late_methods():
        late = define()
    assert described(*late) == eager


def test_a_method_is_compiled_at_its_first_call_and_then_in_its_place() -> None:
    with late_methods():
        base, derived = define()
    stub = base.__init__
    derived(name="a")
    assert base.__init__ is stub  # it has one of its own
    base(name="a")
    assert base.__init__ is not stub
    assert base.__init__.__code__.co_varnames[:3] == ("self", "name", "words")
    assert base.__init__.__qualname__ == f"{base.__qualname__}.__init__"


def test_constructors_are_compiled_when_there_is_time(monkeypatch: pytest.MonkeyPatch) -> None:
    with late_methods():
        base, derived = define()
    module = ModuleType("warm.one")
    vars(module).update(base=base, again=base, derived=derived, other=int, number=1)
    monkeypatch.setitem(sys.modules, "warm.one", module)
    monkeypatch.setitem(sys.modules, "warmer", ModuleType("warmer"))
    stubs = base.__init__, derived.__init__
    for n, _ in enumerate(compile_constructors("warm"), 1):
        assert (base.__init__ is not stubs[0]) + (derived.__init__ is not stubs[1]) == n
    assert (base.__init__ is not stubs[0], derived.__init__ is not stubs[1]) == (True, True)
    assert not list(compile_constructors("warm"))
    assert described(base, derived) == described(*define())


def test_another_python_compiles_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A version without the function that we replace: nothing is replaced."""
    real = getattr(dataclasses, COMPILE)
    with late_methods():
        assert getattr(dataclasses, COMPILE) is not real
    assert getattr(dataclasses, COMPILE) is real
    monkeypatch.delattr(dataclasses, COMPILE)
    with late_methods():
        assert not hasattr(dataclasses, COMPILE)
