"""The layout of the store's file (`disk` reads and writes it), and what becomes of a file of another minipod.

The file carries its format as SQLite's user_version, which is in its header (sqlite.org/fileformat2.html, 1.3):

    0  not numbered: rows ordered by name (the first layout), or format 2 from before formats were numbered, or a new file
    2  rows ordered by version; `newest`

An older format is brought to FORMAT in one transaction when the store is opened. A newer one, or a file that is no store at all, is
refused: `check` tells the command line so before a node starts. What is in the objects is Kubernetes' own and has no version of
ours: the kubelet takes defaults for what an older minipod did not write.

Rows are ordered by their version: a new one goes to the table's end, beside the last one. (Ordered by name, a kilobyte went to
overflow pages and each write touched twice as many.) `newest` holds the last version when it was a deletion's: no row has that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from minipod.errors import FailedPrecondition

if TYPE_CHECKING:
    import sqlite3  # not for the command line, which only checks

FORMAT = 2

_MAGIC = b"SQLite format 3\0"
_USER_VERSION = slice(60, 64)  # of the file, big-endian

_TABLES = """
CREATE TABLE IF NOT EXISTS objects (rv INTEGER PRIMARY KEY, resource TEXT, namespace TEXT, name TEXT, data BLOB,
  UNIQUE (resource, namespace, name));
CREATE TABLE IF NOT EXISTS newest (id INTEGER PRIMARY KEY, rv INTEGER);
"""
_BY_NAME = f"""
ALTER TABLE objects RENAME TO former;
{_TABLES}
INSERT INTO objects SELECT rv, resource, namespace, name, data FROM former;
DROP TABLE former;
"""  # noqa: S608 constants


def check(path: str) -> None:
    """Raise FailedPrecondition when the file at *path* is no store that `prepare` would take; none there is fine.

    Reads the header alone. (After a crash the newest header may still be in the log beside the file: then `prepare` refuses.)
    """
    try:
        with open(path, "rb") as f:
            header = f.read(100)
    except FileNotFoundError:
        return
    if header and not header.startswith(_MAGIC):
        raise _refused(path, "is no store: its header is not SQLite's")
    _check_format(path, int.from_bytes(header[_USER_VERSION], "big"))


def prepare(db: sqlite3.Connection, path: str) -> None:
    """Make the tables in a file with a write-ahead log, or bring those of an older format to this one.

    Raises FailedPrecondition, sqlite3.Error.
    """
    found: int = db.execute("PRAGMA user_version").fetchone()[0]
    _check_format(path, found)
    db.execute("PRAGMA journal_mode=WAL")
    if found == FORMAT:
        return
    made = db.execute("SELECT sql FROM sqlite_master WHERE name='objects'").fetchone()
    ordered_by_name = made is not None and "WITHOUT ROWID" in made[0]
    steps = _BY_NAME if ordered_by_name else _TABLES
    db.executescript(f"BEGIN IMMEDIATE; {steps} PRAGMA user_version={FORMAT}; COMMIT;")


def _check_format(path: str, found: int) -> None:
    if found > FORMAT:
        raise _refused(
            path, f"has format {found}, of a newer minipod; this one knows up to {FORMAT}"
        )


def _refused(path: str, why: str) -> FailedPrecondition:
    hint = "start it with the minipod that wrote it, or move the file away and begin with an empty store"
    return FailedPrecondition(f"the store {path} {why}", hint=hint)
