"""aiohttp without its client, and without what its server has no use for here, until somebody asks for it.

`import aiohttp` loads the client with all that belongs to it, 20 modules and 3 MB, before the server in `aiohttp.web`. Only who talks to
a registry uses that (`image.registry.http`). So the package's module is put into sys.modules unexecuted: its parts can be imported,
and the first look at a name of the package itself (`aiohttp.ClientSession`) executes it, in 25 ms.

The server's modules import others for one function that a daemon calls rarely or never. They get a stand-in for that function, which
imports the module when it is called: 2 MB and 17 ms. Its optional parts stay away: zstd for bodies of requests (an extension of 0.5 MB),
and the C form of its lists of signal handlers, with which comes the C++ library (1 MB).
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import ssl
import sys
import typing
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from types import ModuleType
from typing import Any, Final

LATE: Final = {
    "argparse": ("ArgumentParser",),  # of `python -m aiohttp.web`
    "html": ("escape",),  # for pages of errors; has a table of all entities
    "urllib.request": ("getproxies", "proxy_bypass"),  # of clients; has an HTTP client of its own
    "aiohttp.web_fileresponse": ("FileResponse",),  # of static files; reads /etc/mime.types
}
EXTENSIONS: Final = (
    "typing_extensions"  # for type variables with defaults, which Python has from 3.13 on
)
TYPE_VARIABLES: Final = ("TypeVar", "TypeVarTuple")
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
    spec = importlib.util.find_spec("aiohttp")
    if spec is None:
        raise ModuleNotFoundError("aiohttp is not installed", name="aiohttp")
    package = importlib.util.module_from_spec(spec)
    package.__version__ = ""  # type: ignore[attr-defined]  # for the header Server of answers
    sys.modules["aiohttp"] = package
    os.environ[PURE] = "1"
    with _stand_ins():
        importlib.import_module("aiohttp.web")
    del os.environ[PURE]
    package.__class__ = _Unexecuted


@contextmanager
def _stand_ins() -> Iterator[None]:
    put: dict[str, Any] = {ABSENT: None}
    for name, functions in LATE.items():
        put[name] = _module(name, {f: partial(_call, name, f) for f in functions})
    put[EXTENSIONS] = _module(EXTENSIONS, {n: partial(_variable, n) for n in TYPE_VARIABLES})
    put = {name: module for name, module in put.items() if name not in sys.modules}
    sys.modules.update(put)
    try:
        yield
    finally:
        for name in put:
            del sys.modules[name]


def _module(name: str, content: dict[str, Any]) -> ModuleType:
    module = ModuleType(name)
    vars(module).update(content)
    return module


def _variable(kind: str, *args: Any, default: object = None, **kwargs: Any) -> Any:
    """Make a type variable without a default: to run, nothing needs that."""
    return getattr(typing, kind)(*args, **kwargs)


def _call(module: str, function: str, *args: Any, **kwargs: Any) -> Any:
    return getattr(importlib.import_module(module), function)(*args, **kwargs)
