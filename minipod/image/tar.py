"""A reader of tar archives: v7, ustar, pax, GNU long names and sparse files, as a stream.

Why not tarfile: it loses setuid bits and extended attributes under its filters, and has no protection
without them. This one only parses; where an entry may go is decided in minipod.image.unpack.
Sources: POSIX pax(1), tar(5) of libarchive, GNU tar's manual ("Sparse Formats").

    header [extended headers before it] -> Entry -> its data, to be read before the next entry
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol

from minipod.image.tarheader import (
    BLOCK,
    HEADER_ONLY,
    Header,
    corrupt,
    parse_header,
    parse_pax,
    pax_number,
    pax_time_ns,
    sparse_map,
    sparse_map_old,
    to_text,
)

CHUNK = 1 << 20  # bytes
ZEROS = bytes(BLOCK)
MAX_EXTENDED = 1 << 20  # bytes of one extended header: xattrs are at most 64 KiB each
XATTR_PREFIX = "SCHILY.xattr."
NO_XATTRS: Final[Mapping[str, bytes]] = MappingProxyType({})


class Readable(Protocol):
    """What a stream of bytes needs to have; it may return more or less than *size*, b"" at the end."""

    def read(self, size: int, /) -> bytes: ...


class Entry(NamedTuple):
    """One member. *segments* are the (offset, length) of a sparse file's data, else None."""

    name: str
    type: str  # POSIX typeflag, one character; "0" for all regular files
    mode: int
    uid: int
    gid: int
    size: int  # of the file as it will be; its data may be shorter when it is sparse
    mtime_ns: int
    linkname: str = ""
    device: tuple[int, int] = (0, 0)
    xattrs: Mapping[str, bytes] = NO_XATTRS
    segments: tuple[tuple[int, int], ...] | None = None


