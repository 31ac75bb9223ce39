"""The CRI by a gRPC client, as a kubelet or crictl would drive it: a whole life, restarts in between, and what is refused."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import tempfile

import aiohttp
import pytest
from grpclib.const import Status
from grpclib.exceptions import GRPCError, StreamTerminatedError

from minipod.cgroups.hierarchy import of_node
from minipod.cri.server import IMAGE_MISSING, RUNTIME_MISSING
from tests.cri import (
    CriClient,
    container_config,
    refused,
    run,
    sandbox_config,
    spdy_client,
    state,
    until,
)
from tests.node import Node
from tests.registry.server import Registry
from tests.root.conftest import INSTANCE, await_nothing_left, snapshot


@pytest.fixture(scope="module")
def server(settings):
    """A CRI server in an instance of its own, gone without a trace afterwards."""
    before = snapshot()
    made = Node(f"{INSTANCE}c")
    try:
        made.run("cri", "--detach")
        made.run("image", "build")
        yield made
    finally:
        made.run("reset", "-y")
    await_nothing_left(before, "mounts")


@pytest.fixture
async def cri(server):
    client = CriClient(server.instance.cri_socket)
    yield client
    for sandbox in (await client("ListPodSandbox")).items:
        await client("RemovePodSandbox", pod_sandbox_id=sandbox.id)
    client.close()


@pytest.mark.parametrize("package", ["runtime.v1", "runtime.v1alpha2"])
async def test_a_whole_life_under_both_names(server, cri, package: str, tmp_path) -> None:  # noqa: PLR0915 narration
    client = CriClient(server.instance.cri_socket, package)
    pb = client.pb
    version = await client("Version", version=package.removeprefix("runtime."))
    assert (version.runtime_name, f"runtime.{version.runtime_api_version}") == ("minipod", package)
    assert all(c.status for c in (await client("Status")).status.conditions)
    config = sandbox_config(pb, "life")
    config.log_directory = str(tmp_path)
    sandbox = (await client("RunPodSandbox", config=config)).pod_sandbox_id
    status = (await client("PodSandboxStatus", pod_sandbox_id=sandbox)).status
    assert (status.state, status.metadata.uid) == (pb.SANDBOX_READY, config.metadata.uid)
    assert (status.labels["app"], status.annotations["note"]) == ("life", "kept")
    assert len([status.network.ip, *status.network.additional_ips]) == 2
    made = await client(
        "CreateContainer", pod_sandbox_id=sandbox, sandbox_config=config,
        config=container_config(pb, "trap 'exit 7' TERM; sleep 1000 & echo $GREETING; wait",
                                envs=[pb.KeyValue(key="GREETING", value=b"hello")], log_path="app/0.log"),
    )  # fmt: skip
    container = made.container_id
    assert (await state(client, container)).state == pb.CONTAINER_CREATED
    await client("StartContainer", container_id=container)
    assert (await state(client, container)).state == pb.CONTAINER_RUNNING
    result = await client("ExecSync", container_id=container, cmd=["sh", "-c", "hostname; exit 3"])
    assert (result.stdout, result.exit_code) == (b"life\n", 3)
    log = tmp_path / "app" / "0.log"
    assert await until(lambda: later(log.exists() and b"stdout F hello" in log.read_bytes()))
    stats = (await client("ContainerStats", container_id=container)).stats
    assert stats.cpu.usage_core_nano_seconds.value > 0
    assert stats.memory.working_set_bytes.value > 0
    pod = (await client("PodSandboxStats", pod_sandbox_id=sandbox)).stats
    assert pod.linux.process.process_count.value >= 2
    os.rename(log, tmp_path / "old")
    await client("ReopenContainerLog", container_id=container)
    assert await until(lambda: later(log.exists()))
    await client("StopContainer", container_id=container, timeout=10)
    ended = await state(client, container)
    assert (ended.state, ended.exit_code, ended.reason) == (pb.CONTAINER_EXITED, 7, "Error")
    assert ended.started_at < ended.finished_at
    for _ in range(2):  # once more is no error
        await client("StopContainer", container_id=container, timeout=1)
        await client("StopPodSandbox", pod_sandbox_id=sandbox)
    stopped = (await client("PodSandboxStatus", pod_sandbox_id=sandbox)).status
    assert stopped.state == pb.SANDBOX_NOTREADY
    for _ in range(2):
        await client("RemoveContainer", container_id=container)
        await client("RemovePodSandbox", pod_sandbox_id=sandbox)
    assert not (await client("ListPodSandbox")).items
    client.close()


async def later(value):
    return value


async def test_an_image_is_pulled_listed_and_removed(cri, server, tmp_path) -> None:
    registry = Registry(tmp_path).start()
    name = f"{registry.host}/team/busybox:1"
    try:
        server.run("image", "tag", "busybox:1.36", name)
        server.run("image", "push", name)
        await cri("RemoveImage", image=cri.pb.ImageSpec(image=name))
        absent = await cri("ImageStatus", image=cri.pb.ImageSpec(image=name))
        assert not absent.HasField("image")
        pulled = await cri("PullImage", image=cri.pb.ImageSpec(image=name))
        found = (await cri("ImageStatus", image=cri.pb.ImageSpec(image=pulled.image_ref))).image
        assert name in found.repo_tags
        assert found.size > 0
        only = cri.pb.ImageFilter(image=cri.pb.ImageSpec(image=name))
        assert [i.id for i in (await cri("ListImages", filter=only)).images] == [found.id]
        for _ in range(2):
            await cri("RemoveImage", image=cri.pb.ImageSpec(image=name))
    finally:
        registry.stop()
    usage = await cri("ImageFsInfo")
    assert usage.image_filesystems[0].used_bytes.value > 0


async def test_exec_runs_over_a_websocket_and_its_url_is_good_once(cri) -> None:
    _, container = await run(cri, "streams", "sleep 1000")
    url = (await cri("Exec", container_id=container, cmd=["cat"], stdin=True, stdout=True)).url
    async with aiohttp.ClientSession() as http:
        async with http.ws_connect(url, protocols=["v5.channel.k8s.io"]) as socket:
            await socket.send_bytes(b"\x00to and fro")
            await socket.send_bytes(b"\xff\x00")
            told = b"".join([m.data[1:] async for m in socket if m.data[0] == 1])
        assert told == b"to and fro"
        async with http.get(url) as again:
            assert again.status == 404


async def test_attach_and_port_forward_run_over_spdy(cri) -> None:
    """As crictl and kubelets up to 1.29 speak it."""
    sandbox, container = await run(
        cri, "spdy", "nc -ll -p 7000 -e cat & while read line; do echo got $line; done",
        stdin=True,
    )  # fmt: skip
    url = (await cri("Attach", container_id=container, stdin=True, stdout=True)).url
    async with spdy_client(url, "v4.channel.k8s.io") as client:
        streams = {k: client.open({"streamtype": k}) for k in ("error", "stdin", "stdout")}
        client.connection.send(streams["stdin"], b"this\n")
        assert await client.heard(streams["stdout"]) == b"got this\n"
    listens = ["sh", "-c", "netstat -ltn | grep :7000"]
    await until(lambda: succeeds(cri, container, listens))
    url = (await cri("PortForward", pod_sandbox_id=sandbox, port=[7000])).url
    async with spdy_client(url, "portforward.k8s.io") as client:
        fields = {"port": "7000", "requestid": "0"}
        client.open({"streamtype": "error", **fields})
        data = client.open({"streamtype": "data", **fields})
        client.connection.send(data, b"echo")
        assert await client.heard(data) == b"echo"


async def succeeds(cri, container: str, command: list[str]) -> bool:
    return (await cri("ExecSync", container_id=container, cmd=command)).exit_code == 0


async def test_events_tell_of_a_containers_life(cri) -> None:
    async with cri.events() as stream:
        await stream.send_message(cri.pb.GetEventsRequest(), end=True)
        await stream.recv_initial_metadata()  # it listens
        sandbox, container = await run(cri, "events", "true")
        told = []
        async with asyncio.timeout(60):
            async for event in stream:
                assert (event.container_id, event.pod_sandbox_status.id) == (container, sandbox)
                told.append(cri.pb.name("ContainerEventType", event.container_event_type))
                if told[-1] == "CONTAINER_STOPPED_EVENT":
                    break
        await stream.cancel()
    assert told == ["CONTAINER_CREATED_EVENT", "CONTAINER_STARTED_EVENT", "CONTAINER_STOPPED_EVENT"]


@pytest.mark.parametrize("who", ["pid", "supervisor_pid"])
async def test_containers_outlive_the_server(server, who: str) -> None:
    client = CriClient(server.instance.cri_socket)
    sandbox, container = await run(client, f"outlives-{who[0]}", "sleep 1000")
    before = await state(client, container)
    os.kill(server.status()[who], signal.SIGKILL)
    client.close()

    async def back():
        again = CriClient(server.instance.cri_socket)
        try:
            await again("ExecSync", container_id=container, cmd=["true"])
            return await state(again, container)
        except (OSError, GRPCError, StreamTerminatedError):
            return None
        finally:
            again.close()

    after = await until(back)
    assert (after.state, after.started_at) == (before.state, before.started_at)
    client = CriClient(server.instance.cri_socket)
    await client("RemovePodSandbox", pod_sandbox_id=sandbox)
    client.close()


async def test_twenty_at_once(cri) -> None:
    made = await asyncio.gather(*(run(cri, f"p{n}", "sleep 1000") for n in range(20)))
    listed = (await cri("ListContainers")).containers
    assert {c.id for c in listed} == {container for _, container in made}
    ips = [
        (await cri("PodSandboxStatus", pod_sandbox_id=sandbox)).status.network.ip
        for sandbox, _ in made
    ]
    assert len(set(ips)) == 20


async def test_lists_are_filtered_and_ids_may_be_short(cri) -> None:
    pb = cri.pb
    (sandbox, container), (other, _) = (
        await run(cri, "one", "sleep 1000"),
        await run(cri, "two", "exit 0"),
    )
    by_label = pb.PodSandboxFilter(label_selector={"app": "one"})
    assert [s.id for s in (await cri("ListPodSandbox", filter=by_label)).items] == [sandbox]
    by_state = pb.ContainerFilter(state=pb.ContainerStateValue(state=pb.CONTAINER_RUNNING))
    await until(lambda: only(cri, by_state, container))
    by_sandbox = pb.ContainerFilter(pod_sandbox_id=other)
    assert len((await cri("ListContainers", filter=by_sandbox)).containers) == 1
    assert (await state(cri, container[:12])).id == container


async def only(cri, wanted, container: str) -> bool:
    return [c.id for c in (await cri("ListContainers", filter=wanted)).containers] == [container]


async def test_the_callers_own_cgroup_is_used_and_left_alone(cri, server) -> None:
    """A kubelet makes the pods' cgroups itself, and removes them."""
    parent = f"/{server.instance.name}/kubelets/pod1"
    root = "/sys/fs/cgroup/memory" if os.path.isdir("/sys/fs/cgroup/memory") else "/sys/fs/cgroup"
    config = sandbox_config(cri.pb, "own", cgroup_parent=parent)
    sandbox = (await cri("RunPodSandbox", config=config)).pod_sandbox_id
    made = await cri(
        "CreateContainer", pod_sandbox_id=sandbox, sandbox_config=config,
        config=container_config(cri.pb, "sleep 1000"),
    )  # fmt: skip
    await cri("StartContainer", container_id=made.container_id)
    assert os.path.isdir(f"{root}{parent}/{made.container_id}")
    await cri("RemovePodSandbox", pod_sandbox_id=sandbox)
    assert os.path.isdir(f"{root}{parent}")
    assert not os.path.exists(f"{root}{parent}/{made.container_id}")
    of_node(server.instance.run_dir).remove(
        os.path.dirname(parent).strip("/")
    )  # as a kubelet would


