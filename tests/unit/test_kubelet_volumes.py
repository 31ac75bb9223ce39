"""hostPath checks and the pod's directory, without mounts."""

import asyncio
import os
import socket

import pytest

from minipod.api.tokens import Token
from minipod.errors import FailedPrecondition, NotFound
from minipod.kubelet.objects import ObjectReader
from minipod.kubelet.rules.env import NodeFacts
from minipod.kubelet.rules.pods import Pod, compile_container, compile_pod
from minipod.kubelet.tokens import PodTokens
from minipod.kubelet.volumes import PodDirectory
from minipod.kubelet.volumes.setup import PodVolumes
from tests.fakes.store import FakeStore


@pytest.fixture
def host(tmp_path):
    (tmp_path / "dir").mkdir()
    (tmp_path / "file").touch()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(tmp_path / "socket"))
    return tmp_path


def set_up(host, name: str, kind: str) -> str:
    source = {"path": name if name.startswith("/") else str(host / name), "type": kind}
    volume = {"name": "v", "hostPath": source}
    return asyncio.run(volumes(host).set_up(pod_with(volume), NodeFacts()))["v"].path


def pod_with(volume: dict[str, object], **spec: object) -> Pod:
    raw = {"metadata": {"name": "a", "namespace": "default", "labels": {"app": "web"}}}
    return compile_pod({**raw, "spec": {"volumes": [volume], **spec}})


def volumes(host, store: FakeStore | None = None) -> PodVolumes:
    directory = PodDirectory(str(host / "state"), str(host / "run"), "u")
    tokens = PodTokens(None, lambda: 0.0)
    return PodVolumes(directory, ObjectReader(store or FakeStore()), tokens, 1 << 30)


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("dir", "Directory"),
        ("file", "File"),
        ("socket", "Socket"),
        ("/dev/null", "CharDevice"),
        ("new", "DirectoryOrCreate"),
        ("new", "FileOrCreate"),
        ("new", ""),
    ],
)
def test_a_host_path_that_fits_its_type(host, name, kind):
    assert set_up(host, name, kind).endswith(name)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("file", "Directory", "a directory"),
        ("missing", "Directory", "a directory"),
        ("file", "DirectoryOrCreate", "a directory"),
        ("dir", "File", "a file"),
        ("dir", "FileOrCreate", "a file"),
        ("file", "Socket", "a socket file"),
        ("file", "CharDevice", "a character device"),
        ("file", "BlockDevice", "a block device"),
    ],
)
def test_a_host_path_that_does_not(host, name, kind, words):
    with pytest.raises(FailedPrecondition) as caught:
        set_up(host, name, kind)
    assert caught.value.message == (
        f'MountVolume.SetUp failed for volume "v" : hostPath type check failed: '
        f"{host / name} is not {words}"
    )


def test_every_instance_has_a_termination_file_that_any_user_writes(host):
    directory = PodDirectory(str(host), str(host / "run"), "u")
    container = compile_container({"name": "app"}, "spec.containers[0]")
    first, second = (directory.new_termination_file(container) for _ in range(2))
    assert first != second
    assert os.stat(first).st_mode & 0o777 == 0o666


def config_map(name: str, **data: str) -> dict[str, object]:
    return {"metadata": {"name": name}, "data": data}


def content(path: str) -> dict[str, str]:
    """What a container would see: files by their visible names."""
    found = {}
    for base, directories, names in os.walk(path, followlinks=True):
        directories[:] = [d for d in directories if not d.startswith("..")]
        for name in names:
            with open(f"{base}/{name}", encoding="utf-8") as f:
                found[os.path.relpath(f"{base}/{name}", path)] = f.read()
    return found