class TarReader:
    """Iterate over the entries of *stream*; call `chunks()` for the data of the current one.

    A chunk of the stream is cut into headers and data where it lies: small files cost no copy and no read.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._use(b"")
        self._left = 0  # bytes of the current member's data that are not read yet
        self._padding = 0
        self._globals: dict[str, bytes] = {}

    def __iter__(self) -> Iterator[Entry]:
        while (entry := self._next()) is not None:
            yield entry

    def chunks(self, limit: int = 1 << 62) -> Iterator[memoryview]:
        """Yield what is left of the current member's data, *limit* bytes at most."""
        wanted = min(limit, self._left)
        while wanted:
            data = self._view[self._at : self._at + wanted]
            if not data:
                self._use(self._more())
                continue
            self._at += len(data)
            self._left -= len(data)
            wanted -= len(data)
            yield data

    def _use(self, chunk: bytes) -> None:
        self._chunk = chunk
        self._view = memoryview(chunk)
        self._at = 0  # bytes of it are done with

    def _more(self) -> bytes:
        if data := self._stream.read(CHUNK):
            return data
        raise corrupt("the archive ends inside a file")

    def _next(self) -> Entry | None:
        """Read headers until one is a member; None at the end of the archive."""
        extended: dict[str, bytes] = dict(self._globals)
        while (header := self._read_header()) is not None:
            match header.type:
                case "x":
                    extended.update(parse_pax(self._read_extended(header.size)))
                case "g":
                    self._globals.update(parse_pax(self._read_extended(header.size)))
                    extended = self._globals | extended
                case "L":
                    extended["path"] = self._read_extended(header.size).rstrip(b"\0")
                case "K":
                    extended["linkpath"] = self._read_extended(header.size).rstrip(b"\0")
                case _:
                    return self._member(header, extended)
        return None

    def _read_header(self) -> Header | None:
        self._skip(self._left + self._padding)  # what the caller did not want of the last member
        self._left = self._padding = 0
        block = self._next_block()
        if not block or block == ZEROS:
            return None  # one block of zeros is enough for us, as for GNU tar
        header = parse_header(block)
        self._begin_data(0 if header.type in HEADER_ONLY else header.size)
        return header

    def _skip(self, size: int) -> None:
        self._at += size
        while (beyond := self._at - len(self._chunk)) > 0:
            self._use(self._more())
            self._at = beyond

    def _begin_data(self, size: int) -> None:
        self._left = size
        self._padding = -size % BLOCK

    def _read_extended(self, size: int) -> bytes:
        if size > MAX_EXTENDED:
            raise corrupt(f"an extended header of {size} bytes")
        return b"".join(self.chunks())

    def _next_block(self) -> bytes:
        """Return the next block, b"" at the end of the stream."""
        while len(block := self._chunk[self._at : self._at + BLOCK]) < BLOCK:
            data = self._stream.read(CHUNK)
            if not data and not block:
                return b""
            if not data:
                raise corrupt("the archive ends inside a block")
            self._use(block + data)
        self._at += BLOCK
        return block

    def _read_block(self) -> bytes:
        if block := self._next_block():
            return block
        raise corrupt("the archive ends inside a block")

    def _member(self, header: Header, extended: dict[str, bytes]) -> Entry:
        """Join the header with what the extended headers before it said."""
        size = pax_number(extended, "size", header.size)
        if header.type not in HEADER_ONLY:
            self._begin_data(size)
        name = to_text(extended.get("path", header.name))
        segments = None
        if header.type == "S":
            segments, size = self._old_sparse(header)
        elif "GNU.sparse.major" in extended or "GNU.sparse.size" in extended:
            segments = self._pax_sparse(extended)
            size = pax_number(extended, "GNU.sparse.realsize", size)
            size = pax_number(extended, "GNU.sparse.size", size)
            name = to_text(extended.get("GNU.sparse.name", name.encode(errors="surrogateescape")))
        if segments is not None and sum(length for _, length in segments) != self._left:
            raise corrupt(f"the map of the sparse file {name!r} does not fit its data")
        return Entry(
            name,
            _plain_type(header.type, name),
            header.mode & 0o7777,
            pax_number(extended, "uid", header.uid),
            pax_number(extended, "gid", header.gid),
            0 if header.type in HEADER_ONLY else size,
            pax_time_ns(extended, "mtime", header.mtime_ns),
            to_text(extended.get("linkpath", header.linkname)),
            header.device,
            {
                key.removeprefix(XATTR_PREFIX): value
                for key, value in extended.items()
                if key.startswith(XATTR_PREFIX)
            },
            segments,
        )

    def _old_sparse(self, header: Header) -> tuple[tuple[tuple[int, int], ...], int]:
        """GNU's own format: four segments in the header, then blocks of 21 before the data."""
        pairs, more = sparse_map_old(header.block, 386, 4, flag_at=482)
        while more:
            block = self._read_block()
            further, more = sparse_map_old(block, 0, 21, flag_at=504)
            pairs += further
            if len(pairs) > MAX_EXTENDED:
                raise corrupt("a sparse file with too many segments")
        return tuple(pairs), header.realsize

    def _pax_sparse(self, extended: dict[str, bytes]) -> tuple[tuple[int, int], ...]:
        """GNU pax formats 0.0 and 0.1 (map in the header) and 1.0 (map before the data)."""
        if extended.get("GNU.sparse.major") != b"1":
            return sparse_map(extended.get("GNU.sparse.map", b"").split(b","))
        blocks: list[bytes] = []
        lines, wanted = 0, 1  # the first line says how many pairs follow
        while lines < wanted:
            if self._left < BLOCK or len(blocks) * BLOCK > MAX_EXTENDED:
                raise corrupt("a sparse file without its map")
            blocks.append(self._read_block())
            self._left -= BLOCK
            lines += blocks[-1].count(b"\n")
            if lines and wanted == 1:
                count = b"".join(blocks).partition(b"\n")[0]
                if not count.isdigit() or len(count) > 9:
                    raise corrupt("a sparse file with a broken map")
                wanted = 1 + 2 * int(count)
        return sparse_map(b"".join(blocks).split(b"\n")[1:wanted])


def _plain_type(typeflag: str, name: str) -> str:
    """Fold the spellings of "regular file" into "0"; v7 marks a directory by the slash alone."""
    if typeflag in ("0", "\0", "7", "S"):
        return "5" if name.endswith("/") and typeflag != "S" else "0"
    return typeflag
