"""Extended attributes of a layer's entries: all are kept (security.capability, user.*) but those that are orders to overlayfs.

Paths may be below /proc/self/fd; the last component is never followed.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping

# A layer that could set these would redirect overlayfs to other files of the lower layers.
FORBIDDEN = ("trusted.overlay.", "user.overlay.")


def allowed(xattrs: Mapping[str, bytes]) -> dict[str, bytes]:
    """Return those that a layer may have."""
    return {key: value for key, value in xattrs.items() if not key.startswith(FORBIDDEN)}


def read(path: str) -> dict[str, bytes]:
    """Return all that *path* has. Raises OSError."""
    names = os.listxattr(path, follow_symlinks=False)
    return {name: os.getxattr(path, name, follow_symlinks=False) for name in names}


def write(path: str, xattrs: Mapping[str, bytes], *, is_link: bool = False) -> None:
    """Give *path* what it may have of *xattrs*. Raises OSError."""
    for key, value in allowed(xattrs).items():
        try:
            os.setxattr(path, key, value, follow_symlinks=False)
        except OSError as e:
            # As containerd: a file system without this kind loses it; symlinks have no user.*
            if e.errno != errno.ENOTSUP and not (is_link and e.errno == errno.EPERM):
                raise


def drop(path: str) -> None:
    """Forget what a lower layer's entry gave a directory: the new one says all of its attributes. Raises OSError."""
    for key in os.listxattr(path):
        if not key.startswith((*FORBIDDEN, "security.selinux")):
            os.removexattr(path, key)
