"""The numbers of the channels of exec and attach (k8s.io/apimachinery, remotecommand constants): clients need no more of `channels`."""

from __future__ import annotations

import enum


class Channel(enum.IntEnum):
    """The channels of exec and attach."""

    STDIN = 0
    STDOUT = 1
    STDERR = 2
    ERROR = 3
    RESIZE = 4
    CLOSE = 255
