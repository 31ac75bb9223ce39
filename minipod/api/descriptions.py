"""What types and fields mean, in a sentence each, for OpenAPI and so for `kubectl explain`: descriptions.txt, read when it is asked for.

The words are our own, and say what minipod does. A type that is not in the file has none, but for the sources of volumes that minipod
does not support: there are many, and they say so.
"""

from __future__ import annotations

import re
from functools import cache
from importlib import resources

from minipod.api.types import Field

ANY = "*"  # the entry whose fields hold for all types
UNSUPPORTED = "Not supported by minipod."
_FOREIGN = re.compile(
    r"core\.v1\.(AWS|Azure|CSI|Ceph|Cinder|FC|Flex|Flocker|GCE|GitRepo|Gluster|ISCSI|NFS|Photon|Portworx|Quobyte|RBD|ScaleIO|StorageOS"
    r"|Vsphere)\w*Source"
)


def of_type(name: str) -> str:
    """Return what the type called *name* is, "" where nobody wrote it down."""
    return UNSUPPORTED if _FOREIGN.fullmatch(name) else _table().get((name, ""), "")


def of_field(type_name: str, field: Field) -> str:
    """Return what a field of a type says, "" where nobody wrote it down."""
    if _FOREIGN.fullmatch(type_name) or _FOREIGN.fullmatch(field.element):
        return UNSUPPORTED
    return _table().get((type_name, field.name), "") or _table().get((ANY, field.name), "")


def words() -> list[tuple[str, str]]:
    """Return the types and fields that are described, as (type, field): for tests."""
    return list(_table())


@cache
def _table() -> dict[tuple[str, str], str]:
    """Return the descriptions by type and field; those of types under the field ""."""
    text = resources.files("minipod.api").joinpath("descriptions.txt").read_text("utf-8")
    found: dict[tuple[str, str], str] = {}
    kind = ""
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        name, _, said = line.strip().partition(": ")
        if line.startswith(" "):
            found[kind, name] = said
        else:
            kind = name
            if said:
                found[kind, ""] = said
    return found
