"""libnftables by ctypes: run commands in its JSON form (libnftables-json(5)), atomically for each call.

The library is Debian's libnftables1; a machine without it gets a clear error. Synchronous; one context for each process.
"""

from __future__ import annotations

import ctypes
import errno
import json
from functools import cache
from typing import Any

NFT_CTX_OUTPUT_JSON = 1 << 4
Command = dict[str, Any]


@cache
def _library() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL("libnftables.so.1")
    except OSError as e:
        raise OSError(errno.ENOENT, "not found; install libnftables1", "libnftables.so.1") from e
    library.nft_ctx_new.restype = ctypes.c_void_p
    library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
    library.nft_ctx_get_output_buffer.restype = ctypes.c_char_p
    return library


@cache
def _context() -> ctypes.c_void_p:
    library = _library()
    context = ctypes.c_void_p(library.nft_ctx_new(0))
    library.nft_ctx_output_set_flags(context, NFT_CTX_OUTPUT_JSON)
    library.nft_ctx_buffer_output(context)
    library.nft_ctx_buffer_error(context)
    return context


def run(commands: list[Command]) -> list[Command]:
    """Execute *commands* as one transaction; return what was listed. Raises OSError with the library's words."""
    output = run_script(json.dumps({"nftables": commands}))
    listed: list[Command] = json.loads(output)["nftables"] if output.strip() else []
    return listed


def run_script(text: str) -> bytes:
    """Execute commands in nft(8)'s own language, as one transaction; return its output. Raises OSError.

    For what the JSON form can't say: the type of a map whose values are joined.
    """
    library, context = _library(), _context()
    failed = library.nft_run_cmd_from_buffer(context, text.encode())
    output: bytes = library.nft_ctx_get_output_buffer(context) or b""
    words = (library.nft_ctx_get_error_buffer(context) or b"").decode(errors="replace")
    if failed:
        raise OSError(
            errno.EINVAL, words.strip().splitlines()[0] if words else "failed", "nftables"
        )
    return output
