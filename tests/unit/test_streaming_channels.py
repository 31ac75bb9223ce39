"""The sub-protocols of WebSockets, message by message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minipod.errors import FailedPrecondition
from minipod.streaming.channels import REMOTE_COMMAND, Ending, Protocol, by_name
from minipod.streaming.remotecommand import exit_status, failure, spoken


@given(st.sampled_from(REMOTE_COMMAND), st.integers(0, 9), st.binary(max_size=100))
def test_what_is_encoded_is_decoded(protocol: Protocol, channel: int, payload: bytes) -> None:
    assert protocol.decode(protocol.encode(channel, payload)) == (channel, payload)


@given(st.sampled_from(REMOTE_COMMAND), st.one_of(st.binary(), st.text()))
def test_any_message_is_decoded_or_refused(protocol: Protocol, message: bytes | str) -> None:
    try:
        found = protocol.decode(message)
    except FailedPrecondition:
        assert protocol.base64
    else:
        assert (found is None) == (not message)


@pytest.mark.parametrize(
    ("name", "message", "found"),
    [
        pytest.param("v5.channel.k8s.io", b"\xff\x00", (255, b"\x00"), id="v5 close of stdin"),
        pytest.param("v4.channel.k8s.io", b"\x04{}", (4, b"{}"), id="v4 resize"),
        pytest.param("base64.channel.k8s.io", "0aGk=", (0, b"hi"), id="base64 stdin"),
        pytest.param(None, b"\x00hi", (0, b"hi"), id="none asked for"),
    ],
)
def test_messages_as_clients_send_them(name, message, found) -> None:
    assert by_name(name).decode(message) == found


def test_old_protocols_tell_a_sentence_or_nothing() -> None:
    assert spoken(exit_status(0), Ending.SENTENCE) == b""
    assert b"exit status 3" in spoken(exit_status(3), Ending.SENTENCE)
    assert b'"ExitCode", "message": "3"' in spoken(exit_status(3), Ending.STATUS)
    assert b"no such thing" in spoken(failure("no such thing"), Ending.SENTENCE)
