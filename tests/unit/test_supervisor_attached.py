"""A client of attach in the log pump, with real pipes: nothing is lost within the bound, and nobody is waited for."""

from __future__ import annotations

import os
import selectors

import pytest

from minipod.supervisor import attached
from minipod.supervisor.attached import EARLY, WHOLE, Attached, Unheard


@pytest.fixture
def selector():
    with selectors.DefaultSelector() as made:
        yield made


@pytest.fixture
def pipe():
    reader, writer = os.pipe()
    yield reader, writer
    os.close(reader)


@pytest.fixture
def verdict():
    """Its read end is non-blocking: what was not told is told by BlockingIOError."""
    reader, writer = os.pipe2(os.O_NONBLOCK)
    yield reader, writer
    os.close(reader)


def turn(selector: selectors.BaseSelector) -> None:
    for key, events in selector.select(0):
        key.data.ready(key.fd, events)


def is_closed(fd: int) -> bool:
    return not os.path.exists(f"/proc/self/fd/{fd}")


def test_what_does_not_fit_the_pipe_comes_later_and_whole(selector, pipe, verdict) -> None:
    reader, writer = pipe
    client = Attached(selector, {b"stdout": writer}, verdict[1])
    said = [bytes([n]) * 50_000 for n in range(40)]
    for chunk in said:
        client.give(b"stdout", chunk)
    client.finish()
    heard = b""
    while chunk := os.read(reader, 30_000):
        heard += chunk
        turn(selector)
    assert heard == b"".join(said)
    assert not client.is_open
    assert os.read(verdict[0], 10) == WHOLE
    assert not selector.get_map()


def test_who_is_too_far_behind_is_cut_off_and_keeps_what_the_pipe_has(
    selector, pipe, verdict, monkeypatch
) -> None:
    monkeypatch.setattr(attached, "BEHIND", 100_000)
    reader, writer = pipe
    client = Attached(selector, {b"stdout": writer}, verdict[1])
    while client.is_open:
        client.give(b"stdout", b"x" * 10_000)
    assert is_closed(writer)
    assert os.read(verdict[0], 10) == b""
    assert 0 < len(os.read(reader, 1 << 20)) <= 65_536  # the capacity of a pipe


def test_a_reader_that_goes_is_noticed_while_nothing_is_said(selector, verdict) -> None:
    reader, writer = os.pipe()
    client = Attached(selector, {b"stdout": writer}, verdict[1])
    turn(selector)
    assert client.is_open
    os.close(reader)
    turn(selector)
    assert not client.is_open
    assert is_closed(writer)


def test_a_reader_that_goes_while_it_is_behind_is_let_go(selector, verdict) -> None:
    reader, writer = os.pipe()
    client = Attached(selector, {b"stdout": writer}, verdict[1])
    client.give(b"stdout", bytes(200_000))
    client.finish()
    assert client.is_open  # it still may take what it has not
    with pytest.raises(BlockingIOError):
        os.read(verdict[0], 10)
    os.close(reader)
    turn(selector)
    assert not client.is_open
    assert os.read(verdict[0], 10) == b""
    assert not selector.get_map()


def test_one_stream_that_is_not_read_takes_the_other_with_it(
    selector, pipe, verdict, monkeypatch
) -> None:
    monkeypatch.setattr(attached, "BEHIND", 1000)
    (out, out_end), (err, err_end) = pipe, os.pipe()
    client = Attached(selector, {b"stdout": out_end, b"stderr": err_end}, verdict[1])
    client.give(b"stdout", b"said")
    client.give(b"stderr", bytes(100_000))
    assert not client.is_open
    assert os.read(out, 100) + os.read(out, 100) == b"said"
    os.close(err)


def test_the_end_of_a_container_whose_client_left_just_now(selector, verdict) -> None:
    """Both ends fall together: the verdict has no reader any more, and the pump goes on."""
    _, told = verdict
    reader, writer = os.pipe()
    mine, theirs = os.pipe()
    client = Attached(selector, {b"stdout": writer}, theirs)
    os.close(mine)
    client.finish()
    assert is_closed(writer)
    assert is_closed(theirs)
    os.close(reader)
    os.close(told)


@pytest.mark.parametrize(
    ("sizes", "heard"),
    [([10, EARLY - 10], EARLY), ([10, EARLY - 9], 0), ([EARLY + 1, 5], 0), ([], 0)],
    ids=["all that fits", "a byte more", "much, then little", "nothing"],
)
def test_what_was_said_to_nobody_is_told_whole_or_not_at_all(
    selector, pipe, verdict, sizes, heard
) -> None:
    """Excluded: the end of it without its beginning."""
    unheard = Unheard()
    for size in sizes:
        unheard.keep(b"stdout", b"x" * size)
    client = Attached(selector, {b"stdout": pipe[1]}, verdict[1])
    unheard.tell(client)
    client.finish()
    assert len(os.read(pipe[0], EARLY + 1)) == heard