async def test_new_limits_are_written(cri) -> None:
    _, container = await run(cri, "resized", "sleep 1000")
    limits = cri.pb.LinuxContainerResources(memory_limit_in_bytes=32 << 20, cpu_shares=256)
    await cri("UpdateContainerResources", container_id=container, linux=limits)
    shown = (await state(cri, container)).resources.linux
    assert (shown.memory_limit_in_bytes, shown.cpu_shares) == (32 << 20, 256)


async def test_host_network_shares_the_nodes(cri) -> None:
    pb = cri.pb
    config = sandbox_config(pb, "host")
    config.linux.security_context.namespace_options.network = pb.NODE
    sandbox = (await cri("RunPodSandbox", config=config)).pod_sandbox_id
    status = (await cri("PodSandboxStatus", pod_sandbox_id=sandbox)).status
    assert status.network.ip == ""
    assert status.linux.namespaces.options.network == pb.NODE
    container = container_config(pb, "sleep 1000")
    container.linux.security_context.namespace_options.network = pb.NODE
    made = await cri(
        "CreateContainer", pod_sandbox_id=sandbox, config=container, sandbox_config=config
    )
    await cri("StartContainer", container_id=made.container_id)
    listed = await cri("ExecSync", container_id=made.container_id, cmd=["ls", "/sys/class/net"])
    assert set(listed.stdout.decode().split()) >= {"lo", *(n for _, n in socket.if_nameindex()[:1])}