async def test_a_config_map_becomes_files_and_follows_changes(host):
    store = FakeStore()
    await store.create("configmaps", "default", config_map("cm", a="1", b="2"))
    pod = pod_with({"name": "v", "configMap": {"name": "cm", "defaultMode": 0o440}})
    made = volumes(host, store)
    mounted = (await made.set_up(pod, NodeFacts()))["v"]
    assert mounted.readonly
    assert content(mounted.path) == {"a": "1", "b": "2"}
    assert os.stat(f"{mounted.path}/a").st_mode & 0o777 == 0o440
    before = os.readlink(f"{mounted.path}/..data")
    await made.refresh(pod, NodeFacts())
    assert os.readlink(f"{mounted.path}/..data") == before  # nothing changed, nothing is written
    await store.update("configmaps", "default", "cm", config_map("cm", a="3", c="4"))
    await made.refresh(pod, NodeFacts())
    assert content(mounted.path) == {"a": "3", "c": "4"}
    assert sorted(os.listdir(mounted.path)) == sorted(
        ["..data", os.readlink(f"{mounted.path}/..data"), "a", "c"]
    )


async def test_items_choose_keys_paths_and_modes(host):
    store = FakeStore()
    await store.create(
        "secrets",
        "default",
        {"metadata": {"name": "s"}, "data": {"k": "c2VjcmV0", "other": "eA=="}},
    )
    items = [{"key": "k", "path": "deep/er/file", "mode": 0o600}]
    pod = pod_with({"name": "v", "secret": {"secretName": "s", "items": items}})
    path = (await volumes(host, store).set_up(pod, NodeFacts()))["v"].path
    assert path.startswith(str(host / "run"))  # never on a disk
    assert content(path) == {"deep/er/file": "secret"}
    assert os.stat(f"{path}/deep/er/file").st_mode & 0o777 == 0o600


async def test_a_projection_joins_its_sources(host):
    store = FakeStore()
    await store.create("configmaps", "default", config_map("cm", a="1"))
    fields = [
        {"path": "labels", "fieldRef": {"fieldPath": "metadata.labels"}},
        {"path": "name", "fieldRef": {"fieldPath": "metadata.name"}},
    ]
    sources = [
        {"configMap": {"name": "cm"}},
        {"downwardAPI": {"items": fields}},
        {"secret": {"name": "no", "optional": True}},
    ]
    pod = pod_with({"name": "v", "projected": {"sources": sources}})
    path = (await volumes(host, store).set_up(pod, NodeFacts()))["v"].path
    assert content(path) == {"a": "1", "labels": 'app="web"', "name": "a"}


@pytest.mark.parametrize(
    ("volume", "words"),
    [
        ({"configMap": {"name": "no"}}, 'configmap "no" not found'),
        ({"secret": {"secretName": "no"}}, 'secret "no" not found'),
        (
            {"configMap": {"name": "cm", "items": [{"key": "z", "path": "z"}]}},
            "configmap references non-existent config key: z",
        ),
    ],
)
async def test_what_is_missing_is_told(host, volume, words):
    store = FakeStore()
    await store.create("configmaps", "default", config_map("cm", a="1"))
    with pytest.raises(FailedPrecondition) as caught:
        await volumes(host, store).set_up(pod_with({"name": "v", **volume}), NodeFacts())
    assert caught.value.message == f'MountVolume.SetUp failed for volume "v" : {words}'
    (kind,) = volume
    volume[kind]["optional"] = True
    assert (
        content(
            (await volumes(host, store).set_up(pod_with({"name": "v", **volume}), NodeFacts()))[
                "v"
            ].path
        )
        == {}
    )


@pytest.mark.requires("root")
async def test_the_pods_group_owns_its_volumes(host):
    store = FakeStore()
    await store.create("secrets", "default", {"metadata": {"name": "s"}, "data": {"k": "eA=="}})
    context = {"fsGroup": 2000}
    pod = pod_with(
        {"name": "v", "secret": {"secretName": "s", "defaultMode": 0o400}}, securityContext=context
    )
    path = (await volumes(host, store).set_up(pod, NodeFacts()))["v"].path
    info = os.stat(f"{path}/k")
    assert (info.st_gid, info.st_mode & 0o777) == (2000, 0o440)
    pod = pod_with({"name": "e", "emptyDir": {}}, securityContext=context)
    info = os.stat((await volumes(host, store).set_up(pod, NodeFacts()))["e"].path)
    assert (info.st_gid, info.st_mode & 0o7777) == (2000, 0o2777)


