"""Blobs: resumed, checked, followed while they grow. Excluded: what a blob means (test_image_store)."""

from __future__ import annotations

import os
import threading

import pytest

from minipod.errors import ImageError
from minipod.image.content import ContentStore, Descriptor, digest_of

DATA = os.urandom(3000)


def described(data: bytes) -> Descriptor:
    return Descriptor(media_type="x", digest=digest_of(data), size=len(data))


@pytest.fixture
def content(tmp_path) -> ContentStore:
    return ContentStore(str(tmp_path))


def partials(content: ContentStore) -> list[str]:
    return os.listdir(content._ingest)


def test_an_interrupted_blob_goes_on_where_it_stopped(content):
    with content.resume(described(DATA)) as writer:
        writer.write(DATA[:1000])
    assert content.size(digest_of(DATA)) is None
    with content.resume(described(DATA)) as writer:
        assert writer.offset == 1000
        writer.write(DATA[1000:])
        writer.commit()
    assert content.read(digest_of(DATA)) == DATA
    assert partials(content) == []
    assert content.resume(described(DATA)) is None


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        (DATA[:-1] + bytes([DATA[-1] ^ 1]), "has digest"),
        (DATA + b"?", "longer than the 3000 bytes"),
    ],
    ids=["other bytes", "too many bytes"],
)
def test_a_wrong_blob_is_refused_and_nothing_of_it_is_left(content, sent, message):
    def send() -> None:
        with content.resume(described(DATA)) as writer:
            writer.write(sent)
            writer.commit()

    with pytest.raises(ImageError, match=message):
        send()
    assert partials(content) == []
    assert list(content.digests()) == []


def test_a_blob_that_ends_early_is_refused_but_can_be_resumed(content):
    with content.resume(described(DATA)) as writer:
        writer.write(DATA[:1000])
        with pytest.raises(ImageError, match="ends after 1000 bytes"):
            writer.commit()
    assert list(content.digests()) == []
    with content.resume(described(DATA)) as writer:
        assert writer.offset == 1000


def read_all(follower, got: list[bytes]) -> None:
    while data := follower.read(700):
        got.append(data)


def test_a_follower_reads_while_the_blob_grows_and_ends_with_the_commit(content):
    got: list[bytes] = []
    with content.resume(described(DATA)) as writer:
        follower = writer.follow()
        reader = threading.Thread(target=read_all, args=(follower, got))
        reader.start()
        for at in range(0, 3000, 500):
            writer.write(DATA[at : at + 500])
        assert reader.is_alive()
        writer.commit()
    reader.join(30)
    follower.close()
    assert b"".join(got) == DATA


def test_a_follower_of_a_blob_that_is_given_up_fails(content):
    with content.resume(described(DATA)) as writer:
        writer.write(DATA[:10])
        follower = writer.follow()
    with pytest.raises(ImageError, match="given up"):
        follower.read(10)
    follower.close()


def test_a_second_writer_waits_for_the_first_and_finds_its_work_done(content):
    first = content.resume(described(DATA))
    first.write(DATA)
    found: list[object] = ["nothing yet"]

    def second() -> None:
        found[0] = content.resume(described(DATA))

    thread = threading.Thread(target=second)
    thread.start()
    thread.join(0.05)
    assert thread.is_alive()
    first.commit()
    first.close()
    thread.join(30)
    assert found == [None]


def test_abandoned_partial_blobs_are_swept_by_age_unless_somebody_writes_them(content):
    with content.resume(described(DATA)) as old:
        old.write(DATA[:10])
    with content.resume(described(b"other")) as busy:
        busy.write(b"o")
        content.sweep_partials()
        assert len(partials(content)) == 2
        content.sweep_partials(older=-1)
        assert partials(content) == [digest_of(b"other")[7:]]


@pytest.mark.parametrize("digest", ["sha256:abc", "sha256:../../../etc/passwd", "md5:" + "0" * 32])
def test_what_is_no_digest_never_becomes_a_path(content, digest):
    with pytest.raises(ImageError, match="not a sha256 digest"):
        content.path(digest)
