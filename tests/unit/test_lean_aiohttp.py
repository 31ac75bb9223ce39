"""aiohttp without its client, and with it when it is asked for: each in an interpreter of its own."""

from __future__ import annotations

import subprocess
import sys

IMPORT = "import sys; from minipod.daemon.lean_aiohttp import import_server; import_server(); "


def run(code: str) -> str:
    return subprocess.run(
        [sys.executable, "-c", IMPORT + code], capture_output=True, text=True, check=True
    ).stdout.strip()


def test_the_client_comes_with_the_first_look_at_the_package() -> None:
    """Excluded: that it works, which every pull by a node tests."""
    code = "import aiohttp; print('aiohttp.client' in sys.modules, aiohttp.ClientSession.__module__, 'aiohttp.client' in sys.modules)"
    assert run(code) == "False aiohttp.client True"


def test_a_client_s_import_reads_no_authorities_and_leaves_ssl_as_it_was() -> None:
    code = "import ssl; usual = ssl.create_default_context; import aiohttp; aiohttp.ClientSession; from aiohttp import connector; "
    code += "print(connector._SSL_CONTEXT_VERIFIED.cert_store_stats()['x509'], ssl.create_default_context is usual)"
    assert run(code) == "0 True"


def test_layers_can_still_be_decompressed_by_zstd() -> None:
    code = "from minipod.image.stream import zstd; print(hasattr(zstd(), 'ZstdDecompressor'))"
    assert run(code) == "True"


def test_a_server_that_asks_the_package_for_something_has_all_of_it(tmp_path) -> None:
    """A version of aiohttp that does not exist: its server wants a name of the package, and there is no plain way around."""
    package = tmp_path / "aiohttp"
    package.mkdir()
    (package / "__init__.py").write_text("NEW = 'of the package'\n")
    (package / "web.py").write_text("from aiohttp import NEW\n")
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); " + IMPORT
    code += "from aiohttp import web; print(web.NEW, 'backports.zstd' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "of the package False"
