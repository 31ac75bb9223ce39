"""A node as a client sees it: its name, and where its API answers.

What else there is to a node is `spec.instance`, whose import takes a command 5 ms.
"""

from __future__ import annotations

SETTINGS = "/etc/minipod/minipod.toml"  # may say otherwise (`minipod.config`)
RUN_ROOT = "/run"


class Endpoint:
    """What derives from these two settings. An `Instance` is one."""

    __slots__ = ("name", "run_root")

    def __init__(self, name: str, run_root: str = RUN_ROOT) -> None:
        self.name = name
        self.run_root = run_root

    @property
    def command(self) -> str:
        """What one types in front of a verb to mean this node: for hints."""
        return "minipod" if self.name == "minipod" else f"minipod --instance {self.name}"

    @property
    def run_dir(self) -> str:
        """A tmpfs (0700) for what must outlive our processes, not the machine."""
        return f"{self.run_root}/{self.name}"

    @property
    def api_socket(self) -> str:
        return f"{self.run_dir}/api.sock"


def is_name(text: str) -> bool:
    """Whether a node may be called so: 1 to 10 lower-case letters and digits, which leaves room for suffixes in IFNAMSIZ (15)."""
    letters = text.isascii() and text.isalnum() and text == text.lower()
    return letters and text[0].isalpha() and len(text) <= 10