def test_a_directory_that_somebody_else_removes_at_the_same_time_is_removed(host, monkeypatch):
    real = os.rmdir

    def comes_second(path, *, dir_fd=None):
        for _ in range(2):
            real(path, dir_fd=dir_fd)

    directory = PodDirectory(str(host / "state"), str(host / "run"), "u")
    os.makedirs(f"{directory.path}/containers/app")
    monkeypatch.setattr(os, "rmdir", comes_second)
    directory.remove()
    assert not os.path.exists(directory.path)


PROJECTED = {
    "name": "v",
    "projected": {
        "sources": [
            {"serviceAccountToken": {"path": "token"}},
            {"configMap": {"name": "cm"}},
        ]
    },
}


class Issuer:
    """Counts; without an *account* there is nothing to mint for."""

    def __init__(self, *, account: bool = True) -> None:
        self.account = account
        self.minted = 0

    async def mint(self, *_: object, **__: object) -> Token:
        if not self.account:
            raise NotFound('serviceaccounts "default" not found')
        self.minted += 1
        return Token(text="secret", expires_at=3600.0)


async def projected(host, issuer: Issuer, **spec: object) -> tuple[PodVolumes, Pod]:
    store = FakeStore()
    await store.create("configmaps", "default", config_map("cm", a="1"))
    directory = PodDirectory(str(host / "state"), str(host / "run"), "u")
    tokens = PodTokens(issuer, lambda: 0.0)
    return PodVolumes(directory, ObjectReader(store), tokens, 1 << 30), pod_with(PROJECTED, **spec)


async def test_a_volume_in_memory_is_begun_empty_and_filled_before_a_container_starts(host):
    """Its directory is the same: who has mounted it sees what comes."""
    issuer = Issuer()
    made, pod = await projected(host, issuer)
    path = (await made.begin(pod, NodeFacts()))["v"].path
    before = os.stat(path)
    assert (os.listdir(path), issuer.minted) == ([], 0)
    await made.fill(pod)
    assert content(path) == {"a": "1", "token": "secret"}
    assert os.path.samestat(before, os.stat(path))
    data = os.readlink(f"{path}/..data")
    await made.fill(pod)  # there is nothing left to write
    await made.refresh(pod, NodeFacts())
    assert (os.readlink(f"{path}/..data"), issuer.minted) == (data, 1)


@pytest.mark.parametrize("part", [{"subPath": "a"}, {"subPathExpr": "$(A)"}], ids=str)
async def test_a_volume_of_which_a_part_is_mounted_is_not_begun_without_it(host, part):
    mount = {"name": "v", "mountPath": "/x", **part}
    made, pod = await projected(host, Issuer(), containers=[{"name": "c", "volumeMounts": [mount]}])
    path = (await made.begin(pod, NodeFacts()))["v"].path
    assert content(path) == {"a": "1", "token": "secret"}


async def test_what_is_missing_is_told_before_anything_is_made_and_a_token_when_it_is_minted(host):
    missing = volumes(host)
    with pytest.raises(FailedPrecondition, match='configmap "cm" not found'):
        await missing.begin(pod_with(PROJECTED), NodeFacts())
    assert not (host / "run").exists()
    made, pod = await projected(host, Issuer(account=False))
    await made.begin(pod, NodeFacts())
    with pytest.raises(FailedPrecondition) as caught:
        await made.fill(pod)
    assert caught.value.message == (
        'MountVolume.SetUp failed for volume "v" : failed to fetch token: serviceaccounts "default" not found'
    )
