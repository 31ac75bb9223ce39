"""Streams by number inside the messages of a WebSocket, sans-I/O: a message is one channel's number and its bytes.

    v5.channel.k8s.io   binary; 255 and a number close that channel (the only end of stdin that there is); the end is a Status
    v4.channel.k8s.io   binary; the end is a Status
    channel.k8s.io, ""  binary; the end of a failed command is a sentence, that of a good one is nothing
    [v4.]base64....     the same as text messages: a digit, and the bytes in base64

    binary.k8s.io, base64.binary.k8s.io     one stream, no number: logs

Channels of exec and attach: 0 stdin, 1 stdout, 2 stderr, 3 error, 4 resize.
Source: KEP-4006; k8s.io/apimachinery remotecommand constants; k8s.io/apiserver wsstream.
"""

from __future__ import annotations

import base64
import binascii
import enum
from dataclasses import dataclass
from typing import Final

from minipod.errors import FailedPrecondition


class Ending(enum.Enum):
    """How the error channel says how it ended."""

    STATUS = "a Status, always"
    SENTENCE = "a sentence, when it failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Protocol:
    """One sub-protocol."""

    name: str  # as negotiated; "" when the client asks for none
    ending: Ending
    base64: bool = False
    closes: bool = False  # channel 255 is understood

    def encode(self, channel: int, payload: bytes) -> bytes | str:
        """Return a message: bytes for a binary one, str for a text one."""
        if self.base64:
            return f"{channel}{base64.b64encode(payload).decode()}"
        return bytes([channel]) + payload

    def decode(self, message: bytes | str) -> tuple[int, bytes] | None:
        """Return channel and bytes; None for an empty message. Raises FailedPrecondition for what is none of this protocol."""
        if not message:
            return None
        if not self.base64:
            raw = message if isinstance(message, bytes) else message.encode()
            return raw[0], raw[1:]
        text = message if isinstance(message, str) else message.decode("latin-1")
        try:
            return ord(text[0]) - ord("0"), base64.b64decode(text[1:], validate=True)
        except (binascii.Error, ValueError) as e:
            raise FailedPrecondition(f"a message that is not base64: {e}") from e


# What we would rather speak comes first.
REMOTE_COMMAND: Final = (
    Protocol(name="v5.channel.k8s.io", ending=Ending.STATUS, closes=True),
    Protocol(name="v4.channel.k8s.io", ending=Ending.STATUS),
    Protocol(name="v4.base64.channel.k8s.io", ending=Ending.STATUS, base64=True),
    Protocol(name="channel.k8s.io", ending=Ending.SENTENCE),
    Protocol(name="base64.channel.k8s.io", ending=Ending.SENTENCE, base64=True),
    Protocol(name="", ending=Ending.SENTENCE),
)


def by_name(name: str | None) -> Protocol:
    """Return the protocol that was negotiated (None: none was asked for)."""
    return next(p for p in REMOTE_COMMAND if p.name == (name or ""))
