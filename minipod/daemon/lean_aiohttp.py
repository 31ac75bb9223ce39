"""aiohttp without its client, until somebody asks for it.

`import aiohttp` loads the client with all that belongs to it, 20 modules and 3 MB, before the server in `aiohttp.web`. Only who talks to
a registry uses that (`image.registry.http`). So the package's module is put into sys.modules unexecuted: its parts can be imported,
and the first look at a name of the package itself (`aiohttp.ClientSession`) executes it, in 25 ms. A version of aiohttp whose server asks
the package for something is imported as anybody does.

Optional parts stay away: zstd for bodies of requests (an extension of 0.5 MB), and the C form of its lists of signal handlers, with which
comes the C++ library (1 MB).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

PACKAGE: Final = "aiohttp"
ABSENT: Final = "backports.zstd"
PURE: Final = "FROZENLIST_NO_EXTENSIONS"


class _Unexecuted(ModuleType):
    """A package whose parts are there."""

    def __getattr__(self, name: str) -> Any:
        self.__class__ = ModuleType  # type: ignore[assignment]
        # aiohttp.connector makes a context with all of the machine's authorities, 65 ms and 2 MB, for clients that name none. Ours do.
        usual = ssl.create_default_context
        ssl.create_default_context = _without_authorities
        try:
            self.__spec__.loader.exec_module(self)  # type: ignore[union-attr]
        finally:
            ssl.create_default_context = usual
        return getattr(self, name)


def _without_authorities(*_: Any, **__: Any) -> ssl.SSLContext:
    return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def import_server() -> None:
    """Import aiohttp.web. Comes before any `import aiohttp`."""
    with _without_extensions():
        try:
            _import_parts()
        except (ImportError, AttributeError):
            for name in [n for n in sys.modules if n.partition(".")[0] == PACKAGE]:
                del sys.modules[name]
            importlib.import_module("aiohttp.web")


def _import_parts() -> None:
    """Import the server, and leave the package unexecuted. Raises ImportError, AttributeError: the server needs it."""
    spec = importlib.util.find_spec(PACKAGE)
    if spec is None:
        raise ModuleNotFoundError("aiohttp is not installed", name=PACKAGE)
    package = importlib.util.module_from_spec(spec)
    package.__version__ = ""  # type: ignore[attr-defined]  # for the header Server of answers
    sys.modules[PACKAGE] = package
    importlib.import_module("aiohttp.web")
    package.__class__ = _Unexecuted


@contextmanager
def _without_extensions() -> Iterator[None]:
    os.environ[PURE] = "1"
    absent = ABSENT not in sys.modules
    if absent:
        sys.modules[ABSENT] = None  # type: ignore[assignment]  # whose import then fails
    try:
        yield
    finally:
        if absent:
            del sys.modules[ABSENT]
        del os.environ[PURE]