async def test_a_user_namespace_is_the_sandboxes(cri) -> None:
    """Ids and id-mapped mounts as a kubelet sends them with hostUsers: false."""
    pb = cri.pb
    ids = [pb.IDMapping(host_id=1 << 30, container_id=0, length=65536)]
    userns = pb.UserNamespace(mode=pb.POD, uids=ids, gids=ids)
    config = sandbox_config(pb, "users")
    config.linux.security_context.namespace_options.userns_options.CopyFrom(userns)
    sandbox = (await cri("RunPodSandbox", config=config)).pod_sandbox_id
    status = (await cri("PodSandboxStatus", pod_sandbox_id=sandbox)).status
    assert status.linux.namespaces.options.userns_options == userns
    with tempfile.TemporaryDirectory(dir="/var/tmp") as place:
        mounts = [pb.Mount(host_path=place, container_path="/v", uidMappings=ids, gidMappings=ids)]
        container = container_config(pb, "sleep 1000", mounts=mounts)
        container.linux.security_context.namespace_options.userns_options.CopyFrom(userns)
        fields = {"pod_sandbox_id": sandbox, "sandbox_config": config}
        made = await cri("CreateContainer", config=container, **fields)
        await cri("StartContainer", container_id=made.container_id)
        command = ["sh", "-c", "touch /v/made; cat /proc/self/uid_map"]
        said = await cri("ExecSync", container_id=made.container_id, cmd=command)
        assert said.stdout.split() == [b"0", b"1073741824", b"65536"]
        assert os.stat(f"{place}/made").st_uid == 0
        container.metadata.attempt += 1
        container.mounts[0].uidMappings[0].host_id += 65536
        container.mounts[0].gidMappings[0].host_id += 65536
        with pytest.raises(GRPCError, match="is not the mapping of the sandbox"):
            await cri("CreateContainer", config=container, **fields)


