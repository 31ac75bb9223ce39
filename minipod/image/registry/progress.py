"""What a pull or push tells while it runs: one value for each layer, again and again, Docker's words for its state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

WAITING = "Waiting"
DOWNLOADING = "Downloading"
DOWNLOADED = "Download complete"
EXISTS = "Already exists"
COMPLETE = "Pull complete"
UPLOADING = "Pushing"
PUSHED = "Pushed"
MOUNTED = "Mounted"
ON_REMOTE = "Layer already exists"


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProgress:
    """One layer now; *done* and *total* in bytes."""

    digest: str
    state: str
    done: int = 0
    total: int = 0


Tell = Callable[[LayerProgress], None]


def quiet(_: LayerProgress) -> None:
    """Tell nobody."""
