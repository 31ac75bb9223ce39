"""Rotation of logs on a real file system; the runtime is a fake that reopens. Excluded: the pump."""

import gzip
import os
from dataclasses import dataclass, field

from minipod.kubelet import logs
from minipod.kubelet.rules.observed import Instance, State
from minipod.kubelet.rules.pods import Pod
from minipod.kubelet.translate import pod_log_directory
from minipod.runtime.log_files import rotated
from minipod.runtime.service import ContainerState, ContainerStatus
from minipod.spec.container import ContainerSpec
from minipod.spec.ids import ContainerId, SandboxId

POD = Pod(name="web", namespace="shop", uid="u1")


@dataclass
class Reopening:
    """Makes the fresh file, as the pump does."""

    path: str
    reopened: list[str] = field(default_factory=list)

    async def reopen_container_log(self, container: str) -> None:
        self.reopened.append(container)
        os.close(os.open(self.path, os.O_CREAT | os.O_EXCL, 0o640))


def running(path: str) -> ContainerStatus:
    return ContainerStatus(
        id=ContainerId("c1"), sandbox_id=SandboxId("s1"), spec=ContainerSpec(name="app", image="i"),
        image_ref="i", image_id="", state=ContainerState.RUNNING, log_path=path,
    )  # fmt: skip


def read(path: str) -> str:
    with gzip.open(path, "rt") if path.endswith(".gz") else open(path) as file:
        return file.read()


async def test_five_files_remain_the_older_ones_compressed(tmp_path):
    path = str(tmp_path / "0.log")
    runtime = Reopening(path)
    rotator = logs.LogRotator(runtime, max_bytes=100, max_files=5)
    for n in range(8):
        (tmp_path / "0.log").write_text(f"{n} " * 60)
        await rotator.check(running(path))
    kept = rotated(path)
    assert len(kept) == 4
    assert os.path.getsize(path) == 0
    texts = [read(k) for k in kept]
    assert [text[0] for text in texts] == ["4", "5", "6", "7"]
    assert [k.endswith(".gz") for k in kept] == [True, True, True, False]


async def test_a_small_log_and_an_ended_container_are_left_alone(tmp_path):
    path = str(tmp_path / "0.log")
    (tmp_path / "0.log").write_text("x" * 99)
    runtime = Reopening(path)
    await logs.LogRotator(runtime, max_bytes=100, max_files=5).check(running(path))
    await logs.LogRotator(runtime, max_bytes=0, max_files=5).check(running(path))
    assert (runtime.reopened, rotated(path)) == ([], [])


def test_the_next_attempt_follows_the_highest_log(tmp_path):
    assert logs.next_attempt(str(tmp_path / "none")) == 0
    for name in ("0.log", "3.log.20260101-000000.gz", "2.log", "x.log"):
        (tmp_path / name).touch()
    assert logs.next_attempt(str(tmp_path)) == 4


def test_links_are_named_as_collectors_expect_and_go_with_their_log(tmp_path):
    links, directory = str(tmp_path / "containers"), tmp_path / "app"
    directory.mkdir()
    (directory / "0.log").touch()
    (directory / "0.log.20260101-000000.gz").touch()
    logs.link(links, POD, "app", "c1", str(directory / "0.log"))
    logs.link(links, POD, "app", "c1", str(directory / "0.log"))  # once more after a crash
    assert os.listdir(links) == ["web_shop_app-c1.log"]
    logs.unlink_dead(links)
    assert os.listdir(links) == ["web_shop_app-c1.log"]
    instance = Instance(name="app", id="c1", state=State.EXITED)
    logs.remove(str(directory), links, POD, instance)
    assert (os.listdir(links), os.listdir(directory)) == ([], [])
    logs.link(links, POD, "app", "c1", str(directory / "0.log"))
    logs.unlink_dead(links)
    assert os.listdir(links) == []


def test_a_long_link_name_is_cut():
    name = logs.link_name(Pod(name="p" * 253), "c" * 63, "0" * 32)
    assert (len(name), name[-4:]) == (255, ".log")


def test_a_pod_directory_is_no_longer_than_a_file_name():
    """A pod's name has up to 253 characters, a namespace's 63, and a file's name 255 bytes."""
    long = Pod(name="n" * 253, namespace="s" * 63, uid="u" * 36)
    found = pod_log_directory("/logs", long)
    assert found == f"/logs/{'s' * 63}_{'n' * 154}_{'u' * 36}"
    assert len(os.path.basename(found)) == 255


def test_a_dead_link_that_somebody_else_removes_at_the_same_time_is_removed(tmp_path, monkeypatch):
    real = os.unlink

    def comes_second(path):
        for _ in range(2):
            real(path)

    os.symlink("/nonexistent", tmp_path / "x.log")
    monkeypatch.setattr(os, "unlink", comes_second)
    logs.unlink_dead(str(tmp_path))
    assert not os.listdir(tmp_path)
