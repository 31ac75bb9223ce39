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


def test_what_the_server_imports_for_one_function_comes_when_that_is_called() -> None:
    code = "import aiohttp.web_protocol as w; print([m in sys.modules for m in ('html', 'argparse', 'urllib.request')], "
    code += "w.html_escape('<a>'), 'html' in sys.modules)"
    assert run(code) == "[False, False, False] &lt;a&gt; True"