async def test_bad_requests_name_the_field_and_leave_nothing(cri) -> None:
    for name, fields, code, words in refused(cri.pb):
        with pytest.raises(GRPCError) as error:
            await cri(name, **fields)
        assert (error.value.status, words in error.value.message) == (code, True), error.value
    assert not (await cri("ListPodSandbox")).items


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ("mounts", "config.mounts[0].container_path"),
        ("CDI_devices", "config.CDI_devices"),
        ("image", "config.image.image"),
    ],
)
async def test_bad_containers_name_the_field(cri, field: str, words: str) -> None:
    pb = cri.pb
    wrong = {
        "mounts": [pb.Mount(host_path="/tmp", container_path="relative")],
        "CDI_devices": [pb.CDIDevice(name="gpu")],
        "image": pb.ImageSpec(),
    }[field]
    config = sandbox_config(pb, "badbox")
    sandbox = (await cri("RunPodSandbox", config=config)).pod_sandbox_id
    with pytest.raises(GRPCError) as error:
        await cri(
            "CreateContainer", pod_sandbox_id=sandbox, sandbox_config=config,
            config=container_config(pb, "true", **{field: wrong}),
        )  # fmt: skip
    assert (error.value.status, words in error.value.message) == (Status.INVALID_ARGUMENT, True)
    assert not (await cri("ListContainers")).containers


async def test_a_command_that_is_not_there_and_a_second_of_one_name(cri) -> None:
    config = sandbox_config(cri.pb, "twice")
    sandbox = (await cri("RunPodSandbox", config=config)).pod_sandbox_id
    with pytest.raises(GRPCError) as error:
        await cri("RunPodSandbox", config=config)
    assert error.value.status is Status.ALREADY_EXISTS
    broken = container_config(cri.pb, "", command=["/nosuch"])
    fields = {"pod_sandbox_id": sandbox, "config": broken, "sandbox_config": config}
    container = (await cri("CreateContainer", **fields)).container_id
    with pytest.raises(GRPCError) as error:
        await cri("CreateContainer", **fields)
    assert error.value.status is Status.ALREADY_EXISTS
    with pytest.raises(GRPCError) as error:
        await cri("StartContainer", container_id=container)
    assert "/nosuch" in error.value.message
    ended = await state(cri, container)
    assert (ended.state, ended.exit_code, ended.reason) == (
        cri.pb.CONTAINER_EXITED,
        128,
        "StartError",
    )


async def test_what_is_not_implemented_says_so(cri) -> None:
    for name in (*RUNTIME_MISSING, *IMAGE_MISSING):
        with pytest.raises(GRPCError) as error:
            await cri.raw(name)
        assert error.value.status is Status.UNIMPLEMENTED, name


def test_only_root_reaches_the_socket(server) -> None:
    mode = os.stat(server.instance.cri_socket).st_mode & 0o777
    assert mode == 0o600
    done = subprocess.run(
        ["setpriv", "--reuid=65534", "--clear-groups", "ls", server.instance.run_dir],
        capture_output=True, check=False,
    )  # fmt: skip
    assert done.returncode
